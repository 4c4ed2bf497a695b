"""Lines of a run's input: what each form becomes, and what is said of a line that is none."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mira_producer.cli.problems import MAX_SHOWN, error_lines
from mira_producer.engine.plan import read_input
from mira_producer.jsonl.errors import MAX_PROBLEMS, InvalidInput
from mira_producer.jsonl.line_index import LineIndex
from mira_producer.jsonl.request_line import MAX_BLANK_BYTES, MAX_LINE_BYTES, InputLine, parse_line, raw_lines

from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.request_limits import MIRA_LIMITS

MESSAGES = [{"role": "user", "content": "Hello"}]
BATCH = {"custom_id": "req-1", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": MESSAGES}}


def check(body: Mapping[str, Any]) -> ChatRequest:
    return ChatRequest.checked(body, model="mira", limits=MIRA_LIMITS)


def parsed(entry: Any, number: int = 7) -> InputLine:
    return parse_line(number, entry if isinstance(entry, bytes) else orjson.dumps(entry), check)


def sent(line: InputLine) -> Any:
    return orjson.loads(line.request.body)


def refusal(entry: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parsed(entry)
    return caught.value


def problem(entry: Any) -> tuple[str, str]:
    """Return the field and the code of what is wrong with this line."""
    error = refusal(entry)
    return error.field, error.code


def invalid(path: Path) -> InvalidInput:
    with LineIndex() as index, pytest.raises(InvalidInput) as caught:
        read_input(path, check, index)
    return caught.value


def problems(path: Path) -> list[tuple[int | None, str | None, str]]:
    """Return the line, the field and the code of every problem of this file."""
    return [(each.line, each.field, each.code) for each in invalid(path).problems]


def written(folder: Path, *lines: Any) -> Path:
    path = folder / "input.jsonl"
    path.write_bytes(b"".join((line if isinstance(line, bytes) else orjson.dumps(line)) + b"\n" for line in lines))
    return path


# --- the forms of a line ---


def test_a_line_of_the_batch_format_is_its_body() -> None:
    line = parsed(BATCH)

    assert (line.number, line.custom_id) == (7, "req-1")
    assert sent(line) == {"model": "mira", "messages": MESSAGES}


def test_method_and_url_of_the_batch_format_may_be_left_out() -> None:
    assert sent(parsed({"custom_id": "a", "body": {"messages": MESSAGES}})) == {"model": "mira", "messages": MESSAGES}


def test_a_bare_request_body_is_a_line_and_its_fields_pass_through() -> None:
    line = parsed({"messages": MESSAGES, "model": "mira-max", "top_p": 0.5, "tools": [{"type": "function"}]})

    assert line.custom_id == "7"
    assert sent(line) == {"model": "mira-max", "messages": MESSAGES, "top_p": 0.5, "tools": [{"type": "function"}]}


def test_a_custom_id_beside_a_bare_body_names_the_line_and_is_not_sent() -> None:
    line = parsed({"custom_id": "mine", "messages": MESSAGES})

    assert line.custom_id == "mine"
    assert "custom_id" not in sent(line)


def test_a_prompt_becomes_a_message_of_the_user_and_keeps_its_other_fields() -> None:
    line = parsed({"prompt": "Hello", "temperature": 0, "custom_id": "p"})

    assert line.custom_id == "p"
    assert sent(line) == {"model": "mira", "messages": MESSAGES, "temperature": 0}


@pytest.mark.parametrize(
    "entry",
    [{"body": {"messages": MESSAGES}}, {"messages": MESSAGES}, {"prompt": "Hello"}],
    ids=["batch", "body", "prompt"],
)
@pytest.mark.parametrize("custom_id", [{}, {"custom_id": None}], ids=["without", "null"])
def test_a_line_without_custom_id_is_named_by_its_number(entry: dict[str, Any], custom_id: dict[str, Any]) -> None:
    assert parsed({**entry, **custom_id}).custom_id == "7"


# --- what is taken off ---


def test_byte_order_mark_carriage_returns_blank_lines_and_a_missing_last_newline_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "1"}\r\n\r\n   \t\n{"prompt": "4"}\r\n\n{"prompt": "6"}')

    assert list(raw_lines(path)) == [(1, b'{"prompt": "1"}'), (4, b'{"prompt": "4"}'), (6, b'{"prompt": "6"}')]


def test_a_byte_order_mark_alone_is_a_blank_line(tmp_path: Path) -> None:
    path = tmp_path / "input.jsonl"
    path.write_bytes(b'\xef\xbb\xbf\r\n{"prompt": "2"}\n')

    assert list(raw_lines(path)) == [(2, b'{"prompt": "2"}')]


def test_line_separators_inside_a_text_do_not_end_the_line(tmp_path: Path) -> None:
    path = tmp_path / "input.jsonl"
    path.write_text(json.dumps({"prompt": "a\u2028b\u0085c\x0bd"}, ensure_ascii=False) + "\n", encoding="utf-8")

    [(number, content)] = raw_lines(path)
    assert sent(parse_line(number, content, check))["messages"][0]["content"] == "a\u2028b\u0085c\x0bd"


def test_a_file_without_line_ends_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "input.jsonl"
    with path.open("wb") as file:
        file.write(b'{"prompt": "fine"}\n')
        file.truncate(MAX_LINE_BYTES * 2)  # sparse: it takes no space

    assert problems(path) == [(2, None, "line_too_long")]


@pytest.mark.parametrize("blank", [b"\n", b" \r\n", b"\t" * 1000 + b"\n"])
def test_many_blank_lines_in_a_row_are_an_error_however_small_they_are_compressed(tmp_path: Path, blank: bytes) -> None:
    path = tmp_path / "input.jsonl.gz"
    many = blank * (3 * MAX_BLANK_BYTES // (2 * len(blank)))
    with gzip.open(path, "wb") as file:
        file.write(b'{"prompt": "fine"}\n' + many)

    ((number, field, code),) = problems(path)

    assert (field, code) == (None, "invalid_file")
    assert number is not None
    assert number * len(blank) <= MAX_BLANK_BYTES + 2 * len(blank)


def test_blank_lines_between_requests_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "input.jsonl"
    path.write_bytes((b'{"prompt": "fine"}' + b"\n" * (MAX_BLANK_BYTES // 2)) * 3)

    assert len(list(raw_lines(path))) == 3


# --- what is wrong with a line ---


def test_bad_json_is_refused_with_its_column() -> None:
    error = refusal(b'{"prompt": "Hello",, }')

    assert (error.field, error.code) == ("line", "invalid_json_line")
    assert "column 20" in error.reason


@pytest.mark.parametrize(
    "content", [b"\xff\xfe{\x00}\x00", b'{"prompt": "\xe9"}', b'{"prompt": "\\ud800"}', b"[" * 5000]
)
def test_what_is_no_utf8_or_no_json_is_refused_as_no_json(content: bytes) -> None:
    assert problem(content) == ("line", "invalid_json_line")
    assert "column " in refusal(content).reason


@pytest.mark.parametrize("value", [[1], "text", 1, None, True, []])
def test_a_line_that_is_no_object_is_refused(value: Any) -> None:
    assert problem(value) == ("line", "invalid_json_line")


def test_an_object_that_is_no_request_is_refused() -> None:
    assert problem({}) == ("line", "missing_required_parameter")


@pytest.mark.parametrize("custom_id", ["", 5, ["a"], {}, False])
def test_a_custom_id_that_is_no_text_is_refused(custom_id: Any) -> None:
    assert problem({**BATCH, "custom_id": custom_id}) == ("custom_id", "invalid_request")


def test_a_custom_id_beyond_512_characters_is_refused() -> None:
    assert parsed({**BATCH, "custom_id": "x" * 512}).custom_id == "x" * 512
    assert problem({**BATCH, "custom_id": "x" * 513}) == ("custom_id", "invalid_request")


def test_a_field_that_the_batch_format_does_not_have_is_refused_under_its_own_name() -> None:
    assert problem({**BATCH, "temperature": 1}) == ("temperature", "unknown_parameter")


@pytest.mark.parametrize("method", ["GET", "post", None, 1])
def test_another_method_is_refused(method: Any) -> None:
    assert problem({**BATCH, "method": method}) == ("method", "invalid_method")


def test_the_url_of_azures_batches_is_accepted() -> None:
    assert parsed({**BATCH, "url": "/chat/completions"}).digest == parsed(BATCH).digest


@pytest.mark.parametrize("url", ["/v1/embeddings", "https://api.vmira.ai/v1/chat/completions", None])
def test_another_url_is_refused(url: Any) -> None:
    assert problem({**BATCH, "url": url}) == ("url", "invalid_url")


@pytest.mark.parametrize("body", [None, [], "text", 1])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    assert problem({**BATCH, "body": body}) == ("body", "invalid_request")


def test_a_prompt_must_be_text_that_is_not_blank_and_stand_alone() -> None:
    for entry in ({"prompt": ["a"]}, {"prompt": " \n"}, {"prompt": "a", "messages": MESSAGES}):
        assert problem(entry) == ("prompt", "invalid_request")


TOO_LONG = [{"role": "user", "content": "x" * 32_001}]


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({**BATCH, "body": {"messages": TOO_LONG}}, "body.messages[0].content"),
        ({**BATCH, "body": {}}, "body.messages"),
        ({**BATCH, "body": {"messages": MESSAGES, "temperature": "hot"}}, "body.temperature"),
        ({**BATCH, "body": {"messages": MESSAGES, "stream": None}}, "body.stream"),
        ({"messages": TOO_LONG}, "messages[0].content"),
        ({"messages": MESSAGES * 201}, "messages"),
        ({"messages": [{"role": 1, "content": "a"}]}, "messages[0].role"),
        ({"messages": MESSAGES, "max_tokens": -1}, "max_tokens"),
        ({"prompt": "x" * 32_001}, "messages[0].content"),
    ],
)
def test_a_field_over_its_limit_is_named_by_its_place_in_the_line(entry: Any, field: str) -> None:
    assert refusal(entry).field == field


def test_a_body_over_12_mib_is_refused_as_the_body() -> None:
    body = {"messages": MESSAGES, "user": "x" * (12 * 1024 * 1024)}

    assert problem({**BATCH, "body": body}) == ("body", "invalid_request")


# --- a whole file ---


def test_a_custom_id_may_stand_only_once(tmp_path: Path) -> None:
    path = written(tmp_path, {"custom_id": "a", "prompt": "1"}, {"prompt": "2"}, {"custom_id": "a", "prompt": "3"})

    error = invalid(path)
    assert problems(path) == [(3, "custom_id", "duplicate_custom_id")]
    assert (error.count, error.lines) == (1, 3)
    assert "line 1" in error.problems[0].reason


@pytest.mark.parametrize(("named", "clashing", "other"), [(2, 5, 2), (8, 8, 5)])
def test_a_custom_id_that_is_the_number_of_a_line_without_one_is_a_clash(
    tmp_path: Path, named: int, clashing: int, other: int
) -> None:
    entries: list[dict[str, Any]] = [{"prompt": str(number)} for number in range(1, 10)]
    entries[named - 1]["custom_id"] = "5"
    path = written(tmp_path, *entries)

    assert problems(path) == [(clashing, "custom_id", "duplicate_custom_id")]
    assert f"line {other}" in invalid(path).problems[0].reason


def test_every_wrong_line_is_named_with_file_line_and_field(tmp_path: Path) -> None:
    path = written(tmp_path, {"prompt": "fine"}, b"{", b"", {"prompt": 1}, {**BATCH, "body": {"messages": TOO_LONG}})

    assert problems(path) == [
        (2, None, "invalid_json_line"),
        (4, "prompt", "invalid_request"),
        (5, "body.messages[0].content", "invalid_request"),
    ]
    said = error_lines(invalid(path))
    assert said[1].startswith(f"{path}, line 4, prompt: ")
    assert said[3].startswith("3 of 4 lines")


@pytest.mark.parametrize("wrong", [MAX_SHOWN, MAX_SHOWN + 1, MAX_PROBLEMS + 1])
def test_every_problem_is_a_value_and_the_terminal_shows_twenty(tmp_path: Path, wrong: int) -> None:
    path = written(tmp_path, *([b"no JSON"] * wrong), {"prompt": "fine"})

    error = invalid(path)
    said = error_lines(error)
    assert (error.count, len(error.problems)) == (wrong, min(wrong, MAX_PROBLEMS))
    assert len([line for line in said if ", line " in line]) == MAX_SHOWN
    assert said[-1].startswith(f"{wrong:,} of {wrong + 1:,} lines")
    more = [f"... and {wrong - MAX_SHOWN:,} more"] if wrong > MAX_SHOWN else []
    assert said[MAX_SHOWN:-1] == more


def test_a_duplicate_counts_as_a_wrong_line_and_not_as_a_request(tmp_path: Path) -> None:
    path = written(tmp_path, *[{"custom_id": "same", "prompt": "a"}] * 4)

    error = invalid(path)
    assert (error.count, error.lines) == (3, 4)


@pytest.mark.parametrize("content", [b"", b"\n\r\n  \n", b"\xef\xbb\xbf"])
def test_a_file_without_requests_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "input.jsonl"
    path.write_bytes(content)

    assert problems(path) == [(None, None, "empty_file")]


# --- whatever the line ---

names = st.sampled_from(
    ["custom_id", "method", "url", "body", "prompt", "messages", "model", "temperature", "role", "content", "x"]
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["POST", "user", BATCH["url"]]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
    max_leaves=12,
)
contents = st.one_of(
    st.binary(max_size=60),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(names, json_values, max_size=5).map(lambda value: json.dumps(value).encode()),
    st.integers(1, 1100).map(lambda depth: b'{"messages":' * depth + b"1" + b"}" * depth),
    st.integers(1, 1100).map(lambda depth: b'{"prompt":"a","x":' + b"[" * depth + b"]" * depth + b"}"),
)


@given(contents)
@example(b'{"body":{"messages":[{"role":"user","content":"a"}],"x":1e999}}')
@example(b'{"custom_id":"\\u0000","prompt":"a"}')
@example(b'{"prompt":"\\u0000"}')
def test_whatever_stands_in_a_line_it_is_a_request_or_an_invalid_one(content: bytes) -> None:
    try:
        line = parse_line(1, content, check)
    except InvalidRequest:
        return
    assert isinstance(orjson.loads(line.request.body)["messages"], list)


@settings(max_examples=50)
@given(st.lists(contents.filter(lambda content: b"\n" not in content), max_size=8))
def test_whatever_stands_in_a_file_it_is_planned_or_refused_with_its_lines_counted(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    path = written(tmp_path_factory.getbasetemp(), *lines)
    with LineIndex() as index:
        try:
            read_input(path, check, index)
        except InvalidInput as error:
            refused = error
        else:
            assert index.total == len(list(raw_lines(path)))
            return
    assert len(refused.problems) == refused.count >= 1
    if refused.lines:
        assert refused.lines == len(list(raw_lines(path)))


def test_a_letter_of_another_encoding_is_said_to_be_so_with_its_place() -> None:
    error = refusal(b'{"prompt": "caf\xe9"}')

    assert error.code == "invalid_json_line"
    assert "UTF-8 at column 16" in error.reason
