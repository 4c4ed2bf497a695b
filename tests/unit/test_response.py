"""Meaning of a response: whatever a server sends becomes one of four values, with a readable message."""

from __future__ import annotations

import json
import re
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mira_worker.error_body import MAX_DETAIL_CHARS
from mira_worker.json_body import MAX_BRACKETS
from mira_worker.redaction import Redaction
from mira_worker.response_meaning import (
    MAX_BODY_CHARS,
    Failed,
    Fault,
    Meaning,
    RateLimited,
    read_response,
)
from mira_worker.transport import HttpResponse, NoResponse

from mira_queue.contract import errors
from mira_queue.contract.outcome import Completion, Failure, celery_record

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COMPLETION = {
    "id": "chatcmpl-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"total_tokens": 3},
}

names = st.sampled_from(
    ["detail", "message", "error", "msg", "loc", "type", "code", "category", "choices", "content", "usage", "x"]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)
bodies = (
    st.binary(max_size=60)
    | json_values.map(lambda value: json.dumps(value).encode())
    | json_values.map(lambda value: json.dumps({"detail": json.dumps(value)}).encode())
    | st.text(max_size=40).map(lambda text: f"<html><title>{text}</title><h1>Bad</h1>".encode())
    | st.integers(1, 1200).map(lambda depth: b"[" * depth + b"]" * depth)
    | st.integers(1, 900).map(
        lambda depth: orjson.dumps(COMPLETION)[:-1] + b',"x":' + b"[" * depth + b"]" * depth + b"}"
    )
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "content-type": st.sampled_from(["application/json", "text/event-stream", "text/html; charset=utf-8", ""]),
        "retry-after": st.text(max_size=8) | st.integers(-5, 10**6).map(str),
        "location": st.text(max_size=300),
    },
)


def answer(status: int, body: Any = b"", **more: str) -> HttpResponse:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return HttpResponse(status, {name.replace("_", "-"): value for name, value in more.items()}, raw, 5)


def failure(status: int, body: Any = b"", **more: str) -> errors.JobError:
    match read_response(answer(status, body, **more), NOW):
        case Failed(error=error) | RateLimited(error=error) | Fault(error=error):
            return error
    raise AssertionError("an answer was not expected")


events = st.lists(
    st.sampled_from([b"data: [DONE]\n\n", b"event: error\n", b": ping\n\n", b"error: 1\n"])
    | json_values.map(lambda value: b"data: " + json.dumps(value).encode() + b"\n\n")
    | st.text(max_size=5).map(
        lambda text: b"data: " + orjson.dumps({"choices": [{"delta": {"content": text}}]}) + b"\n"
    ),
    max_size=5,
).map(b"".join)


@given(st.integers(200, 599), headers, bodies | events)
def test_whatever_a_server_sends_has_a_meaning_that_can_be_stored(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    meaning = read_response(HttpResponse(status, headers, body, 5), NOW)

    match meaning:
        case Completion():
            assert status < 300
            assert celery_record("id", meaning, NOW)
            return
        case RateLimited(error=error, retry_after=retry_after):
            assert timedelta(0) < retry_after.wait <= timedelta(days=1)
        case Failed(error=error):
            # A code in the body refines the status.
            assert status < 500 or isinstance(error, errors.AccountFault)
        case Fault(error=error):
            assert status in (408, 409, 425, 498, *range(200, 300), *range(500, 600))
    assert 0 < len(error.detail) <= MAX_DETAIL_CHARS
    assert error.status == status or status < 300
    assert celery_record("id", Failure.from_error(error), NOW)


usages = st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens", "x"]), json_values, max_size=3)
messages = st.dictionaries(st.sampled_from(["role", "content", "tool_calls", "refusal"]), json_values, max_size=4)
answers = st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.fixed_dictionaries({"message": messages}, optional={"finish_reason": json_values}), max_size=2
        )
    },
    optional={"usage": usages | json_values, "error": json_values},
)


