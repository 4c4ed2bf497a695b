"""Settings: where they come from, what a wrong one says, and how they reach a child process."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from mira_producer.cli.config import described
from mira_producer.processes import environment_of

from mira_queue.contract.settings import Settings, SettingsError, variable
from mira_queue.runtime.accounts_file import load_accounts
from mira_queue.runtime.settings_loader import load_settings

BASE = "https://api.vmira.ai/v1"
KEY = "sk-mira-" + "0123456789" * 4


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("MIRA_CONCURRENCY", "0", "greater than or equal to 1"),
        ("MIRA_CONCURRENCY", "many", "integer"),
        ("MIRA_API_BASE", "api.vmira.ai", "expected a URL such as"),
        ("MIRA_API_BASE", "https://user:pass@api.vmira.ai/v1", "MIRA_API_KEY"),
        ("MIRA_API_KEY", "sk mira", "without spaces"),
        ("MIRA_REDIS_URL", "localhost:6379", "redis://host:6379/0"),
        ("MIRA_REDIS_URL", "redis+socket://", "socket"),
        ("MIRA_RESULT_TTL", "0", "greater than"),
        ("MIRA_LOG_LEVEL", "loud", "'debug', 'info'"),
        ("MIRA_CHECK_LIMITS", "some", "'mira' or 'none'"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(
    name: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError) as caught:
        load_settings()

    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith(f"{name}: ")
    assert expected in str(caught.value)


def test_several_wrong_values_are_one_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRA_CONCURRENCY", "0")
    monkeypatch.setenv("MIRA_LEASE", "-1")

    with pytest.raises(SettingsError) as caught:
        load_settings()

    assert sorted(line.partition(":")[0] for line in str(caught.value).splitlines()) == [
        "MIRA_CONCURRENCY",
        "MIRA_LEASE",
    ]


@pytest.mark.parametrize("name", ["MIRA_API_KEY", "MIRA_REDIS_URL"])
def test_a_wrong_secret_is_not_repeated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "hush hush")

    with pytest.raises(SettingsError) as caught:
        load_settings()

    assert "hush" not in str(caught.value)


def test_a_misspelled_variable_in_the_env_file_is_an_error_and_one_of_another_program_is_not(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DATABASE_URL=x\nMIRA_CONCURENCY=3\n")

    with pytest.raises(SettingsError, match=r"^MIRA_CONCURENCY: .*MIRA_CONCURRENCY"):
        load_settings()


def test_a_misspelled_variable_in_the_environment_is_an_error_and_one_of_another_program_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MIRA_DASHBOARD", "x")
    load_settings()
    monkeypatch.setenv("MIRA_CONCURENCY", "3")

    with pytest.raises(SettingsError, match=r"^MIRA_CONCURENCY: .*MIRA_CONCURRENCY"):
        load_settings()


@pytest.mark.parametrize(("name", "known"), [("MIRA_CONCURENCY", "MIRA_CONCURRENCY"), ("mira_modell", "MIRA_MODEL")])
def test_a_misspelled_variable_in_the_environment_is_an_error_too(
    name: str, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "3")
    monkeypatch.setenv("MIRA_LEASE", "-1")

    with pytest.raises(SettingsError) as caught:
        load_settings()

    unknown, wrong = str(caught.value).splitlines()
    assert unknown.startswith(f"{name.upper()}: ")
    assert known in unknown
    assert wrong.startswith("MIRA_LEASE: ")


@pytest.mark.parametrize(
    "name",
    [
        "MIRA_REDIS_SERVICE_HOST",
        "MIRA_REDIS_SERVICE_PORT_TLS",
        "MIRA_QUEUE_PORT",
        "MIRA_QUEUE_PORT_6379_TCP_ADDR",
        "MIRA_PORT",
        "MIRA_TEST_DOCKER",
    ],
)
def test_variables_that_kubernetes_or_the_tests_set_are_not_misspelled_settings(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "tcp://10.0.0.1:6379")

    assert load_settings() == Settings(_env_file=None)


def test_a_misspelled_override_is_named_like_its_variable() -> None:
    with pytest.raises(SettingsError, match="MIRA_CONCURRENCY"):
        load_settings(concurency=3)


def test_the_environment_wins_over_the_env_file_which_wins_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("MIRA_MODEL=from-file\nMIRA_CONCURRENCY=7\nMIRA_LEASE=\n")
    monkeypatch.setenv("MIRA_MODEL", "from-environment")
    monkeypatch.setenv("MIRA_GRACE", "")

    settings = load_settings()
    sources = {each["variable"]: (each["value"], each["source"]) for each in described(settings)}

    assert sources["MIRA_MODEL"] == ("from-environment", "environment")
    assert sources["MIRA_CONCURRENCY"] == ("7", ".env")
    assert sources["MIRA_LEASE"] == ("15", "default")
    assert sources["MIRA_GRACE"] == ("20", "default")


def test_a_child_gets_the_very_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(
        api_key=KEY, redis_url="redis://:hush@127.0.0.1/0", backoff_base="0.25", lease=timedelta(seconds=90), model="m"
    )

    for name, text in environment_of(settings).items():
        monkeypatch.setenv(name, text)

    assert load_settings() == settings


def test_a_child_is_told_only_what_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(_env_file=None, model="m")

    assert environment_of(settings, concurrency="5") == {"MIRA_MODEL": "m", "MIRA_CONCURRENCY": "5"}


def test_an_account_is_a_base_and_a_key_and_its_name_reveals_neither() -> None:
    def account(base: str, key: str | None) -> str:
        return load_accounts(load_settings(api_base=base, api_key=key)).current.id

    name = account(BASE, KEY)

    assert re.fullmatch(r"[0-9a-f]{16}", name)
    assert name == account(f"{BASE}/", KEY)
    assert len({name, account(BASE, KEY + "0"), account(f"{BASE}/x", KEY), account(BASE, None)}) == 4


def test_every_setting_has_a_meaning() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
    assert variable("api_key") == "MIRA_API_KEY"


@pytest.mark.parametrize(
    "env_file", ["MIRA_API_BASE=http://elsewhere/v1\n", "MIRA_API_BASE=http://elsewhere/v1\nMIRA_API_KEY=x\n"]
)
def test_a_base_in_the_env_file_does_not_redirect_a_key_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env_file: str
) -> None:
    (tmp_path / ".env").write_text(env_file)
    monkeypatch.setenv("MIRA_API_KEY", KEY)

    for load in (load_settings, Settings):
        with pytest.raises(SettingsError, match="http://elsewhere/v1") as caught:
            load()
        assert KEY not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("env_file", "environment", "base"),
    [
        ("MIRA_API_BASE=http://a/v1\nMIRA_API_KEY=x\n", {}, "http://a/v1"),
        ("MIRA_API_BASE=http://a/v1\n", {}, "http://a/v1"),
        ("MIRA_API_KEY=x\n", {"MIRA_API_BASE": "http://b/v1"}, "http://b/v1"),
        ("MIRA_API_BASE=http://a/v1\n", {"MIRA_API_KEY": KEY, "MIRA_API_BASE": "http://b/v1"}, "http://b/v1"),
        ("MIRA_API_BASE=https://api.vmira.ai/v1/\n", {"MIRA_API_KEY": KEY}, "https://api.vmira.ai/v1"),
    ],
)
def test_a_key_and_a_base_that_belong_together_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env_file: str, environment: dict[str, str], base: str
) -> None:
    (tmp_path / ".env").write_text(env_file)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert load_settings().api_base == base
