"""Start of the supervisor process: it serves commands of other working directories, too."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from mira_producer.batches.launch import ensure_supervisor

from mira_queue.runtime.settings_loader import load_settings


@pytest.mark.parametrize("setting", [{}, {"accounts_file": Path("accounts.toml")}])
def test_the_supervisor_gets_the_absolute_path_of_the_accounts_file(
    setting: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("accounts.toml").touch()
    started: list[dict[str, str]] = []

    class Process:
        def __init__(self, *_: object, env: dict[str, str], **__: object) -> None:
            started.append(env)

        def wait(self) -> int:
            return 0

    monkeypatch.setattr(subprocess, "Popen", Process)

    ensure_supervisor(load_settings(state_dir=tmp_path / "state", **setting))

    assert [env["MIRA_ACCOUNTS_FILE"] for env in started] == [str(tmp_path / "accounts.toml")]
