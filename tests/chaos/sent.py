"""Calls that must not have been sent: to another account than the job's, or while the job's batch was paused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.chaos import workload
from tests.chaos.accounting import Remarks
from tests.chaos.options import ChaosOptions
from tests.chaos.pauses import Pause

# After a pause is acknowledged, a call may start for this long.
MAX_START_AFTER_PAUSE_S = 1.0

#: When each content came, in seconds of the simulator's clock, and from which accounts.
Arrivals = Mapping[str, Mapping[str, Any]]


def sent_elsewhere(
    options: ChaosOptions, arrivals: Sequence[Arrivals], senders: Sequence[str], remarks: Remarks
) -> int:
    """Count the calls that reached another account's API, or had another account's key.

    `arrivals` has one entry for each account, in order. `senders` are the names of their keys.
    """
    found = 0
    for account, contents in enumerate(arrivals):
        for content, arrived in contents.items():
            expected = workload.account_of(options, workload.number_of(content))
            if expected != account or arrived["accounts"] != [senders[account]]:
                found += len(arrived["came_s"])
                remarks.add("sent to another account", f"{content} of account {expected}, to {account}: {arrived}")
    return found


def sent_while_paused(
    options: ChaosOptions,
    pauses: Sequence[Pause],
    arrivals: Sequence[Arrivals],
    clock_offsets_s: Sequence[float],
    remarks: Remarks,
) -> int:
    """Count the calls that started later than a second after their batch was paused.

    `clock_offsets_s` are the simulators' clocks minus the monotonic clock.
    """
    found = 0
    batches = workload.batch_numbers(options)
    for pause in pauses:
        account = workload.batch_account(options, pause.batch)
        begins_s = pause.begins_s + MAX_START_AFTER_PAUSE_S + clock_offsets_s[account]
        ends_s = pause.ends_s + clock_offsets_s[account]
        for number in batches[pause.batch]:
            content = workload.job(options.seed, number).content
            for came_s in arrivals[account].get(content, {}).get("came_s", ()):
                if begins_s < came_s < ends_s:
                    found += 1
                    late_s = came_s - begins_s + MAX_START_AFTER_PAUSE_S
                    remarks.add("sent after a pause", f"{content} of batch {pause.batch}, {late_s:.2f} s after it")
    return found
