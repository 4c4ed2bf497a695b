"""Time of `mira-queue run` with unknown limits, compared with the ideal: `python -m bench.pacing.first_run`.

The run starts as a new user starts it: no configuration, no server, no worker, no learned limits. The simulator has the
limits of `--simulate --simulator-options '--limits mira'`: 60 per 60 s, 3 in flight, no latency. The ideal client sends
each call at the first moment at which the account admits it.

With --latency 0.2, one call is rate-limited as the fourth in flight before the rate is known. It counts toward the
rate, so the 300th line does not fit into the fifth window. Any client without configured limits waits for the sixth.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.bulk.running import run_file
from bench.bulk.stage import body
from tests.support.simulator_process import SimulatorProcess

RATE, WINDOW_S, IN_FLIGHT = 60, 60.0, 3
MOST = 1.1


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.pacing.first_run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--lines", type=int, default=300)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="scale of Mira's windows: 0.1 is 60 per 6 s (default: 1)"
    )
    parser.add_argument("--latency", type=float, default=0.0, help="latency of the API in seconds (default: 0)")
    chosen = parser.parse_args()
    # Whole windows, and then the remaining lines, three in flight.
    windows, last = divmod(chosen.lines - 1, RATE)
    ideal_s = windows * WINDOW_S * chosen.scale + -(-(last + 1) // IN_FLIGHT) * chosen.latency
    with TemporaryDirectory(prefix="mq-") as folder:
        path = Path(folder) / "lines.jsonl"
        path.write_text("".join(json.dumps(body(number)) + "\n" for number in range(chosen.lines)), encoding="utf-8")
        limits = ["--limits", "mira", "--scale", f"{chosen.scale:g}"]
        with SimulatorProcess.start(*limits, latency_s=chosen.latency, log_calls=True) as simulator:
            ran = run_file(path, simulator.url)
            calls, stats = simulator.calls(), simulator.stats()
    came = sorted(call["came_s"] for call in calls)
    answered_s = max(call["left_s"] for call in calls if call["left_s"] is not None)
    refused = [f"{call['word']} after {call['came_s'] - came[0]:.1f} s" for call in calls if call["left_s"] is None]
    share = ran.took_s / ideal_s
    print(
        f"{chosen.lines} lines: {ran.took_s:.1f} s from the command to its end, {answered_s - came[0]:.1f} s of them "
        f"from the first call to the last answer; ideal {ideal_s:.1f} s\n"
        f"{share:.3f} times the ideal (target: {MOST}) {'pass' if share <= MOST else 'MISSED'}; "
        f"refused: {', '.join(refused) or 'none'}; {stats['early']} early"
    )
    return int(share > MOST or stats["early"] > 0)


if __name__ == "__main__":
    sys.exit(main())
