"""`mira-queue` as a process: Ctrl-C while it loads, and readers that exit before it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli_process import COMMAND
from tests.support.queue_process import environment

# Ctrl-C exactly when the commands are loaded.
INTERRUPTED = """
import importlib, os, signal
from mira_producer.cli import __main__
importlib.import_module = lambda name: os.kill(os.getpid(), signal.SIGINT)
__main__.main()
"""


def shell(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """A Bash script that calls the command as $M."""
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**environment(state_dir=folder / "state"), "M": COMMAND},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_ctrl_c_while_the_commands_load_is_one_line() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (130, "", 1)
    assert "interrupted" in done.stderr


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ('"$M" config | true; exit "${PIPESTATUS[0]}"', 0),
        ('"$M" nonsense 2>&1 | true; exit "${PIPESTATUS[0]}"', 2),
        ('"$M" config >&-', 0),
        ('"$M" config > /dev/full', 1),
    ],
)
def test_a_reader_that_exits_first_changes_no_exit_code(tmp_path: Path, script: str, code: int) -> None:
    done = shell(tmp_path, script)

    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == (code == 1)
