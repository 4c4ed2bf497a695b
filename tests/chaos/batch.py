"""`python -m tests.chaos.batch INPUT OUTPUT ERRORS`: run a file as `mira-queue run` does, on the driver's workers."""

from __future__ import annotations

import sys
from pathlib import Path

from mira_producer.cli.conclusion import EXIT_ANSWERED, EXIT_SOME_FAILED
from mira_producer.cli.foreground import run
from rich.console import Console

from mira_queue import load_settings
from mira_queue.contract.batch import BatchOptions
from tests.chaos.child import end_with_driver


def main(arguments: list[str]) -> int:
    end_with_driver()
    source, output, errors = map(Path, arguments)
    result = run(source, output, errors, BatchOptions(), load_settings(), Console(stderr=True), workers=0)
    code = int(result["exit_code"])
    # An exception also exits with code 1. Code 0 means that every line is finished, successfully or not.
    return 0 if code in (EXIT_ANSWERED, EXIT_SOME_FAILED) else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
