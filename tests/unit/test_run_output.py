"""Output and error files of a run: what a line says, and that only whole lines ever stand in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mira_producer.engine.plan import read_results
from mira_producer.jsonl.errors import FileDamaged, InputError
from mira_producer.jsonl.line_index import LineIndex
from mira_producer.jsonl.remove_errors import remove_errors
from mira_producer.jsonl.result_file import ResultFile
from mira_producer.jsonl.result_line import output_line

from mira_queue.contract.errors import BadRequest, QueueUnavailable, Unreachable
from mira_queue.contract.outcome import Completion, Failure
from tests.support.waiting import wait_until

BODY = {"id": "chatcmpl-1", "object": "chat.completion", "choices": [], "a_new_field": [1]}


def line_of(outcome: Completion | Failure) -> dict[str, Any]:
    written = output_line("0123", "req-1", outcome)
    assert written.endswith(b"}\n")
    assert written.count(b"\n") == 1
    return dict(json.loads(written))


def content(path: Path) -> bytes:
    """What the file holds when a run has opened it."""
    file = ResultFile(path)
    try:
        return path.read_bytes()
    finally:
        file.close()


# --- what a line says ---


def test_an_answer_is_a_line_of_the_batch_format_with_the_whole_body() -> None:
    assert line_of(Completion(text="Hi\nthere", finish_reason="stop", usage={}, body=BODY)) == {
        "id": "batch_req_0123",
        "custom_id": "req-1",
        "response": {"status_code": 200, "request_id": "chatcmpl-1", "body": BODY},
        "error": None,
        "mira": {"job_id": "0123", "calls": 1},
    }


def test_a_refusal_is_a_line_with_the_servers_answer_and_our_code() -> None:
    body = {"detail": "Bad request: model"}
    failure = Failure.from_error(BadRequest("Bad request: model", 400, 1, 0, body))

    assert line_of(failure) == {
        "id": "batch_req_0123",
        "custom_id": "req-1",
        "response": {"status_code": 400, "request_id": None, "body": body},
        "error": {"code": "bad_request", "message": "Bad request: model"},
        "mira": {"job_id": "0123", "calls": 1},
    }


def test_a_refusal_without_a_json_body_is_a_line_with_its_words_as_the_body() -> None:
    response = line_of(Failure("server_error", "HTTP 503 with an empty body", 503))["response"]

    assert response == {"status_code": 503, "request_id": None, "body": {"detail": "HTTP 503 with an empty body"}}


def test_a_call_without_an_answer_is_a_line_without_a_response() -> None:
    line = line_of(Failure.from_error(Unreachable("the connection broke", None, 5, 5)))

    assert line["response"] is None
    assert line["error"] == {"code": "unreachable", "message": "the connection broke"}


# --- whole lines ---


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b'{"a":1}\n', b'{"a":1}\n'),
        (b'{"a":1}\n{"b":', b'{"a":1}\n'),
        (b'{"b":2}', b""),
        (b"1\n" + b"x" * 3_000_000, b"1\n"),
        (b"x" * 3_000_000, b""),
        (b"1\n" + b"x" * (1024 * 1024), b"1\n"),
        (b"1\n" + b"x" * (1024 * 1024 - 1), b"1\n"),
    ],
)
def test_a_half_line_at_the_end_is_cut_off(tmp_path: Path, before: bytes, after: bytes) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(before)

    assert content(path) == after


def test_lines_are_appended_to_those_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "out.jsonl"
    for line in (b"1\n", b"2\n"):
        file = ResultFile(path)
        file.append([line, b"0\n"])
        assert path.read_bytes().endswith(line + b"0\n")
        file.close()

    assert content(path) == b"1\n0\n2\n0\n"


WRITER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from mira_producer.jsonl.remove_errors import remove_errors
from mira_producer.jsonl.result_file import ResultFile

file = ResultFile(Path(sys.argv[1]))
line = b'{"x":"' + b"x" * 100_000 + b'"}' + bytes([10])
while True:
    file.append([line] * 20)
"""


def test_a_run_that_is_killed_while_it_writes_leaves_whole_lines_and_at_most_one_half(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
    try:
        wait_until("it writes", lambda: path.exists() and path.stat().st_size > 4_000_000)
    finally:
        writer.kill()
        writer.wait()

    *whole, _half = path.read_bytes().split(b"\n")
    assert {len(json.loads(line)["x"]) for line in whole} == {100_000}
    assert content(path) == b"".join(line + b"\n" for line in whole)


# --- a run without lines ---


def test_a_file_that_has_got_no_line_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "errors.jsonl"
    path.write_bytes(b"half a line")
    ResultFile(path).close()

    assert not path.exists()


def test_two_runs_of_which_one_removes_the_file_never_write_into_a_file_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"

    def use(number: int) -> int:
        written = 0
        for _ in range(300):
            try:
                file = ResultFile(path)
            except InputError:
                continue
            file.append([b"%d\n" % number])
            assert path.read_bytes() == b"%d\n" % number
            os.truncate(path, 0)
            file.close()
            written += 1
        return written

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(use, range(4))) > 0


