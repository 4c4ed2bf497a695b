"""Whether the lines of an input have one line each in the output or the error file, and what is said when not."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from mira_producer.cli.app import app
from mira_producer.jsonl.errors import InvalidInput
from mira_producer.jsonl.request_line import identity_of
from mira_producer.jsonl.verify import MAX_EXAMPLES, Verdict, verify
from typer.testing import CliRunner

INPUT = [{"custom_id": "a", "prompt": "1"}, {"prompt": "2"}, {"custom_id": "c", "prompt": "3"}]


def write(path: Path, entries: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


def answers(*custom_ids: str) -> list[dict[str, Any]]:
    return [{"id": "batch_req_1", "custom_id": custom_id, "response": {}, "error": None} for custom_id in custom_ids]


def verdict_of(folder: Path, output: list[Any], errors: list[Any] | None = None) -> Verdict:
    source = write(folder / "in.jsonl", INPUT)
    error_file = None if errors is None else write(folder / "errors.jsonl", errors)
    return verify(source, write(folder / "out.jsonl", output), error_file)


def counts(verdict: Verdict) -> dict[str, int]:
    return {name: problems.count for name, problems in verdict.problems.items() if problems.count}


def test_a_line_each_in_either_file_and_in_any_order_is_complete(tmp_path: Path) -> None:
    verdict = verdict_of(tmp_path, answers("c", "a"), answers("2"))

    assert (verdict.is_complete, verdict.lines, verdict.answered, verdict.failed) == (True, 3, 2, 1)


@pytest.mark.parametrize(
    ("output", "errors", "found"),
    [
        (answers("a"), None, {"missing": 2}),
        (answers("a", "2", "c", "a"), None, {"duplicated": 1}),
        (answers("a", "2", "c"), answers("c"), {"duplicated": 1}),
        (answers("a", "2", "c", "d"), None, {"unknown": 1}),
        ([*answers("a", "2", "c"), [1], {"id": 5}, "text"], None, {"invalid": 3}),
        ([], [], {"missing": 3}),
        (answers("a", "a", "z"), None, {"missing": 2, "duplicated": 1, "unknown": 1}),
    ],
)
def test_what_is_missing_duplicated_unknown_or_invalid_is_counted(
    tmp_path: Path, output: list[Any], errors: list[Any] | None, found: dict[str, int]
) -> None:
    verdict = verdict_of(tmp_path, output, errors)

    assert counts(verdict) == found
    assert not verdict.is_complete


def test_every_fault_is_named_with_its_file_and_line(tmp_path: Path) -> None:
    verdict = verdict_of(tmp_path, [*answers("a", "a", "z"), 1])

    found = [(each.code, each.path, each.line) for problems in verdict.problems.values() for each in problems.first]
    source, output = str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")
    assert found == [
        ("missing", source, 2),
        ("missing", source, 3),
        ("duplicated", output, 2),
        ("unknown", output, 3),
        ("invalid", output, 4),
    ]


def test_half_a_line_at_the_end_is_invalid(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", INPUT)
    (tmp_path / "out.jsonl").write_bytes(json.dumps(answers("a")[0]).encode()[:-4])

    assert counts(verify(source, tmp_path / "out.jsonl", None)) == {"missing": 3, "invalid": 1}


def test_answers_to_other_requests_are_changed_and_lines_without_a_digest_are_compared_by_id(tmp_path: Path) -> None:
    digests = [identity_of(number, json.dumps(entry).encode())[1] for number, entry in enumerate(INPUT, 1)]
    # Line 2 has the answer of line 3, the answer of "c" is of another input, and "a" was written by another tool.
    output = [
        {**entry, "mira": {"request_digest": digest}}
        for entry, digest in zip(answers("2", "c"), [digests[2], "f" * 24], strict=True)
    ]
    verdict = verdict_of(tmp_path, [*answers("a"), *output])

    assert counts(verdict) == {"changed": 2}
    assert [(each.line, each.code) for each in verdict.problems["changed"].first] == [(2, "changed"), (3, "changed")]
    assert (verdict.answered, verdict.moved, verdict.compared_by_id, verdict.is_complete) == (1, 1, 1, False)


def test_packed_files_are_compared_as_plain_ones(tmp_path: Path) -> None:
    for name, entries in (("in", INPUT), ("out", answers("a", "2", "c"))):
        packed = gzip.compress("".join(json.dumps(entry) + "\n" for entry in entries).encode())
        (tmp_path / name).write_bytes(packed)

    assert verify(tmp_path / "in", tmp_path / "out", None).is_complete


def test_only_some_of_many_are_named_and_all_are_counted(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [{"prompt": str(number)} for number in range(500)])
    verdict = verify(source, write(tmp_path / "out.jsonl", answers(*(f"x{number}" for number in range(300)))), None)

    assert counts(verdict) == {"missing": 500, "unknown": 300}
    assert [len(problems.first) for problems in verdict.problems.values()] == [MAX_EXAMPLES, 0, MAX_EXAMPLES, 0, 0]


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ([{"custom_id": 5}], (1, "custom_id", "invalid_request")),
        ([{"custom_id": "a"}, {"custom_id": "a"}], (2, "custom_id", "duplicate_custom_id")),
        ([1], (1, None, "invalid_json_line")),
    ],
)
def test_an_input_that_could_not_be_answered_is_refused(tmp_path: Path, entries: list[Any], found: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        verify(write(tmp_path / "in.jsonl", entries), write(tmp_path / "out.jsonl", []), None)
    assert [(each.line, each.field, each.code) for each in caught.value.problems] == [found]


@pytest.mark.parametrize(("ids", "code", "end"), [("a2c", 0, "3 answered"), ("ac", 1, "1 missing")])
def test_the_command_says_what_it_found_and_its_exit_code_is_for_scripts(
    tmp_path: Path, ids: str, code: int, end: str
) -> None:
    source, output = write(tmp_path / "in.jsonl", INPUT), write(tmp_path / "out.jsonl", answers(*ids))

    said = CliRunner().invoke(app, ["verify", str(source), str(output)])
    as_json = CliRunner().invoke(app, ["verify", str(source), str(output), "--json"])

    assert said.exit_code == code
    assert end in said.stdout.splitlines()[-1]
    assert as_json.exit_code == code
    assert json.loads(as_json.stdout)["complete"] is (code == 0)
    assert json.loads(as_json.stdout)["missing"]["count"] == code
    # These answers have no digests.
    assert json.loads(as_json.stdout)["compared_by_id"] == len(ids)
    assert "only by id" in said.stdout
