"""Accounts' pace in the ledger: calls acquire and release permits, and the estimate of the limits is stored.

Nothing here decides. Scripts count and return numbers, and the worker's policy turns them into an estimate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Literal, cast

import orjson
import redis
from redis.client import PubSub

from mira_queue.contract import names
from mira_queue.contract.call_times import CallTimes, fields_of
from mira_queue.contract.known_fields import known_fields
from mira_queue.contract.outcome import Failure
from mira_queue.contract.pace import (
    ConfiguredLimits,
    Estimate,
    FaultStreak,
    LimitChange,
    PaceState,
    Permit,
    RateLimitHit,
    Reason,
    ReleasedPermit,
    Verdict,
)
from mira_queue.ledger.records import Lease
from mira_queue.ledger.script_runner import ScriptRunner, decode, in_ms

# Jobs of a rejected account get its error without a call for this time. Then one call checks.
REJECTED_FOR = timedelta(seconds=10)


def call_name(lease: Lease) -> str:
    """Return the name of the call that runs under this lease in the account's records."""
    return f"{lease.job_id}:{lease.epoch}"


class WakeUps:
    """Subscription of a process to its wake-ups and to holds. It connects, and reconnects, automatically."""

    def __init__(self, client: redis.Redis, channels: Sequence[str]) -> None:
        self._pubsub: PubSub = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._channels = channels

    def wait(self, timeout: timedelta) -> bool:
        """Return True at a wake-up, or False after the timeout."""
        if not self._pubsub.subscribed:
            self._pubsub.subscribe(*self._channels)
        return self._pubsub.get_message(timeout=timeout.total_seconds()) is not None

    def close(self) -> None:
        self._pubsub.close()


