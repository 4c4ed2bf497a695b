"""Whatever goes wrong is a line on standard error and an exit code; a traceback comes only when it is asked for."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from mira_producer.cli import status

from tests.support.cli_process import Call, call_in_process


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The console script, in this process and an empty folder: `call("status", "x")`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIRA_STATE_DIR", str(tmp_path / "state"))
    return call_in_process(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["enqueue"], "give one of the two"),
        (["enqueue", "hello", "--request", "-"], "give one of the two"),
        (["enqueue", " "], "PROMPT: is empty"),
        (["enqueue", "--field", "temperature", "hello"], "expected NAME=JSON"),
        (["enqueue", "--field", "stop=END", "hello"], "text needs quotes: --field 'stop=\"END\"'"),
        (["enqueue", "--field", "model=x", "hello"], "--model"),
        (["enqueue", "--field", "countdown=60", "hello"], "countdown: not a field"),
        (["enqueue", "--request", "missing.json"], "missing.json: No such file"),
        (["enqueue", "--request", "-"], "- is not JSON"),
        (["enqueue", "--request", "-", "--system", "x"], "--system"),
        (["enqueue", "--key", "", "hello"], "--key: is empty"),
        (["enqueue", "--timeout", "-1", "hello"], "--timeout"),
        (["status"], "Missing argument"),
        (["worker", "--processes", "-1"], "--processes"),
        (["worker", "--processes", "0", "--single-processes", "0"], "--processes, --single-processes: "),
        (["worker", "--log-level", "loud"], "MIRA_LOG_LEVEL: "),
        (["worker"], "MIRA_API_KEY is not set"),
        (["nonsense"], "No such command"),
        (["status", "--nonsense", "x"], "No such option"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str], said: str, call: Call) -> None:
    code, out, err = call(*arguments, stdin="no { json")

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("mira-queue: ")
    assert said in err


def test_a_request_that_the_api_would_refuse_names_the_field(call: Call) -> None:
    assert call("enqueue", "--field", "temperature=true", "hello") == (
        2,
        "",
        "mira-queue: temperature: expected a number, got a boolean\n",
    )


def test_several_wrong_settings_are_a_line_each(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRA_CONCURRENCY", "0")
    monkeypatch.setenv("MIRA_LEASE", "soon")
    code, out, err = call("config")

    assert (code, out) == (2, "")
    assert [line.split()[1] for line in err.splitlines()] == ["MIRA_CONCURRENCY:", "MIRA_LEASE:"]


def test_a_state_directory_that_cannot_be_is_one_line(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").write_text("")
    monkeypatch.setenv("MIRA_STATE_DIR", "file/state")
    code, _, err = call("status", "x")

    assert (code, err.count("\n")) == (1, 1)
    assert "set MIRA_STATE_DIR" in err


def test_an_error_of_ours_is_one_line_and_with_debug_says_where(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr(status, "Queues", broken)
    code, out, err = call("status", "x")
    _, _, told = call("--debug", "status", "x")

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "unexpected ZeroDivisionError: first line second line" in err
    assert "Traceback" in told


def test_ctrl_c_is_130_and_says_nothing(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(status, "Queues", interrupted)

    assert call("status", "x") == (130, "", "")


def test_config_shows_every_setting_with_its_source_and_no_secret(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("MIRA_MODEL=from-file\n")
    monkeypatch.setenv("MIRA_REDIS_URL", "redis://:hush@127.0.0.1:1/0")
    monkeypatch.setenv("MIRA_API_KEY", "sk-mira-" + "0" * 36 + "beef")
    _, text, _ = call("config", "--json")
    code, table, _ = call("config")
    settings = {entry["variable"]: entry for entry in orjson.loads(text)}

    assert code == 0
    assert (settings["MIRA_MODEL"]["value"], settings["MIRA_MODEL"]["source"]) == ("from-file", ".env")
    assert settings["MIRA_API_KEY"]["value"] == "sk-mira-…beef"
    assert settings["MIRA_REDIS_URL"]["value"] == "redis://:***@127.0.0.1:1/0"
    assert settings["MIRA_GRACE"]["source"] == "default"
    assert "hush" not in text + table
    assert "MIRA_MODEL\tfrom-file\t.env\t" in table


def test_the_version_is_printed(call: Call) -> None:
    code, out, _ = call("--version")

    assert (code, out.split()[0]) == (0, "mira-queue")


def test_without_a_command_the_help_is_printed(call: Call) -> None:
    code, out, err = call()

    assert (code, err) == (0, "")
    assert "Examples:" in out
