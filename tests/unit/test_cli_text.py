"""What the command line prints: secrets masked, help that teaches."""

from __future__ import annotations

import pytest
import typer
from mira_producer.cli.app import app
from mira_producer.cli.config import masked
from mira_producer.cli.doctor.finding import reason
from mira_producer.cli.doctor.machine import unmet
from typer.testing import CliRunner

from mira_queue.runtime.settings_loader import load_settings

COMMANDS = sorted(str(each.name) for kind in (app.registered_commands, app.registered_groups) for each in kind)
# Its help is the simulator's own.
ELSEWHERE = {"simulate"}


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("sk-mira-" + "0" * 36 + "beef", "sk-mira-…beef"),
        ("sk-" + "x" * 20 + "abcd", "…abcd"),
        ("short", "…"),
        ("sk-mira-short", "sk-mira-…"),
        ("redis://:hush@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://user:hush@host/0?ssl_cert_reqs=none", "rediss://user:***@host/0?ssl_cert_reqs=none"),
        ("redis://host/0?password=hush&db=1", "redis://host/0?password=***&db=1"),
        ("redis://:hu/sh@host/0", "redis://:***@host/0"),
        ("redis://:hu#sh@host/0", "redis://:***@host/0"),
        ("redis://:hu?sh@host/0", "redis://:***@host/0"),
        ("redis://:hu@sh@host/0", "redis://:***@host/0"),
        ("db+postgresql://user:hush@host/name", "db+postgresql://user:***@host/name"),
        ("redis+socket:///run/valkey.sock", "redis+socket:///run/valkey.sock"),
    ],
)
def test_a_secret_is_masked_and_what_is_none_stays(secret: str, shown: str) -> None:
    assert masked(secret) == shown


def test_a_librarys_error_is_cleared_of_secrets() -> None:
    settings = load_settings(redis_url="redis://:hush@host/0", api_key="sk-mira-" + "0" * 40)
    error = ConnectionError("redis://:hush@host/0 failed\nfor hush and sk-mira-" + "0" * 40)

    assert reason(error, settings) == "redis://:***@host/0 failed for *** and sk-mira-…0000"


def test_a_requirement_that_is_not_met_is_named_and_those_of_extras_do_not_count() -> None:
    lines = ["pytest>=1", "celery[redis]<6,>=99", "no-such-package<2", 'flask>=99; extra == "examples"']

    assert [line.split()[0] for line in unmet(lines)] == ["celery", "no-such-package"]


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ELSEWHERE])
def test_the_help_of_every_command_has_a_purpose_examples_and_exit_codes(command: str) -> None:
    text = CliRunner().invoke(app, [command, "--help"]).output

    assert f"Usage: mira-queue {command}" in text
    assert f"    mira-queue {command}" in text.partition("Examples:")[2]
    assert "\n    0 " in text.partition("Exit codes:")[2]


def test_the_first_help_lists_every_command_with_an_uncut_line() -> None:
    text = CliRunner().invoke(app, ["--help"]).output
    listed = text.partition("Commands:")[2].partition("Examples:")[0]

    assert {line.split()[0] for line in listed.splitlines() if line.strip()} == set(COMMANDS)
    assert "..." not in listed


def test_a_usage_error_of_typers_is_of_the_class_that_main_catches() -> None:
    assert issubclass(typer.BadParameter, typer.TyperException)