class Pacing(ScriptRunner):
    """Operations of the pacer. The clock is the server's; tests with their own clock pass `now_ms`."""

    def acquire_permits(
        self,
        account: str,
        process: str,
        jobs: Sequence[tuple[Lease, int]],
        released: Sequence[ReleasedPermit] = (),
        *,
        configured: ConfiguredLimits,
        call_lease: timedelta,
        probe_lease: timedelta,
        ask_again: timedelta,
        weight: float = 1.0,
        now_ms: int | None = None,
    ) -> tuple[PaceState, list[Permit]]:
        """Request permits for these jobs, each with its estimated tokens; the same round trip releases others.

        `weight` is how much a call counts in the account's turns. A process with a weight below 1 gets more turns.
        After the verdict "go" or "probe", a crash leaves a call that may have been billed.
        """
        calls: list[tuple[str, Sequence[str], Sequence[Any]]] = []
        if released:
            calls.append(_release_call(account, released, now_ms))
        keys = [
            names.pace_key(account),
            names.sent_key(account),
            names.tokens_key(account),
            names.in_flight_key(account),
            names.turns_key(account),
            names.turn_ends_key(account),
            names.HOLDS,
            names.rejections_key(account),
            *(names.job_key(lease.job_id) for lease, _ in jobs),
        ]
        args = [
            _clock(now_ms),
            process,
            names.wake_channel(account),
            in_ms(call_lease),
            in_ms(probe_lease),
            in_ms(ask_again),
            *configured.ceilings,
            weight,
            names.HOLDS_CHANNEL,
            *(value for lease, tokens in jobs for value in (lease.job_id, lease.epoch, tokens)),
        ]
        state, verdicts = self._run_in_order([*calls, ("pace/acquire", keys, args)])[-1]
        now, reason, *numbers = state
        return PaceState(now, cast(Reason, decode(reason)), *numbers), [_permit(*verdict) for verdict in verdicts]

    def release_permits(self, account: str, released: Sequence[ReleasedPermit]) -> bool:
        """Release the permits of calls that were not rate-limited. Return True if the account works again."""
        return bool(self._run(*_release_call(account, released)))

    def record_rejection(
        self, account: str, job_id: str, released: ReleasedPermit, error: Failure, *, of_model: bool
    ) -> None:
        """Record that the API has rejected the account, or the job's model, and release the permit of the call.

        For REJECTED_FOR, other calls get the error without being sent. Then one of them is sent to check.
        """
        keys = [names.job_key(job_id), names.rejections_key(account), names.HOLDS, names.turns_key(account)]
        args = [
            int(of_model),
            orjson.dumps(error.to_dict()),
            in_ms(REJECTED_FOR),
            names.HOLDS_CHANNEL,
            names.wake_channel(account),
        ]
        # The permit last: the call that gets it next must find the rejection.
        self._run_in_order([("pace/record_rejection", keys, args), _release_call(account, [released])])

    def probe_now(self, account: str, *, ends_waits_over: timedelta = names.CALL_HISTORY) -> None:
        """Let the next call of a rejected account, or of one in an outage, start immediately, to check it.

        A long Retry-After (a quota) is cut short, too. A shorter one (a rate limit) is honored.
        """
        keys = [names.pace_key(account), names.rejections_key(account), names.turns_key(account)]
        self._run("pace/probe_now", keys, [names.wake_channel(account), in_ms(ends_waits_over)])

    def record_rate_limit(
        self,
        account: str,
        call: str,
        permit: Permit,
        retry_after: timedelta,
        now_ms: int | None = None,
        times: CallTimes | None = None,
    ) -> tuple[int, Estimate, RateLimitHit]:
        """Release the permit of a rate-limited call. Return the estimate, after its version, and what is on record."""
        retry_after_ms = in_ms(retry_after)
        version, estimate, now, *numbers = self._run(
            "pace/record_rate_limit",
            [
                names.pace_key(account),
                names.sent_key(account),
                names.in_flight_key(account),
                names.call_times_key(account),
            ],
            [_clock(now_ms), call, permit.at_ms, retry_after_ms, *fields_of([times])],
        )
        hit = RateLimitHit(now, permit.at_ms, retry_after_ms, *numbers)
        return int(version), Estimate.from_json(estimate), hit

    def record_fault(
        self,
        account: str,
        lease: Lease,
        permit: Permit,
        now_ms: int | None = None,
        *,
        message: str = "",
        times: CallTimes | None = None,
    ) -> FaultStreak:
        """Release the permit of a call that ended in a server fault or a broken connection. Store the message."""
        jobs, in_flight, lasted_ms, *flags = self._run(
            "pace/record_fault",
            [
                names.pace_key(account),
                names.in_flight_key(account),
                names.turns_key(account),
                names.faults_key(account),
                names.call_times_key(account),
            ],
            [
                _clock(now_ms),
                call_name(lease),
                lease.job_id,
                permit.at_ms,
                names.wake_channel(account),
                message,
                *fields_of([times]),
            ],
        )
        return FaultStreak(jobs, in_flight, lasted_ms, *map(bool, flags))

    def open_breaker(
        self,
        account: str,
        wait: timedelta,
        reason: Literal["limit", "faults"] = "limit",
        now_ms: int | None = None,
        *,
        permit: Permit | None = None,
        message: str = "",
    ) -> timedelta:
        """Open the account's circuit breaker for at least `wait`. Return how long it stays open.

        `message` is what the server said. It is shown as long as calls wait.

        Pass the `permit` of a call that had a fault. Return zero if the breaker has opened since that call started.
        """
        args = [_clock(now_ms), in_ms(wait), reason, permit.at_ms if permit else "", message]
        open_ms = self._run("pace/open_breaker", [names.pace_key(account)], args)
        return timedelta(milliseconds=open_ms)

    def abandon_permit(self, account: str, job_id: str, epoch: int) -> bool:
        """Release the permit of a call that will bring no response. Return True if it was the probe.

        `epoch` is the lease's under which the call was made: the job's next call keeps its permit.
        """
        keys = [names.pace_key(account), names.in_flight_key(account)]
        return bool(self._run("pace/abandon", keys, [f"{job_id}:{epoch}"]))

    def confirm_permit(self, account: str, lease: Lease, permit: Permit) -> Permit:
        """Return the permit if its call may still start. Otherwise, release it, and return why the call must not start.

        Nothing of the call is recorded then: it is not one that may have been billed.
        """
        keys = [
            names.pace_key(account),
            names.in_flight_key(account),
            names.HOLDS,
            names.rejections_key(account),
            names.job_key(lease.job_id),
        ]
        verdict = self._run("pace/confirm", keys, [lease.job_id, lease.epoch, names.HOLDS_CHANNEL])
        return permit if verdict == [b"go"] else _permit(*verdict)

    def renew_permits(self, account: str, calls: Iterable[str], call_lease: timedelta) -> None:
        """Keep the permits of calls that are still in flight."""
        self._run("pace/renew", [names.in_flight_key(account)], [in_ms(call_lease), *calls])

    def estimate(self, account: str) -> tuple[int, Estimate]:
        """Return the version of the account's estimate, and the estimate."""
        version, estimate = cast(
            "list[bytes | None]", self._client.hmget(names.pace_key(account), ["version", "estimate"])
        )
        return int(version or 0), Estimate.from_json(estimate or b"")

    def store_estimate(self, account: str, version: int, estimate: Estimate) -> int:
        """Store an estimate that follows from this version. Return the new version, or 0 if there is a newer one."""
        rate, in_flight = estimate.rate, estimate.in_flight
        args = [
            version,
            estimate.to_json(),
            rate.allowed if rate else "",
            rate.window_ms + estimate.margin_ms if rate else 0,
            in_flight.allowed if in_flight else estimate.start,
            estimate.uncounted,
            estimate.uncounted_until_ms,
            _limits_text(estimate),
        ]
        keys = [names.pace_key(account), names.limit_changes_key(account)]
        return int(self._run("pace/store_estimate", keys, args))

    def limit_changes(self, account: str) -> list[LimitChange]:
        """Return the last changes of the account's learned limits, the oldest first: at most MAX_LIMIT_CHANGES."""
        found: Any = self._client.lrange(names.limit_changes_key(account), 0, -1)
        return [LimitChange(*map(int, entry.split())) for entry in found]

    def jobs_left(self, account: str) -> int:
        """Return how many jobs of the account wait for a worker or have one, without those that wait after a fault."""
        pipeline: Any = self._client.pipeline(transaction=False)
        for key in (names.leased_key(account), *(names.queued_key(account, lane) for lane in names.Lane)):
            pipeline.zcard(key)
        return sum(pipeline.execute())

    def wake_ups(self, account: str, process: str) -> WakeUps:
        """Return the wake-ups that other processes send to this one when it may acquire a permit."""
        return WakeUps(self._client, [names.wake_channel(account, process), names.HOLDS_CHANNEL])