@given(answers)
def test_a_200_is_answered_only_if_nothing_is_missing_and_nothing_reports_an_error(body: dict[str, Any]) -> None:
    meaning = read_response(answer(200, json.dumps(body).encode()), NOW)

    if isinstance(meaning, Completion):
        assert not body.get("error")
        assert body["choices"]
        assert all(choice.get("finish_reason") != "error" for choice in body["choices"])
        assert all(meaning_of_message(choice["message"]) or choice.get("finish_reason") for choice in body["choices"])
    elif isinstance(meaning, Fault):
        assert meaning.may_be_billed is not bool(meaning.usage)


def meaning_of_message(message: dict[str, Any]) -> bool:
    return any(value for name, value in message.items() if name != "role")


@pytest.mark.parametrize(("pattern", "is_answered"), [(r"(?!)", True), (r"\A\s*\Z", False), (r"\Asorry", True)])
def test_the_texts_of_a_failed_model_are_a_setting(pattern: str, is_answered: bool) -> None:
    body = {"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}

    meaning = read_response(answer(200, body), NOW, failed_answer=re.compile(pattern))

    assert isinstance(meaning, Completion) is is_answered


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"detail": "Unknown model"}, "Unknown model"),
        ({"detail": '{"error": "content_blocked", "category": "violence"}'}, "content_blocked (violence)"),
        ({"detail": {"error": "too_long", "message": "Shorten it"}}, "Shorten it"),
        ({"error": {"message": "No", "type": "invalid", "code": "bad_key"}}, "No (invalid, bad_key)"),
        ({"error": "plain"}, "plain"),
        ({"message": "from a gateway"}, "from a gateway"),
        ({"detail": [{"loc": ["body", "messages", 0], "msg": "bad"}, {"msg": "worse"}]}, "body.messages.0: bad; worse"),
        ({"loc": 5, "msg": "bad"}, "bad"),
        ({"reason": "unheard of"}, '{"reason":"unheard of"}'),
        ('"a bare string"', "a bare string"),
        (b"plain text\r\n of two  lines", "plain text of two lines"),
        (b"<html><style>p{}</style><h1>502</h1><p>Bad &amp; sad</p></html>", "502 Bad & sad"),
        (b"a < b", "a < b"),
        (b"\xff\xfe\x00", "\ufffd\ufffd"),
        (b"", "HTTP 400 with an empty body"),
        (b"{}", "HTTP 400 with an empty body"),
        (b"null", "null"),
        ({"detail": ""}, '{"detail":""}'),
    ],
    ids=str,
)
def test_every_kind_of_error_body_becomes_words(body: Any, words: str) -> None:
    assert failure(400, body.encode() if isinstance(body, str) else body).detail == words


def test_the_words_of_a_page_are_cut_to_what_a_person_reads() -> None:
    detail = failure(400, b"word " * 10_000).detail

    assert len(detail) == MAX_DETAIL_CHARS
    assert detail.endswith("…")


def test_an_error_body_is_kept_unless_it_is_larger_than_a_person_would_look_at() -> None:
    assert failure(400, {"detail": "x"}).body == {"detail": "x"}
    assert failure(400, {"detail": "x" * MAX_BODY_CHARS}).body is None
    assert failure(400, b"text").body is None


def test_moderation_is_told_from_other_unprocessable_requests() -> None:
    assert type(failure(422, {"detail": '{"error": "content_blocked"}'})) is errors.ContentBlocked
    assert type(failure(422, {"detail": {"error": "content_blocked"}})) is errors.ContentBlocked
    assert type(failure(422, {"detail": '{"error": "validation_error"}'})) is errors.Unprocessable
    assert type(failure(422, {"detail": "content_blocked?"})) is errors.Unprocessable


def test_a_redirect_says_where_to_and_which_setting() -> None:
    error = failure(308, location="https://elsewhere.example/v1")

    assert type(error) is errors.Redirected
    assert "https://elsewhere.example/v1" in error.detail
    assert "MIRA_API_BASE" in error.detail


