"""Entry point of the `mira-queue` command: sets up signals and standard streams, then loads the commands.

Loading takes half a second. This module imports none of ours, so that Ctrl-C in that time is not a traceback.
"""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from typing import Any, TextIO


class StandardStream(io.FileIO):
    """Standard output or error, whose reader may exit first, as `head` does.

    What is written after that is dropped. The command continues, and its exit code is its own.
    """

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            # Otherwise Python's last flush fails too, and replaces the exit code.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if not isinstance(error, BrokenPipeError):
                raise
            return memoryview(data).nbytes


def main() -> None:
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default:
        signal.signal(signal.SIGINT, _exit_at_once)
    sys.stdout, sys.stderr = _stream(sys.stdout, 1), _stream(sys.stderr, 2)
    app = importlib.import_module("mira_producer.cli.app")
    if is_default:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    app.main()


def _stream(stream: TextIO | None, number: int) -> TextIO:
    """Return the stream for any text in any encoding; a closed one (`>&-`) drops what is written."""
    if stream is None:
        return open(os.devnull, "w")
    file = io.BufferedWriter(StandardStream(number, "w", closefd=False))
    is_terminal = stream.isatty()
    return io.TextIOWrapper(file, stream.encoding, "backslashreplace", line_buffering=is_terminal or number == 2)


def _exit_at_once(*_: object) -> None:
    os.write(2, b"mira-queue: interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
