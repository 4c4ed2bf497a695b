"""`python -m mira_queue.simulator`: see --help."""

from __future__ import annotations

import signal
import sys

from mira_queue.simulator.options import parse_options
from mira_queue.simulator.service import run_simulator


def main() -> int:
    options, config = parse_options(sys.argv[1:])
    try:
        run_simulator(
            config,
            options.host,
            options.port,
            on_ready=lambda url: print(f"ready {url}", flush=True),
            parent_pipe=options.parent_pipe,
        )
    except OSError as error:
        print(f"simulator: cannot listen on {options.host}:{options.port}: {error.strerror}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # a second signal while the interpreter exits would change the exit code
    return 0


if __name__ == "__main__":
    sys.exit(main())
