"""Errors of the gateway: each class of ours has a response, in OpenAI's format."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from mira_producer.adoption import AdoptionRefused
from mira_producer.fleet import WorkersFail
from mira_producer.gateway.http.errors import MAX_RETRY_AFTER_S, TABLE, ApiError, translated
from mira_producer.jsonl.errors import InputError

from mira_queue.contract.errors import (
    BalanceUsedUp,
    ContentBlocked,
    IdempotencyConflict,
    InvalidKey,
    InvalidRequest,
    MiraQueueError,
    QueueUnavailable,
    Unreachable,
)

#: Only commands raise them: `worker`, `run`, and `accounts adopt`.
NOT_OF_REQUESTS = {MiraQueueError, WorkersFail, AdoptionRefused}


def classes(root: type[MiraQueueError]) -> Iterator[type[MiraQueueError]]:
    yield root
    for each in root.__subclasses__():
        if each.__module__.startswith("mira_"):
            yield from classes(each)


@pytest.mark.parametrize("kind", sorted({*classes(MiraQueueError)} - NOT_OF_REQUESTS, key=str))
def test_every_error_class_has_an_entry_in_the_table(kind: type[MiraQueueError]) -> None:
    assert any(issubclass(kind, entry) for entry, _ in TABLE)


@pytest.mark.parametrize(
    ("error", "status", "kind", "param", "code"),
    [
        (
            InvalidRequest("messages[0].role", "expected"),
            400,
            "invalid_request_error",
            "messages[0].role",
            "invalid_request",
        ),
        (InputError("nothing was submitted"), 400, "invalid_request_error", None, "invalid_value"),
        (IdempotencyConflict("k", "j"), 422, "invalid_request_error", "key", "idempotency_key_reused"),
        (QueueUnavailable("down"), 503, "server_error", None, "queue_unavailable"),
        (ContentBlocked("blocked", 422), 422, "invalid_request_error", None, "content_blocked"),
        (BalanceUsedUp("empty", 402), 402, "insufficient_quota", None, "balance_used_up"),
        (InvalidKey("wrong", 401), 502, "server_error", None, "invalid_key"),
        (Unreachable("refused"), 502, "server_error", None, "unreachable"),
    ],
)
def test_an_error_of_ours_becomes_one_of_openais(
    error: MiraQueueError, status: int, kind: str, param: str | None, code: str | None
) -> None:
    found = translated(error)

    assert found is not None
    assert found.status == status
    body = found.to_object()["error"]
    assert (body["type"], body["param"], body["code"]) == (kind, param, code)
    assert body.keys() == {"message", "type", "param", "code"}


def test_a_retry_after_is_never_so_long_that_an_sdk_gives_up() -> None:
    error = ApiError(503, "busy", retry_after_s=timedelta(hours=1).total_seconds())

    assert error.headers["retry-after"] == str(MAX_RETRY_AFTER_S) == "120"


def test_a_retry_after_is_never_zero() -> None:
    assert ApiError(503, "busy", retry_after_s=0.01).headers["retry-after"] == "1"