# --- files that cannot be written ---

HOLDER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from mira_producer.jsonl.remove_errors import remove_errors
from mira_producer.jsonl.result_file import ResultFile

file = ResultFile(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_file_that_another_run_writes_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        path.write_bytes(b"half a line of the other run")

        with pytest.raises(InputError, match="another run is writing it"):
            ResultFile(path)
        assert path.read_bytes() == b"half a line of the other run"

        holder.kill()
    assert content(path) == b""


def test_a_file_of_a_folder_that_is_none_or_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for path in (tmp_path / "file" / "out.jsonl", tmp_path):
        with pytest.raises(InputError, match=f"^{path}: cannot be written: "):
            ResultFile(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_file_of_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(InputError, match="cannot be written: Permission denied"):
        ResultFile(tmp_path / "out.jsonl")


def test_a_read_only_file_system_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be written: "):
        ResultFile(Path("/proc/out.jsonl"))


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_a_device_is_refused_for_it_remembers_nothing(device: str) -> None:
    with pytest.raises(InputError, match=f"^{device}: cannot be written"):
        ResultFile(Path(device))


FULL_DISK = """
import resource, sys
from pathlib import Path
from mira_producer.jsonl.errors import StorageFull
from mira_producer.jsonl.remove_errors import remove_errors
from mira_producer.jsonl.result_file import ResultFile

path = Path(sys.argv[1])
file = ResultFile(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
line = b"x" * 299 + bytes([10])
file.append([line] * 2)
try:
    file.append([line] * 2)
except StorageFull as error:
    print(error.path, error.reason)
assert path.read_bytes() == line * 2
file.append([line])
assert path.read_bytes() == line * 3
"""


def test_a_full_disk_leaves_no_half_line_and_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{path} File too large\n"


# --- reading them again ---


def read(path: Path, *custom_ids: str) -> LineIndex:
    index = LineIndex()
    index.add((custom_id, number, "") for number, custom_id in enumerate(custom_ids, 1))
    file = ResultFile(path)
    try:
        list(read_results(file, index))
    finally:
        file.close()
    return index


def test_the_lines_of_an_earlier_run_are_answered(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(b'{"custom_id":"b"}\n\n{"custom_id":"c"}\n{"custom_id":"a"')
    with read(path, "a", "b", "c") as index:
        assert [index.is_answered(number) for number in (1, 2, 3)] == [False, True, True]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"no JSON", "not a line of an output or error file"),
        (b"[1]", "not a line of an output or error file"),
        (b'{"prompt": "an input file"}', "not a line of an output or error file"),
        (b'{"custom_id":"z"}', "'z' is not in the input"),
        (b'{"custom_id":"a"}', "'a' is answered twice"),
    ],
)
def test_a_file_that_is_not_of_this_input_is_refused_with_its_line(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(b'{"custom_id":"a"}\n' + line + b"\n")

    with pytest.raises(FileDamaged, match=f"^{path}, line 2") as caught:
        read(path, "a", "b")
    assert (caught.value.path, caught.value.line) == (path, 2)
    assert reason in caught.value.reason


# --- removing lines ---


def test_a_removal_that_fails_leaves_the_file_as_it_was_and_can_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "errors.jsonl"
    path.write_bytes(b"".join(output_line(f"job-{name}", name, Failure("unreachable", "")) for name in "abc"))
    before = path.read_bytes()

    def unavailable(job_ids: list[str]) -> None:
        raise QueueUnavailable("the server is down")

    with pytest.raises(QueueUnavailable):
        remove_errors(path, lambda entry: entry["custom_id"] != "b", unavailable)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["errors.jsonl"]

    removed: list[str] = []
    assert remove_errors(path, lambda entry: entry["custom_id"] != "b", removed.extend) == 2
    assert removed == ["job-a", "job-c"]
    assert [json.loads(line)["custom_id"] for line in path.read_bytes().splitlines()] == ["b"]


def test_an_error_file_without_a_line_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "errors.jsonl"
    path.write_bytes(output_line("job", "a", Failure("unreachable", "")))

    assert remove_errors(path, lambda entry: True, lambda job_ids: None) == 1
    assert not path.exists()
