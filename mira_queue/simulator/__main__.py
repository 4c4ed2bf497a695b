"""`python -m mira_queue.simulator`: see --help."""

from __future__ import annotations

import os
import sys

from mira_queue.simulator.options import OptionError, build_parser, config_from
from mira_queue.simulator.service import run_simulator

# How the command that starts this process is called, for its usage line.
PROG_VARIABLE = "MIRA_SIMULATOR_PROG"


def main() -> int:
    parser = build_parser(os.environ.get(PROG_VARIABLE))
    options = parser.parse_args()
    try:
        config = config_from(options)
    except OptionError as error:
        parser.error(str(error))
    try:
        run_simulator(
            config,
            options.host,
            options.port,
            on_ready=lambda url: print(f"ready {url}", flush=True),
            parent_pipe=options.parent_pipe,
        )
    except OSError as error:
        print(f"simulator: cannot listen at {options.host}:{options.port}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
