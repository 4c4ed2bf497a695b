"""Parts of the page's views of jobs that need no server: the filter, the events of a timeline, the search of lines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from mira_producer.page.jobs.filter_form import FilterForm
from mira_producer.page.jobs.job_reader import messages_of
from mira_producer.page.jobs.job_search import job_of_line
from mira_producer.page.jobs.line_search import _find
from mira_producer.page.jobs.timeline_text import event_text
from starlette.datastructures import ImmutableMultiDict

from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.job_filter import JobFilter
from mira_queue.contract.states import JobState
from mira_queue.contract.timeline import CallRecord, EventKind, TimelineEvent

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
NOW_MS = round(NOW.timestamp() * 1000)


def form(*pairs: tuple[str, str]) -> FilterForm:
    return FilterForm.of(ImmutableMultiDict(pairs))


def test_a_filter_of_a_url_becomes_that_of_the_ledger() -> None:
    found = form(("state", "failed"), ("code", "poison"), ("metadata", "a=b=c"), ("metadata", "d="), ("since", "1h"))

    assert found.wanted("", NOW) == JobFilter(
        JobState.FAILED, "poison", {"a": "b=c", "d": ""}, NOW_MS - 3_600_000, project=""
    )
    assert form(("state", "open")).wanted("mine", NOW) == JobFilter(project="mine")
    # A user of a project cannot choose another one.
    assert form(("project", "theirs")).wanted("mine", NOW).project == "mine"
    assert form(("project", "theirs")).wanted("", NOW).project == "theirs"


def test_a_filter_is_the_same_after_its_url() -> None:
    found = form(("state", " open "), ("metadata", "a=1"), ("metadata", ""), ("metadata", "b=2"), ("other", "x"))

    assert found.query == {"state": "open", "metadata": ("a=1", "b=2")}
    assert found.pairs == [("state", "open"), ("metadata", "a=1"), ("metadata", "b=2")]
    assert form(*found.pairs) == found


def test_a_fixed_filter_has_the_same_jobs_later() -> None:
    fixed = form(("since", "2h")).fixed(NOW)
    later = NOW + timedelta(days=1)

    assert fixed.wanted("", later) == JobFilter(since_ms=NOW_MS - 7_200_000, until_ms=NOW_MS)
    assert form(("until", "1h")).fixed(NOW).wanted("", later).until_ms == NOW_MS - 3_600_000
    # Not after the question.
    assert form(("until", "2031-01-01")).fixed(NOW).wanted("", later).until_ms == NOW_MS


@pytest.mark.parametrize(
    ("pair", "field"),
    [
        (("state", "late"), "state"),
        (("metadata", "tenant"), "metadata"),
        (("metadata", "=7"), "metadata"),
        (("since", "soon"), "since"),
        (("until", "9" * 30), "until"),
        (("metadata", "k" * 70 + "=1"), "metadata"),
    ],
)
def test_a_wrong_part_of_a_filter_is_named(pair: tuple[str, str], field: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        form(pair).wanted("", NOW)

    assert raised.value.field == field


@pytest.mark.parametrize("kind", [kind for kind in EventKind if kind is not EventKind.CALLED])
def test_each_kind_of_event_has_a_text(kind: EventKind) -> None:
    assert event_text(TimelineEvent(NOW_MS, kind, worker="7@host", reason="a reason", until_ms=NOW_MS + 5000))


@pytest.mark.parametrize(
    ("call", "texts"),
    [
        (CallRecord(NOW_MS, 200, 1500), ["HTTP 200", "1.5 s"]),
        (CallRecord(NOW_MS, 0, 20, "connection_error"), ["no response", "connection_error"]),
        (CallRecord(NOW_MS, 429, 20, "rate_limited", 3000, "rate"), ["HTTP 429", "3 s", "rate limit"]),
        (CallRecord(NOW_MS, 200, 20, "", 3000, "of a newer version"), ["3 s"]),
        (CallRecord(NOW_MS, 200, 20, "", 30, "rate"), ["HTTP 200"]),
    ],
)
def test_a_call_says_its_status_its_duration_and_its_wait(call: CallRecord, texts: list[str]) -> None:
    shown = event_text(TimelineEvent(NOW_MS, EventKind.CALLED, call=call))

    assert all(text in shown for text in texts), shown
    assert ("wait" in shown) is (call.waited_ms >= 100)


@pytest.mark.parametrize(
    ("message", "role", "text"),
    [
        ({"role": "user", "content": "Hello"}, "user", "Hello"),
        ({"role": "user", "content": [{"type": "text", "text": "Hi"}]}, "user", '"Hi"'),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "c1"}]}, "assistant", '"c1"'),
        ({"content": "x"}, "", "x"),
    ],
)
def test_each_message_of_a_request_is_shown(message: dict[str, Any], role: str, text: str) -> None:

    (shown_role, shown), rest = messages_of(orjson.dumps({"messages": [message], "model": "mira"}))

    assert (shown_role, text in shown) == (role, True)
    assert '"model": "mira"' in rest[1]


def test_the_id_of_an_output_line_has_its_job() -> None:
    job_id = "6e0956e5-e24f-4a9a-b9d9-907ba2571472"

    assert job_of_line(f"batch_req_{job_id}") == job_of_line(f"batch_req_{job_id}-12") == job_id
    assert job_of_line(job_id) == job_of_line("batch_req_x") == job_of_line(f"batch_req_{job_id}-") == ""


def test_a_line_is_found_in_any_place_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "output.jsonl"
    lines = [b'{"id":"batch_req_%d","text":"%b"}' % (number, b"x" * (number % 90)) for number in range(500)]
    path.write_bytes(b"\n".join(lines) + b'\n{"id":"batch_req_half"')
    for step in (7, 64, 1000, 10**6):
        monkeypatch.setattr("mira_producer.page.jobs.line_search.STEP", step)
        for number in (0, 1, 250, 499):
            assert _find(path, b'"id":"batch_req_%d"' % number) == (number + 1, lines[number])
        assert _find(path, b'"id":"batch_req_half"') is None
        assert _find(path, b'"id":"none"') is None
