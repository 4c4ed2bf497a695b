"""The lines that a run has still to send, while answers come in and somebody writes into the input."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from mira_producer.engine.pending_lines import pending_lines
from mira_producer.engine.plan import read_input
from mira_producer.jsonl.errors import InputChanged
from mira_producer.jsonl.line_index import LineIndex

from mira_queue.contract.request import ChatRequest
from mira_queue.contract.request_limits import MIRA_LIMITS


def check(body: object) -> ChatRequest:
    return ChatRequest.checked(body, model="mira", limits=MIRA_LIMITS)  # type: ignore[arg-type]


def write(path: Path, numbers: range, name: str = "id") -> Path:
    entries = ({"custom_id": f"{name}-{number}", "prompt": f"Question {number}"} for number in numbers)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "in.jsonl", range(1, 11))


@pytest.fixture
def index(path: Path) -> Iterator[LineIndex]:
    with LineIndex() as lines:
        read_input(path, check, lines)
        yield lines


def numbers(path: Path, index: LineIndex) -> list[int]:
    return [line.number for line in pending_lines(path, check, index)]


def test_they_are_those_without_an_answer_in_order(path: Path, index: LineIndex) -> None:
    for number in (1, 4, 10):
        index.mark_answered(number)

    assert numbers(path, index) == [2, 3, 5, 6, 7, 8, 9]


def test_a_line_that_is_answered_before_it_is_its_turn_is_left_out(path: Path, index: LineIndex) -> None:
    taken = []
    for line in pending_lines(path, check, index):
        taken.append(line.number)
        if line.number == 3:
            for number in (3, 5, 6, 10):
                index.mark_answered(number)

    assert taken == [1, 2, 3, 4, 7, 8, 9]


def test_lines_that_were_added_since_are_for_the_next_run(path: Path, index: LineIndex) -> None:
    write(path, range(1, 15))

    assert numbers(path, index) == list(range(1, 11))


@pytest.mark.parametrize("change", ["cut", "renamed", "shifted", "rewritten", "broken"])
def test_a_file_whose_lines_are_others_now_is_named(path: Path, index: LineIndex, change: str) -> None:
    if change == "cut":
        write(path, range(1, 9))
    elif change == "renamed":
        write(path, range(1, 11), name="other")
    elif change == "shifted":
        write(path, range(2, 12))
    elif change == "rewritten":
        path.write_bytes(path.read_bytes().replace(b"Question 7", b"Answer 7"))
    else:
        path.write_bytes(path.read_bytes().replace(b'"prompt"', b'"prompt', 1))

    with pytest.raises(InputChanged, match=r"in\.jsonl"):
        numbers(path, index)
