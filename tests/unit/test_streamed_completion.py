"""Chunks of an answer to a client, and what follows when an attempt fails in between."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from mira_producer.gateway.http.errors import ApiError
from mira_producer.gateway.jobs.response_events import ResponseEvents
from mira_producer.gateway.jobs.streamed_completion import DONE, StreamedCompletion

from mira_queue import Completion, JobState, JobStatus

JOB = JobStatus("6e0956e5-e24f-4a9a-b9d9-907ba2571472", JobState.RUNNING, 1000)
ENDED = JobStatus(JOB.id, JobState.SUCCEEDED, 1000, finished_ms=2000)


def chunk(text: str | None = None, reason: str | None = None, **delta: Any) -> bytes:
    content = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": {**content, **delta}, "finish_reason": reason}
    return orjson.dumps({"id": "theirs", "object": "chat.completion.chunk", "choices": [choice]})


def completion(text: str, **message: Any) -> Completion:
    message = {"role": "assistant", "content": text, **message}
    body = {"model": "mira", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return Completion(text, "stop", {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}, body)


def sent(stream: StreamedCompletion, chunks: list[tuple[str, bytes]], outcome: Completion) -> list[bytes]:
    passed = [data for epoch, each in chunks if (data := stream.add(epoch, each))]
    return [*passed, *stream.rest(outcome)]


def text_of(sent: list[bytes]) -> str:
    chunks = [orjson.loads(each) for each in sent if each != DONE]
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])


def test_chunks_are_passed_on_with_the_id_of_the_job() -> None:
    found = sent(
        StreamedCompletion("ours"),
        [("1", chunk("one ")), ("1", chunk("two")), ("1", chunk(reason="stop"))],
        completion("one two"),
    )

    assert (len(found), found[-1], text_of(found)) == (4, DONE, "one two")
    assert {orjson.loads(each)["id"] for each in found[:-1]} == {"ours"}


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [("1", chunk("one "))],
        [("1", chunk("one ")), ("3", chunk("one ")), ("3", chunk("two")), ("3", chunk(reason="stop"))],
        [("1", chunk(role="assistant")), ("3", chunk("one two")), ("3", chunk(reason="stop"))],
    ],
)
def test_what_is_missing_of_the_outcome_is_sent_at_the_end(chunks: list[tuple[str, bytes]]) -> None:
    found = sent(StreamedCompletion("ours"), chunks, completion("one two"))

    assert (text_of(found), found[-1]) == ("one two", DONE)
    assert orjson.loads(found[-2])["choices"][0]["finish_reason"] == "stop"


def test_another_answer_than_the_one_that_was_begun_is_an_error() -> None:
    with pytest.raises(ApiError) as failed:
        sent(StreamedCompletion("ours"), [("1", chunk("three ")), ("3", chunk("one "))], completion("one two"))

    assert failed.value.code == "stream_interrupted"


def test_usage_is_sent_if_it_was_asked_for() -> None:
    with_usage = sent(StreamedCompletion("ours", include_usage=True), [], completion("one"))
    without = sent(StreamedCompletion("ours"), [], completion("one"))

    assert orjson.loads(with_usage[-2])["usage"]["total_tokens"] == 3
    assert all(b"usage" not in each for each in without)


def test_calls_of_functions_reach_a_client_that_streams() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}

    first, *_ = sent(StreamedCompletion("ours"), [], completion("", tool_calls=[call]))

    assert orjson.loads(first)["choices"][0]["delta"]["tool_calls"] == [{"index": 0, **call}]


def events(chunks: list[tuple[str, bytes]], outcome: Completion, after: int = -1) -> list[dict[str, Any]]:
    stream = ResponseEvents(JOB, after)
    found = list(stream.first())
    for epoch, each in chunks:
        found += stream.add(epoch, each)
    return [*found, *stream.rest(ENDED, outcome)]


PIECES = [("1", chunk("one ")), ("1", chunk("two")), ("1", chunk(reason="stop"))]


def test_the_text_of_a_response_comes_in_the_pieces_of_the_server() -> None:
    found = events(PIECES, completion("one two"))

    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert [event["delta"] for event in found if event["type"] == "response.output_text.delta"] == ["one ", "two"]
    assert found[-1]["response"]["output"][0]["content"][0]["text"] == "one two"
    assert [event["type"] for event in found][-5:] == [
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]


def test_a_client_that_continues_gets_the_rest_and_in_any_case_the_end() -> None:
    every = events(PIECES, completion("one two"))

    assert events(PIECES, completion("one two"), after=4) == every[5:]
    [last] = events([], completion("one two"), after=50)
    assert (last["type"], last["sequence_number"]) == ("response.completed", 51)


def test_a_response_that_was_begun_and_answered_differently_ends_with_an_error() -> None:
    found = events([("1", chunk("three "))], completion("one two"))

    assert (found[-1]["type"], found[-1]["code"]) == ("error", "stream_interrupted")


def test_calls_of_functions_are_items_of_a_response() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}

    found = events([("1", chunk("I look."))], completion("I look.", tool_calls=[call]))

    assert [item["type"] for item in found[-1]["response"]["output"]] == ["message", "function_call"]
    assert "response.function_call_arguments.done" in {event["type"] for event in found}
