"""Digests of requests: which lines are the same request, and what a plan does about lines that have changed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mira_producer.cost.prices import Prices
from mira_producer.engine.pending_lines import pending_lines
from mira_producer.engine.plan import Plan
from mira_producer.engine.previous_results import used
from mira_producer.engine.result_writer import Finished, ResultWriter
from mira_producer.jsonl.errors import FileDamaged, LinesChanged
from mira_producer.jsonl.request_line import OpenLine, identity_of, parse_line, request_digest
from mira_producer.jsonl.result_line import output_line

from mira_queue.contract.batch import BatchFiles, BatchOptions, OnChanged
from mira_queue.contract.errors import BalanceUsedUp, ContentBlocked
from mira_queue.contract.outcome import Completion, Failure
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.request_limits import MIRA_LIMITS
from mira_queue.runtime.crash_points import CrashPoints
from tests.support.run_process import files_in, ids, read_lines

ANSWER = Completion("text", "stop", {}, {"id": "chatcmpl-1"})


def check(body: object, model: str = "mira") -> ChatRequest:
    return ChatRequest.checked(body, model=model, limits=MIRA_LIMITS)  # type: ignore[arg-type]


def digest_of(entry: dict[str, Any]) -> str:
    return identity_of(1, json.dumps(entry).encode())[1]


# --- the same request ---

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: reversed_keys(value[name]) for name in reversed(value)}
    return [reversed_keys(each) for each in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_the_order_of_the_fields_is_no_part_of_a_request(fields: dict[str, Any]) -> None:
    assert request_digest(fields) == request_digest(reversed_keys(fields))


@given(st.dictionaries(st.text(), VALUES, max_size=3), st.dictionaries(st.text(), VALUES, max_size=3))
def test_different_requests_have_different_digests(one: dict[str, Any], other: dict[str, Any]) -> None:
    for fields in (one, other):
        fields.pop("model", None)
    # As JSON: True and 1 are equal in Python.
    is_same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (request_digest(one) == request_digest(other)) == is_same


def test_the_three_forms_of_a_request_are_the_same_request() -> None:
    messages = [{"role": "user", "content": "Why?"}]

    assert (
        digest_of({"prompt": "Why?", "temperature": 0})
        == digest_of({"temperature": 0, "messages": messages, "model": None})
        == digest_of({"custom_id": "a", "method": "POST", "body": {"messages": messages, "temperature": 0}})
    )
    assert digest_of({"prompt": "Why?", "model": "mira-pro"}) != digest_of({"prompt": "Why?"})


def test_a_default_that_we_add_does_not_change_the_digest() -> None:
    lines = [parse_line(1, b'{"prompt": "Why?"}', lambda body, name=name: check(body, name)) for name in ("a", "b")]  # type: ignore[misc]

    assert lines[0].digest == lines[1].digest
    assert lines[0].request.digest != lines[1].request.digest


def test_a_line_without_a_request_has_an_id_and_no_digest() -> None:
    assert identity_of(3, b'{"custom_id": "a"}') == ("a", "")
    assert identity_of(3, b'{"prompt": ["no text"]}') == ("3", "")


# --- a plan of lines that have changed ---


def planned(
    folder: Path, prompts: Iterable[str], changed: OnChanged = "", *, simulated: bool = False, max_requests: int = 0
) -> Plan:
    """Lines without a custom_id."""
    files = files_in(folder)
    files.input.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in prompts), encoding="utf-8")
    options = BatchOptions(changed=changed, max_requests=max_requests)
    return Plan(files, options, Prices(), check, simulated=simulated)


def answered(folder: Path, prompts: str, *, simulated: bool = False) -> BatchFiles:
    """Every line has its answer, as a run writes it."""
    plan = planned(folder, prompts, simulated=simulated)
    lines = [Finished(f"job-{text}", OpenLine(number, f"{number}"), ANSWER) for number, text in enumerate(prompts, 1)]
    ResultWriter(plan, CrashPoints(None)).write(lines)
    plan.close()
    return plan.files


def pending(plan: Plan) -> list[int]:
    return [line.number for line in pending_lines(plan.files.input, check, plan.index)]


def test_lines_that_have_not_changed_are_answered(tmp_path: Path) -> None:
    answered(tmp_path, "abc")

    plan = planned(tmp_path, "abcd")

    assert (plan.remove_changed(), pending(plan)) == (0, [4])
    plan.close()


def test_an_input_of_other_requests_is_not_answered(tmp_path: Path) -> None:
    answered(tmp_path, "abc")
    plan = planned(tmp_path, "xbz")

    with pytest.raises(LinesChanged) as caught:
        plan.check_changed()

    assert (caught.value.count, caught.value.numbers, caught.value.moved) == (2, (1, 3), 0)
    plan.close()


def test_lines_that_a_new_line_shifted_are_recognized_as_moved(tmp_path: Path) -> None:
    answered(tmp_path, "".join(map(chr, range(ord("a"), ord("a") + 20))))
    plan = planned(tmp_path, "_" + "".join(map(chr, range(ord("a"), ord("a") + 20))))

    with pytest.raises(LinesChanged, match="moved") as caught:
        plan.check_changed()

    assert (caught.value.count, caught.value.numbers, caught.value.moved) == (20, tuple(range(1, 11)), 20)
    plan.close()


def test_changed_lines_run_again_once_and_their_paid_answers_are_saved(tmp_path: Path) -> None:
    files = answered(tmp_path, "abc")
    for _ in range(2):
        # A run that is killed here leaves everything to the next.
        plan = planned(tmp_path, "axc", "rerun")
        assert (plan.left, pending(plan), ids(read_lines(files.output))) == (1, [2], ["1", "2", "3"])
        plan.close()

    plan = planned(tmp_path, "axc", "rerun")
    assert (plan.remove_changed(), plan.left, plan.stats.before) == (1, 1, 2)
    assert plan.remove_changed() == 0
    assert ids(read_lines(files.output)) == ["1", "3"]
    assert [line["mira"]["job_id"] for line in read_lines(plan.replaced_answers)] == ["job-b"]
    plan.close()

    plan = planned(tmp_path, "axc")
    assert (plan.remove_changed(), pending(plan)) == (0, [2])
    plan.close()


def test_answers_that_were_replaced_stay_in_the_budget(tmp_path: Path) -> None:
    answered(tmp_path, "abc")
    plan = planned(tmp_path, "axc", "rerun", max_requests=10)
    assert plan.used_before.requests == 3

    plan.remove_changed()
    plan.close()

    # The next run: the old answer is in another file.
    plan = planned(tmp_path, "axc", max_requests=10)
    assert plan.used_before.requests == used(plan.files, Prices()).requests == 3
    plan.close()


def test_changed_lines_that_keep_their_answers_are_answered(tmp_path: Path) -> None:
    files = answered(tmp_path, "abc")
    plan = planned(tmp_path, "axc", "keep")

    assert (plan.remove_changed(), plan.changed.count, plan.left) == (0, 1, 0)
    assert ids(read_lines(files.output)) == ["1", "2", "3"]
    plan.close()


def test_a_final_error_belongs_to_its_request_and_a_line_that_runs_anyway_does_not_ask(tmp_path: Path) -> None:
    blocked = Failure.from_error(ContentBlocked("no", 422))
    unpaid = Failure.from_error(BalanceUsedUp("no", 402))
    files = files_in(tmp_path)
    files.errors.write_bytes(
        output_line("job-1", "1", blocked, digest="0" * 24)
        + output_line("job-2", "2", unpaid, digest="0" * 24, runs_again=True)
    )
    plan = planned(tmp_path, "ab", "rerun")
    assert (plan.changed.numbers, plan.left) == ([1], 2)

    assert plan.remove_changed() == 1
    plan.retry_errors()

    assert (pending(plan), plan.left, read_lines(files.errors)) == ([1, 2], 2, [])
    assert not plan.replaced_answers.exists()
    plan.close()


def test_lines_of_earlier_versions_are_compared_by_id(tmp_path: Path) -> None:
    files_in(tmp_path).output.write_bytes(output_line("job", "1", ANSWER))

    plan = planned(tmp_path, "ab")

    assert (plan.remove_changed(), pending(plan)) == (0, [2])
    plan.close()


def test_a_line_that_shares_an_answer_has_a_digest_of_its_own(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    # Both send the same bytes.
    entries = [{"model": "mira", "prompt": "a"}, {"prompt": "a"}]
    files.input.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    plan = Plan(files, BatchOptions(dedupe=True), Prices(), check)
    digest = next(pending_lines(files.input, check, plan.index)).request.digest

    ResultWriter(plan, CrashPoints(None)).write([Finished("job", OpenLine(1, "1", digest=digest), ANSWER)])
    plan.close()

    written = [line["mira"]["request_digest"] for line in read_lines(files.output)]
    assert written == [digest_of(entry) for entry in entries]


@pytest.mark.parametrize("simulated", [True, False])
def test_simulated_and_real_answers_never_share_a_file(tmp_path: Path, simulated: bool) -> None:
    files = answered(tmp_path, "a", simulated=simulated)
    before = files.output.read_bytes()

    planned(tmp_path, "ab", simulated=simulated).close()
    with pytest.raises(FileDamaged, match="simulated") as caught:
        planned(tmp_path, "ab", simulated=not simulated)

    assert (caught.value.path, caught.value.line, files.output.read_bytes()) == (files.output, 1, before)
