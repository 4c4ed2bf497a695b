"""A real server whose wall clock a test moves, through a small library that is preloaded (clock_shim.c)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mira_queue.ledger.embedded.process import find_binary
from tests.support.waiting import wait_until

SOURCE = Path(__file__).with_suffix(".c")


class ShiftedServer:
    """The server. `shift` moves its clock, relative to that of the machine."""

    def __init__(self, url: str, offset: Path) -> None:
        self.url = url
        self._offset = offset

    def shift(self, seconds: int) -> None:
        part = self._offset.with_suffix(".part")
        part.write_text(str(seconds))
        part.replace(self._offset)


@contextmanager
def shifted_server(folder: Path) -> Iterator[ShiftedServer]:
    """Start a server in a directory whose path is short. Skip the test if there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the library that moves a server's clock")
    folder.mkdir()
    library, offset, socket = folder / "shim.so", folder / "offset", folder / "s"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    server = ShiftedServer(f"redis+socket://{socket}", offset)
    server.shift(0)
    process = subprocess.Popen(
        [find_binary(), "--port", "0", "--unixsocket", socket, "--dir", folder, "--save", ""],
        env={**os.environ, "LD_PRELOAD": str(library), "CLOCK_SHIM": str(offset)},
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until("the server listens", socket.exists)
        yield server
    finally:
        process.kill()
        process.wait()
