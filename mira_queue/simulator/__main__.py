"""`python -m mira_queue.simulator`: see --help."""

from __future__ import annotations

import argparse
import signal
import sys

from mira_queue.simulator.options import OptionError, build_parser, config_from
from mira_queue.simulator.service import run_simulator


def main() -> int:
    parser = build_parser(_called_as(sys.argv[1:]))
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
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the interpreter is ending: a second signal must not spoil the exit code
    return 0


def _called_as(arguments: list[str]) -> str | None:
    """`--prog`: what the command that starts this process is called, for the usage line."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--prog")
    name: str | None = first.parse_known_args(arguments)[0].prog
    return name


if __name__ == "__main__":
    sys.exit(main())
