"""Measure the server time of a request for permits: `python -m bench.pacing.server_time`.

The server's SLOWLOG has the duration of every command in microseconds. A request is one run of the script
`pace/acquire`, for one job or for several, and the runs of `pace/release` that it carried.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from typing import Any

from bench.bulk.contenders import Ours
from bench.bulk.stage import Stage
from mira_queue.ledger.script_runner import script_hash

JOBS, WARM_UP_SHARE = 2000, 0.1
MAX_MS = 0.15
SCRIPTS = ("acquire", "release", "record_rate_limit", "record_fault", "open_breaker", "store_estimate", "renew")
# Name, configuration of the API, worker processes, slots per process.
ACCOUNTS: tuple[tuple[str, dict[str, Any], int, int], ...] = (
    ("no limits, no latency", {"latency_s": 0.0}, 1, 8),
    (
        "3,000 in 6 s, 30 in flight",
        {
            "latency_s": 0.02,
            "rate": 3000,
            "rate_window_s": 6.0,
            "concurrency": 30,
            "concurrency_retry_after_s": 0.5,
        },
        2,
        20,
    ),
)


def measured(api: dict[str, Any], processes: int, slots: int, jobs: int) -> dict[str, list[int]]:
    """Return the microseconds of each run, by script."""
    names = {script_hash(f"pace/{script}"): script for script in SCRIPTS}
    with Stage(**api) as stage:
        ours = Ours(stage, slots, processes)
        stage.wait_for_keys(ours.enqueue(int(jobs * WARM_UP_SHARE)))
        stage.redis.config_set("slowlog-max-len", 50 * jobs)
        stage.redis.config_set("slowlog-log-slower-than", 0)
        stage.wait_for_keys(ours.enqueue(jobs))
        stage.redis.config_set("slowlog-log-slower-than", -1)
        took_us: dict[str, list[int]] = defaultdict(list)
        for entry in stage.redis.slowlog_get(-1):
            words = entry["command"].split(b" ", 2)
            if words[0].upper() == b"EVALSHA" and (script := names.get(words[1].decode())):
                took_us[script].append(int(entry["duration"]))
    return took_us


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.pacing.server_time", description=__doc__)
    parser.add_argument("--jobs", type=int, default=JOBS)
    chosen = parser.parse_args()
    is_missed = False
    for name, api, processes, slots in ACCOUNTS:
        took_us = measured(api, processes, slots, chosen.jobs)
        print(f"{name}; {processes} process{'es' if processes > 1 else ''}, {slots} slots: {chosen.jobs} jobs")
        for script, each in sorted(took_us.items(), key=lambda item: SCRIPTS.index(item[0])):
            each.sort()
            print(
                f"  {script:17} {len(each):6} times, median {statistics.median(each) / 1000:.3f} ms, "
                f"mean {statistics.mean(each) / 1000:.3f} ms, 99% within {each[int(len(each) * 0.99)] / 1000:.3f} ms"
            )
        # Medians, because a busy machine interrupts a few commands, and the log includes that time.
        asks, carried = took_us["acquire"], took_us.get("release", [])
        found_ms = (statistics.median(asks) + statistics.median(carried or [0]) * len(carried) / len(asks)) / 1000
        is_missed |= found_ms > MAX_MS
        print(
            f"  one request for permits, with the releases it carried: {found_ms:.3f} ms (target: {MAX_MS} ms) "
            f"{'pass' if found_ms <= MAX_MS else 'MISSED'}; requests per job: {len(asks) / chosen.jobs:.2f}"
        )
    return int(is_missed)


if __name__ == "__main__":
    sys.exit(main())
