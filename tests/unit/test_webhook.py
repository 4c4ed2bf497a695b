"""Webhooks as values: receivers that may be called, endpoints, events, and what follows from an attempt."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address
from typing import Any, get_args, get_type_hints

import orjson
import pytest
from openai.types.webhooks import webhook_create_params
from pydantic import ValidationError

from mira_queue.contract.delivery import (
    MAX_JITTER,
    MAX_PAUSE,
    WAITS,
    Attempt,
    Dead,
    Delivered,
    TryLater,
    decide,
)
from mira_queue.contract.errors import BadRequest
from mira_queue.contract.outcome import Completion, Failure
from mira_queue.contract.settings import Settings
from mira_queue.contract.webhook import (
    EVENT_TYPES,
    MAX_PAYLOAD_BYTES,
    MAX_SECRETS,
    OVERLAP,
    SigningSecret,
    WebhookEndpoint,
    WebhookEvent,
    checked_secret,
    checked_url,
    ending_of,
    is_public,
    new_signing_secret,
    payload_of,
)

NOW = 1_800_000_000


def endpoint(**changes: Any) -> WebhookEndpoint:
    fields: dict[str, Any] = {
        "id": "we_" + "0" * 24,
        "project": "app1",
        "name": "App",
        "url": "https://example.com/hook",
        "event_types": ("response.completed",),
        "created_at": NOW,
        "updated_at": NOW,
        "secrets": (SigningSecret(new_signing_secret()),),
    }
    return WebhookEndpoint(**{**fields, **changes})


def event(**changes: Any) -> WebhookEvent:
    return WebhookEvent(
        **{"id": "evt_1", "type": "response.completed", "created_at": NOW, "subject": "a-job", **changes}
    )


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:c0a8:101::",
        "::7f00:1", "::808:808", "64:ff9b:1::808:808", "fec0::1",
    ],
)  # fmt: skip
def test_an_address_of_no_public_machine_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_a_public_address_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com", "ftp://example.com/", "http://example.com/", "https://", "https://user:pass@example.com/",
        "https://example.com/#x", "https://example.com:port/", "https://example.com/a b", "https://example.com/é",
        "https://127.0.0.1/", "https://[::1]/", "https://10.0.0.1:8443/", "https://169.254.169.254/latest",
        "https://[::ffff:127.0.0.1]/", "https://127.1/", "https://2130706433/", "https://0177.0.0.1/", "https://0x7f.1/",
        "https://0/", "https://0x7f000001/", "https://127.0.0.1./", "https://[::7f00:1]/",
        f"https://example.com/{'x' * 2048}",
    ],
)  # fmt: skip
def test_a_url_that_must_not_be_called_is_rejected(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected|public"):
        checked_url(url, ())


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("https://example.com/hook?x=1", ()),
        ("https://example.com:8443", ()),
        ("http://localhost:3000/hook", ("localhost",)),
        ("http://127.0.0.1:3000/hook", ("127.0.0.1",)),
        ("http://LOCALHOST/", ("localhost",)),
        ("http://anything.internal/", ("*",)),
    ],
)
def test_a_public_url_and_allowed_hosts_pass(url: str, hosts: tuple[str, ...]) -> None:
    assert checked_url(url, hosts) == url


@pytest.mark.parametrize("secret", ["", "secret", "whsec_", "whsec_short", "whsec_" + "!" * 44, "whsec_" + "A" * 100])
def test_a_secret_of_another_form_is_rejected_and_not_quoted(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_") as wrong:
        checked_secret(secret)
    assert not secret.removeprefix("whsec_") or secret not in str(wrong.value)


def test_a_new_secret_is_valid_and_hidden() -> None:
    secret = new_signing_secret()
    assert checked_secret(secret.get_secret_value()) == secret
    assert secret.get_secret_value() not in repr(endpoint(secrets=(SigningSecret(secret),)))


def test_an_endpoint_comes_back_from_its_record() -> None:
    rotated = endpoint().rotated(NOW, keep_old=True)

    assert WebhookEndpoint.from_json(rotated.to_json()) == rotated
    newer = orjson.dumps({**orjson.loads(rotated.to_json()), "field_of_a_newer_version": 1})
    assert WebhookEndpoint.from_json(newer) == rotated


def test_an_old_secret_signs_for_a_day_after_its_rotation_and_only_if_it_is_kept() -> None:
    old = endpoint().secrets[0].value
    kept, dropped = (endpoint(secrets=(SigningSecret(old),)).rotated(NOW, keep_old=keep) for keep in (True, False))
    end = NOW + int(OVERLAP.total_seconds())

    assert kept.signing_secrets(end - 1) == [kept.secrets[0].value, old]
    assert kept.signing_secrets(end) == [kept.secrets[0].value]
    assert dropped.signing_secrets(NOW) == [dropped.secrets[0].value]
    # A rotation that is repeated after a lost response does not end the overlap.
    again = kept.rotated(NOW, keep_old=True)
    assert again.signing_secrets(NOW) == [again.secrets[0].value, kept.secrets[0].value, old]
    assert len(again.rotated(NOW, keep_old=True).secrets) == MAX_SECRETS


def test_an_endpoint_wants_its_types_and_what_names_it() -> None:
    assert endpoint().wants(event())
    assert not endpoint().wants(event(type="response.failed"))
    assert endpoint().wants(event(type="response.failed", webhook=endpoint().id))
    assert not endpoint(disabled="HTTP 410").wants(event(webhook=endpoint().id))


def test_every_event_type_is_one_that_the_sdk_knows() -> None:
    hints = get_type_hints(webhook_create_params.WebhookCreateParams, include_extras=True)["event_types"]
    known = set(get_args(get_args(get_args(hints)[0])[0]))
    assert set(EVENT_TYPES) <= known


@pytest.mark.parametrize(
    ("outcome", "ending"),
    [
        (Completion("Hi", "stop", {}, {}), "completed"),
        (Completion("Hi", "length", {}, {}), "incomplete"),
        (Completion("Hi", "content_filter", {}, {}), "incomplete"),
        (Failure.from_error(BadRequest("no", 400)), "failed"),
    ],
)
def test_the_type_of_an_event_follows_from_the_outcome(outcome: Any, ending: str) -> None:
    assert ending_of(outcome) == ending


def test_a_payload_stays_within_its_limit_without_the_metadata() -> None:
    small = payload_of(event(metadata='{"tenant": "7"}'), "resp_1")
    large = payload_of(event(metadata=orjson.dumps({str(n): "é" * 512 for n in range(16)}).decode()), "resp_1")

    assert orjson.loads(small)["data"] == {
        "id": "resp_1", "metadata": {"tenant": "7"}, "mira": {"id": "a-job", "code": None}
    }  # fmt: skip
    assert len(large) <= MAX_PAYLOAD_BYTES
    huge = payload_of(event(metadata=orjson.dumps({str(n): "👋" * 512 for n in range(16)}).decode()), "resp_1")
    assert len(huge) <= MAX_PAYLOAD_BYTES
    assert "metadata" not in orjson.loads(huge)["data"]


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_a_2xx_is_delivered(status: int) -> None:
    assert decide(Attempt(status), 1, 0.5) == Delivered()


@pytest.mark.parametrize("attempt", [Attempt(301), Attempt(400), Attempt(404), Attempt(500), Attempt(error="refused")])
def test_anything_else_is_tried_again_for_three_days_and_then_dead(attempt: Attempt) -> None:
    waits = [decide(attempt, attempts, 0.0) for attempts in range(1, len(WAITS))]

    assert waits == [TryLater(wait, timedelta(0)) for wait in WAITS[1:]]
    assert timedelta(hours=72) < sum(WAITS, timedelta(0)) < timedelta(hours=80)
    assert decide(attempt, len(WAITS), 0.0) == Dead()


def test_jitter_makes_a_wait_longer_and_never_shorter() -> None:
    latest = decide(Attempt(500), 1, 1.0)
    assert isinstance(latest, TryLater)
    assert latest.wait == WAITS[1] * (1 + MAX_JITTER)


def test_a_receiver_that_is_gone_gets_nothing_more() -> None:
    assert decide(Attempt(410), 1, 0.0) == Dead(is_gone=True)


@pytest.mark.parametrize(
    ("attempt", "pause"),
    [
        (Attempt(429), timedelta(seconds=5)),
        (Attempt(502), timedelta(seconds=5)),
        (Attempt(504), timedelta(seconds=5)),
        (Attempt(429, timedelta(seconds=40)), timedelta(seconds=40)),
        (Attempt(503, timedelta(seconds=40)), timedelta(seconds=40)),
        (Attempt(429, timedelta(days=9)), MAX_PAUSE),
        (Attempt(429, timedelta(0)), timedelta(seconds=5)),
    ],
)
def test_an_overloaded_receiver_has_a_pause(attempt: Attempt, pause: timedelta) -> None:
    decision = decide(attempt, 1, 0.0)
    assert isinstance(decision, TryLater)
    assert (decision.pause, decision.wait) == (pause, max(pause, WAITS[1]))


@pytest.mark.parametrize("count", [1, 2])
def test_the_secret_in_the_settings_is_one_or_two_and_hidden(count: int) -> None:
    secrets = [new_signing_secret() for _ in range(count)]
    settings = Settings(_env_file=None, webhook_secret=" ".join(each.get_secret_value() for each in secrets))

    assert settings.webhook_secrets == secrets
    assert secrets[0].get_secret_value() not in repr(settings)


@pytest.mark.parametrize("wrong", ["whsec_x", " ".join(["whsec_" + "A" * 44] * 3)])
def test_a_wrong_secret_in_the_settings_is_an_error_that_does_not_quote_it(wrong: str) -> None:
    with pytest.raises(ValidationError) as error:
        Settings(_env_file=None, webhook_secret=wrong)
    assert wrong not in str(error.value)