@pytest.mark.parametrize(
    ("status", "may_be_billed"), [(408, True), (504, True), (500, False), (502, False), (503, False)]
)
def test_what_the_server_may_have_done_may_be_billed(status: int, may_be_billed: bool) -> None:
    meaning = read_response(answer(status), NOW)

    assert isinstance(meaning, Fault)
    assert meaning.may_be_billed is may_be_billed


def test_a_limit_carries_its_wait() -> None:
    meaning = read_response(answer(429, {"detail": "slow down"}, retry_after="7"), NOW)

    assert isinstance(meaning, RateLimited)
    assert (meaning.retry_after.wait, meaning.error.detail) == (timedelta(seconds=7), "slow down")


def test_no_answer_is_the_fault_that_the_client_says() -> None:
    fault = errors.Unreachable("refused")

    assert read_response(NoResponse(fault, True), NOW) == Fault(fault, True)


def test_a_completion_is_read_and_kept_whole() -> None:
    assert read_response(answer(200, COMPLETION), NOW) == Completion(
        "Hi", "stop", {"total_tokens": 3}, COMPLETION, latency_ms=5
    )


def test_a_completion_without_text_is_one() -> None:
    """A tool call has no content."""
    body = {"choices": [{"message": {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}}]}

    assert read_response(answer(200, body), NOW) == Completion("", None, {}, body, latency_ms=5)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"<html>",
        {"choices": []},
        {"choices": [{}]},
        {"choices": [{"message": "Hi"}]},
        {"choices": {}},
    ],
    ids=str,
)
def test_a_200_without_a_completion_is_a_fault_of_the_server(body: Any) -> None:
    meaning: Meaning = read_response(answer(200, body), NOW)

    assert isinstance(meaning, Fault)
    assert type(meaning.error) is errors.InvalidResponse
    assert meaning.may_be_billed


# --- the key ---

KEY = "sk-mira-" + "c0ffee" * 6 + "beef"


@pytest.mark.parametrize("key", ["1", "test", "Hi", KEY])
def test_a_completion_is_what_was_received_whatever_the_key_is(key: str) -> None:
    body = {**COMPLETION, "note": f"the latest {key}", key: 1}

    meaning = read_response(answer(200, body), NOW, Redaction(key))

    assert isinstance(meaning, Completion)
    assert meaning.body == body


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"detail": f"bad {KEY}"}),
        (401, {"error": {"message": "no", KEY: [KEY]}}),
        (422, {"detail": json.dumps({"error": f"bad {KEY}"})}),
        (400, f"bad {KEY}".encode()),
        (503, b"<html><title>%s</title>" % KEY.encode()),
        (200, f"not JSON {KEY}".encode()),
        # Where a long text is cut off, no part of the key is left.
        (400, ("x" * (MAX_DETAIL_CHARS - 10) + KEY).encode()),
        (200, ("x" * 190 + KEY).encode()),
    ],
)
def test_no_error_contains_the_key(status: int, body: Any) -> None:
    found = repr(read_response(answer(status, body), NOW, Redaction(KEY)))

    assert KEY not in found
    assert KEY[:10] not in found


# --- sizes ---


def test_a_body_of_many_brackets_is_not_parsed() -> None:
    body = b"[" + b"[]," * MAX_BRACKETS + b"[]]"

    tracemalloc.start()
    try:
        meaning = read_response(answer(200, body), NOW)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert isinstance(meaning, Fault)
    # Parsed, it would take twenty times its size.
    assert peak < 2 * len(body)


@pytest.mark.parametrize("levels", [150, 300, 1000, 2000])
def test_a_stream_that_is_nested_deeper_than_can_be_stored_is_broken(levels: int) -> None:
    deep = b'{"a":' * levels + b"1" + b"}" * levels
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"Hi","x":%s},"finish_reason":"stop"}]}\n\n' % deep

    meaning = read_response(answer(200, chunk + chunk + b"data: [DONE]\n\n", content_type="text/event-stream"), NOW)

    assert isinstance(meaning, Fault)
    assert meaning.error.code == "broken_answer"
