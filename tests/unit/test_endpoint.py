"""Base URLs and headers of settings: one form, and errors that never show a secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mira_producer.cli.config import described
from mira_producer.processes import environment_of

from mira_queue.contract.endpoint import checked_base, completions_url
from mira_queue.contract.settings import SettingsError
from mira_queue.runtime.settings_loader import load_settings

AZURE = "https://x.openai.azure.com/openai/deployments/d"
SEGMENTS = st.lists(st.sampled_from(["v1", "openai", "chat", "completions", "a%20b"]), max_size=4)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("given", "base", "url"),
    [
        ("https://api.vmira.ai/v1/", "https://api.vmira.ai/v1", "https://api.vmira.ai/v1/chat/completions"),
        ("http://localhost:8000", "http://localhost:8000", "http://localhost:8000/chat/completions"),
        (
            f"{AZURE}/chat/completions?api-version=2024-10-21",
            f"{AZURE}?api-version=2024-10-21",
            f"{AZURE}/chat/completions?api-version=2024-10-21",
        ),
        ("https://h/v1/?a=b/", "https://h/v1?a=b/", "https://h/v1/chat/completions?a=b/"),
    ],
)
def test_a_base_has_one_form_and_its_path_goes_before_its_query(given: str, base: str, url: str) -> None:
    assert checked_base(given) == base
    assert completions_url(base) == url


@given(SEGMENTS, st.sampled_from(["", "?", "?api-version=1", "?a=1&b=%2F"]), st.sampled_from(["", "/"]))
def test_a_base_and_the_url_of_its_completions_are_the_same_base(segments: list[str], query: str, end: str) -> None:
    base = checked_base("http://h" + "".join(f"/{each}" for each in segments) + end + query)

    assert checked_base(completions_url(base)) == checked_base(base)


@pytest.mark.parametrize(
    "base",
    [
        "https://h:port/v1",
        "https://h:99999/v1",
        "https://[::1/v1",
        "https://h/v1#x",
        "https://u@h/v1",
        "https://h/v1?api-key=hushhush",
        "https://h/v1?code=1&access_token=hushhush",
        "https://h/a b",
    ],
)
def test_a_base_that_cannot_be_used_is_one_line_without_a_secret(base: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(api_base=base)

    assert str(caught.value).startswith("MIRA_API_BASE: ")
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("X-Team: hushhush", "JSON object"),
        ('["hushhush"]', "JSON object"),
        ('{"X-Team": 1}', "JSON object"),
        ('{"X Team": "hushhush"}', "name of a header"),
        ('{"content-LENGTH": "hushhush"}', "set by mira-queue"),
        ('{"authorization": "hushhush"}', "MIRA_API_KEY"),
        ('{"X-Team": "hush\\nhush"}', "printable"),
        ('{"X-Team": "hushhush", "x-team": "b"}', "twice"),
    ],
)
def test_headers_that_cannot_be_sent_are_one_line_without_their_values(
    text: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRA_HEADERS", text)

    with pytest.raises(SettingsError) as caught:
        load_settings()

    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("MIRA_HEADERS: ")
    assert word in str(caught.value)
    assert "hush" not in str(caught.value)


def test_authorization_is_free_if_another_header_carries_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRA_HEADERS", '{"Authorization": "Basic hushhush"}')
    monkeypatch.setenv("MIRA_KEY_HEADER", "api-key")
    settings = load_settings()

    assert settings.headers["Authorization"].get_secret_value() == "Basic hushhush"
    assert "hush" not in f"{settings!r}{described(settings)}"
    assert "Authorization" in str(described(settings))


@pytest.mark.parametrize("name", ["", "api key", "Content-Type", "a:b"])
def test_a_header_that_cannot_carry_the_key_is_rejected(name: str) -> None:
    with pytest.raises(SettingsError, match=r"^MIRA_KEY_HEADER: "):
        load_settings(key_header=name)


def test_headers_reach_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    given = load_settings(headers={"X-Team": 'a, "b"'}, key_header="api-key")
    for name, text in environment_of(given).items():
        monkeypatch.setenv(name, text)

    assert load_settings() == given
