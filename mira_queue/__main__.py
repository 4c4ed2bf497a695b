"""The command `mira-queue` from its first moment on; also as `python -m mira_queue`."""

from __future__ import annotations

import sys

EXIT_INTERRUPTED = 130


def main() -> None:
    """The console script. It lives here since whatever is imported from `producer` imports all of it first."""
    try:
        # Not at the top: loading the command takes the most of a second, and a Ctrl-C in it is no traceback.
        from producer.cli import main as command  # noqa: PLC0415

        command()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
