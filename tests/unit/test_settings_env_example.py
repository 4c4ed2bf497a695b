"""`.env.example` and the settings say the same."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from mira_producer.cli.config import shown

from mira_queue.contract.settings import Settings, variable
from mira_queue.runtime.settings_loader import load_settings

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_stands_there_with_its_meaning_and_default(name: str) -> None:
    field = Settings.model_fields[name]
    unit = " In seconds." if isinstance(field.default, timedelta) else ""

    assert f"\n# {field.description}{unit}\n# {variable(name)}={shown(field.default) or ''}\n" in EXAMPLE


def test_nothing_is_set_and_nothing_else_of_our_name_is_there() -> None:
    lines = [line for line in EXAMPLE.splitlines() if line and not line.startswith("# ")]
    named = {line.removeprefix("# ").partition("=")[0] for line in EXAMPLE.splitlines() if line.startswith("# MIRA_")}

    assert lines == []
    assert named == {variable(name) for name in Settings.model_fields}


def test_with_every_mark_taken_away_it_is_a_valid_file_of_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "".join(f"{line.removeprefix('# ')}\n" for line in EXAMPLE.splitlines() if line.startswith("# MIRA_"))
    (tmp_path / ".env").write_text(text, encoding="utf-8")

    assert load_settings() == Settings(_env_file=None)