def _permit(verdict: bytes, *details: Any) -> Permit:
    if verdict == b"rejected":
        return Permit("rejected", error=Failure(**known_fields(Failure, orjson.loads(details[0]))))
    return Permit(cast(Verdict, decode(verdict)), *details)


def _limits_text(estimate: Estimate) -> str:
    """Return the learned limits as an entry of their changes; 0 means that one is not known."""
    rate, in_flight = estimate.rate, estimate.in_flight
    of_rate = f"{rate.max_calls} {rate.window_ms}" if rate else "0 0"
    return f"{of_rate} {in_flight.max_calls if in_flight else 0}"


def _clock(now_ms: int | None) -> int | str:
    return "" if now_ms is None else now_ms


def _release_call(
    account: str, released: Sequence[ReleasedPermit], now_ms: int | None = None
) -> tuple[str, list[str], list[Any]]:
    keys = [
        names.pace_key(account),
        names.sent_key(account),
        names.in_flight_key(account),
        names.turns_key(account),
        names.rejections_key(account),
        names.call_times_key(account),
    ]
    calls = [
        value
        for call in released
        for value in (
            call.member,
            call.permit.at_ms,
            call.permit.in_flight,
            call.permit.in_window,
            call.tokens,
            "" if call.remaining is None else call.remaining,
            call.remaining_ms,
        )
    ]
    args = [_clock(now_ms), names.wake_channel(account), len(released), *calls]
    return "pace/release", keys, args + fields_of(call.times for call in released)
