"""Command line: `python -m tests.chaos.gateway` or `make chaos-gateway`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from tests.chaos.gateway.driver import run_gateway_chaos
from tests.chaos.gateway.options import GatewayOptions
from tests.chaos.scorecard import table

DEFAULT = GatewayOptions()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.gateway",
        description="Kill the gateway, its workers, the supervisor, and the server at random moments. Then check that "
        "no object is lost or duplicated, and that each webhook arrived. The exit code is 1 if a count is too high.",
    )
    parser.add_argument("--creates", type=int, default=DEFAULT.creates, help="responses, completions, and jobs")
    parser.add_argument("--batches", type=int, default=DEFAULT.batches)
    parser.add_argument("--lines", type=int, default=DEFAULT.lines, help="lines of each batch")
    parser.add_argument("--faults", type=int, default=DEFAULT.faults, help="faults of all kinds, without cuts")
    parser.add_argument("--seed", type=int, default=DEFAULT.seed)
    parser.add_argument("--minutes", type=float, default=DEFAULT.minutes, help="time over which creates are spread")
    parser.add_argument("--workers", type=int, default=DEFAULT.workers)
    parser.add_argument("--json", type=Path, help="write the scorecard to this file")
    parser.add_argument("--keep", type=Path, help="new directory that keeps logs and files")
    words = vars(parser.parse_args())
    json_path, keep = words.pop("json"), words.pop("keep")
    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    score = run_gateway_chaos(GatewayOptions(**words), say, keep)
    Console().print(table([score]))
    for line in score.remarks:
        say(line)
    if json_path is not None:
        json_path.write_text(json.dumps([score.to_dict()], indent=1))
    return 0 if score.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
