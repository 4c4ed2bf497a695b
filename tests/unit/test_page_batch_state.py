"""States of a batch, groups of its errors, rows of its files, and its chart, as the page shows them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mira_producer.page.batches.batch_state import state_of
from mira_producer.page.batches.error_groups import error_groups
from mira_producer.page.batches.result_rows import MAX_TEXT_CHARS, row_of
from mira_producer.page.batches.throughput_chart import MAX_BARS, chart_of
from mira_producer.report.recorder import Example, Recorder

from mira_queue.contract.batch import Batch, BatchFiles, BatchOrigin, BatchStatus, PausedBy, Reason
from mira_queue.contract.commands import Cancel, Command, Pause, Resume, Retry
from mira_queue.contract.errors import ERROR_CODES
from mira_queue.contract.outcome import Completion, Failure
from mira_queue.contract.problem import Problem

RUNNING = Batch("batch_1", BatchStatus.IN_PROGRESS, "in.jsonl", "here:/", 1000, total=10, updated_at=2000)
FAILED = replace(RUNNING, status=BatchStatus.COMPLETED, answered=7, failed=3, codes={"poison": 3})


@pytest.mark.parametrize(
    ("command", "words"),
    [(Pause(), "pausing"), (Resume(), "resuming"), (Cancel(), "cancelling"), (Retry(), "retrying")],
)
def test_a_command_is_shown_before_the_supervisor_has_carried_it_out(command: Command, words: str) -> None:
    state = state_of(RUNNING, command)

    assert (state.words, state.has_command) == (words, True)


def test_a_resume_shows_its_new_limits_immediately() -> None:
    assert state_of(RUNNING, Resume(max_requests=5)).batch.options.max_requests == 5


@pytest.mark.parametrize("status", [status for status in BatchStatus if status.is_final])
def test_a_batch_that_has_ended_has_no_reason_to_wait(status: BatchStatus) -> None:
    ended = replace(RUNNING, status=status, paused="old", waiting=Reason("limit", "account limit"))
    state = state_of(ended, Pause())

    assert (state.reason, state.until_ms) == ("", 0)
    assert [state.can_pause, state.can_resume, state.can_cancel] == [False, False, False]


@pytest.mark.parametrize(
    ("by", "can_resume"), [("owner", True), ("account", True), ("budget", True), ("files", True), ("lost", True)]
)
def test_a_paused_batch_can_be_resumed_and_says_why_it_is_paused(by: PausedBy, can_resume: bool) -> None:
    state = state_of(replace(RUNNING, paused="the balance is used up", paused_by=by))

    assert state.words == "paused"
    assert by == "owner" or "he balance is used up" in state.reason
    assert (state.can_resume, state.can_pause) == (can_resume, False)


def test_a_run_whose_process_has_ended_is_resumed_in_a_terminal() -> None:
    files = BatchFiles(*[Path("x")] * 5)
    state = state_of(replace(RUNNING, files=files, paused="its process has ended", paused_by="process", failed=1))

    assert [state.can_resume, state.can_cancel, state.can_retry] == [False, False, False]
    assert state.started_by == "mira-queue run"


def test_a_wait_has_its_end_and_what_the_server_said() -> None:
    waiting = Reason("limit", "account limit: 60 per 60 s", timedelta(seconds=30), "slow down")
    state = state_of(replace(RUNNING, waiting=waiting))

    assert (state.words, state.until_ms, state.message) == ("waiting", 2_030_000, "slow down")
    assert state.reason == "Account limit: 60 per 60 s."


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        (BatchOrigin(), "mira-queue submit"),
        (BatchOrigin("app1"), "API key app1"),
        (BatchOrigin("app1", user="Ann"), "Ann, on this page"),
    ],
)
def test_a_batch_says_what_started_it(origin: BatchOrigin, words: str) -> None:
    assert state_of(replace(RUNNING, origin=origin)).started_by == words


def test_errors_are_grouped_by_code_and_have_an_example() -> None:
    codes = {"server_error (503)": 2, "content_blocked (422)": 4, "server_error (502)": 3, "unreachable": 1, "gone": 0}
    samples = {
        "server_error (502)": [Example("line-7", 7, "Bad gateway")],
        "content_blocked (422)": [Example("line-1", 1, "violence")],
    }

    groups = error_groups(replace(FAILED, codes=codes), samples)

    assert [(each.code, each.count, each.statuses) for each in groups] == [
        ("server_error", 5, ("503", "502")),
        ("content_blocked", 4, ("422",)),
        ("unreachable", 1, ()),
    ]
    assert [each.example for each in groups] == ["line-7", "line-1", ""]


def test_every_code_of_ours_has_advice_and_can_be_retried() -> None:
    codes = {*ERROR_CODES, "batch_expired", "batch_cancelled"}
    groups = error_groups(replace(FAILED, codes=dict.fromkeys(codes, 1)), {})

    assert {each.code for each in groups if each.advice and each.can_retry} == codes


def test_a_code_of_another_version_has_no_retry() -> None:
    (group,) = error_groups(replace(FAILED, codes={"of_the_future (599)": 1}), {})

    assert (group.can_retry, group.advice) == (False, "")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["custom_id", "response", "body", "choices", "message", "content", "error", "usage", "x"]
                ),
                inner,
            )
        ),
    )
)
def test_any_json_is_a_row(value: object) -> None:
    try:
        line = orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        return
    assert "\x1b" not in row_of(line).text


@pytest.mark.parametrize("line", [b"", b"{", b"\xff\xfe", b"[1]", b'"x"'])
def test_a_line_that_is_none_of_ours_is_shown_as_it_is(line: bytes) -> None:
    assert row_of(line).text == line.decode(errors="replace")


def test_a_row_shows_the_answer_or_the_call_of_a_tool_or_the_error() -> None:
    def row(message: object, **more: object) -> str:
        body = {"choices": [{"message": message}], "usage": {"completion_tokens": 3}}
        return row_of(orjson.dumps({"custom_id": "a", "response": {"status_code": 200, "body": body}, **more})).text

    assert row({"content": "Hello"}) == "Hello"
    assert "search" in row({"content": None, "tool_calls": [{"function": {"name": "search"}}]})
    assert row({"content": "Hello"}, error={"code": "poison", "message": "crashed"}) == "crashed"
    assert len(row({"content": "x" * 10 * MAX_TEXT_CHARS})) == MAX_TEXT_CHARS


def test_the_chart_counts_each_line_once() -> None:
    now = [0.0]
    recorder = Recorder(lambda: now[0])
    for second in range(500):
        now[0] = second / 3
        outcome = Failure("poison", "crashed") if second % 5 == 0 else Completion("x", None, {}, {})
        recorder.ended(f"line-{second}", outcome, code="poison" if second % 5 == 0 else "")
    recorder.end()

    chart = chart_of(recorder)

    assert chart is not None
    assert len(chart.bars) <= MAX_BARS
    assert round(sum(bar.answered for bar in chart.bars) * chart.span_s) == 400
    assert round(sum(bar.failed for bar in chart.bars) * chart.span_s) == 100
    assert chart.span_s * (len(chart.bars) - 1) <= chart.seconds < chart.span_s * (len(chart.bars) + 1)


def test_without_a_finished_line_there_is_no_chart() -> None:
    recorder = Recorder(lambda: 5.0)
    recorder.end()

    assert chart_of(recorder) is None


def test_an_invalid_file_is_no_retry() -> None:
    failed = replace(FAILED, status=BatchStatus.FAILED, errors=(Problem("in.jsonl", 1),))

    assert not state_of(failed).can_retry
