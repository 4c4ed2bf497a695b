"""`mira-queue` for tests: as a process, run to its end or ended by signals; or, for many calls, in this process."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mira_producer.cli.app import main

from tests.support.queue_process import QUICK, environment

COMMAND = str(Path(sysconfig.get_path("scripts")) / "mira-queue")
PATIENCE_S = 60.0

# A command in this process: its arguments, and its standard input as `stdin`; exit code, standard output and error.
Call = Callable[..., tuple[int, str, str]]


class Ended(subprocess.CompletedProcess[str]):
    """What a command left: `code`, `out`, `err`."""

    @property
    def code(self) -> int:
        return self.returncode

    @property
    def out(self) -> str:
        return self.stdout

    @property
    def err(self) -> str:
        return self.stderr

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


class Cli:
    """`mira-queue` with settings of its own, in a working directory of its own: `cli("status", job_id).code`."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.settings = settings

    def __call__(self, *arguments: str, stdin: str = "", **settings: Any) -> Ended:
        """Runs to its end. `settings` come on top; None unsets one."""
        done = subprocess.run(
            [COMMAND, *arguments],
            cwd=self.folder,
            env=self._environment(settings),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        # Users never see a traceback.
        assert "Traceback" not in done.stderr, done.stderr
        return Ended(done.args, done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, log: Path, **settings: Any) -> subprocess.Popen[str]:
        """Starts it; standard output is a pipe, standard error goes to `log`."""
        with log.open("wb") as stream:
            return subprocess.Popen(
                [COMMAND, *arguments],
                cwd=self.folder,
                env=self._environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            )

    def here(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **settings: Any) -> Call:
        """For many calls: it in this process, which stays as it is set here until the test ends."""
        monkeypatch.chdir(self.folder)
        for name, value in self._environment(settings).items():
            monkeypatch.setenv(name, value)
        return call_in_process(monkeypatch, capsys)

    def _environment(self, settings: dict[str, Any]) -> dict[str, str]:
        return environment(**{**QUICK, **self.settings, **settings})


def call_in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The console script without the most of a second that Python needs to start; settings are the environment's."""

    def call(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mira-queue", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capsys.readouterr()

    return call
