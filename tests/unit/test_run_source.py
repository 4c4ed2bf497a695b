"""An input file, packed or plain, and the one line that is said of a file of another kind."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mira_producer.jsonl.errors import InvalidInput
from mira_producer.jsonl.request_line import raw_lines

from mira_queue.contract.problem import Problem

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LINES = b'\xef\xbb\xbf{"prompt": "1"}\r\n\n{"prompt": "3"}\n'
NUMBERED = [(1, b'{"prompt": "1"}'), (3, b'{"prompt": "3"}')]


def file_of(folder: Path, content: bytes) -> Path:
    path = folder / "input.jsonl"
    path.write_bytes(content)
    return path


def refusal(path: Path) -> Problem:
    with pytest.raises(InvalidInput) as caught:
        list(raw_lines(path))
    assert "\n" not in str(caught.value)
    (problem,) = caught.value.problems
    assert (problem.path, problem.line, problem.field) == (str(path), None, None)
    return problem


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress])
def test_a_packed_file_is_its_lines_whatever_it_is_called(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    assert list(raw_lines(file_of(tmp_path, pack(LINES)))) == NUMBERED


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_a_file_of_several_packed_parts_is_one_file(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = file_of(tmp_path, pack(LINES[:20]) + pack(LINES[20:]))

    assert list(raw_lines(path)) == NUMBERED


def test_a_zstd_file_may_begin_with_a_frame_to_skip(tmp_path: Path) -> None:
    skipped = b"\x5a\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"note"

    assert list(raw_lines(file_of(tmp_path, skipped + zstd.compress(LINES)))) == NUMBERED


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_a_packed_file_that_is_cut_off_is_named_in_one_line(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = file_of(tmp_path, pack(LINES * 1000)[:-9])

    assert refusal(path).code == "unreadable_file"


def test_a_packed_file_that_is_broken_in_the_middle_is_named_in_one_line(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(bytes(range(256)) * 1000))
    packed[40:60] = bytes(20)
    path = file_of(tmp_path, b"".join([bytes(packed)]))

    assert refusal(path).code == "unreadable_file"


JSON_LINES = '{"prompt": "1"}\n{"prompt": "2"}\n'


@pytest.mark.parametrize(
    ("content", "keyword"),
    [
        (JSON_LINES.encode("utf-16"), "iconv -f UTF-16 -t UTF-8 "),
        (JSON_LINES.encode("utf-16-le"), "UTF-8"),
        (JSON_LINES.encode("utf-16-be"), "UTF-8"),
        (b"\0\x01\x02\x03 a database", "UTF-8"),
        (b"M\0\x01\x02 a picture", "UTF-8"),
        (gzip.compress(JSON_LINES.encode("utf-16"), mtime=0), "iconv -f UTF-16 -t UTF-8 "),
        (b"\x7fELF\x02\x01\x01\0\0\0\0", "UTF-8"),
        (b"PK\x03\x04anything", "zip archive"),
        (b"PAR1anything", "Parquet"),
        (b"%PDF-1.7\n", "PDF"),
        (b'[{"prompt": "1"}]', "jq -c '.[]' "),
        (b'[\n  {"prompt": "1"}\n]\n', "jq -c '.[]' "),
        (b'{\n  "prompt": "1"\n}\n', "jq -c . "),
        (b'{"custom_id": "a",\n "prompt": "1"}\n', "jq -c . "),
        (b'\xef\xbb\xbf\n{"body": {\n "messages": []}}\n', "jq -c . "),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_line_that_says_what_to_do(
    tmp_path: Path, content: bytes, keyword: str
) -> None:
    path = file_of(tmp_path, content)

    assert refusal(path).code == "invalid_file"
    assert keyword in refusal(path).reason


@pytest.mark.parametrize("content", [b"{,\n", b"{", b'{"prompt": 1,}\n{"prompt": "2"}\n'])
def test_a_wrong_first_line_alone_is_no_other_kind_of_file(tmp_path: Path, content: bytes) -> None:
    assert next(raw_lines(file_of(tmp_path, content)))[0] == 1


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none").code == "unreadable_file"
    assert refusal(tmp_path).code == "unreadable_file"


# 200 MB of lines in some kilobytes; the process says how much it grew, in KiB.
READ = """
import resource, sys
from pathlib import Path
from mira_producer.jsonl.request_line import raw_lines

def peak_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = peak_kib()
assert sum(len(content) for _, content in raw_lines(Path(sys.argv[1]))) == 200 * 999_999
print(peak_kib() - before)
"""


@pytest.mark.parametrize("open_packed", [gzip.open, zstd.open])
def test_a_packed_file_is_read_in_bounded_memory(tmp_path: Path, open_packed: Callable[..., gzip.GzipFile]) -> None:
    path = tmp_path / "input.jsonl"
    with open_packed(path, "wb") as file:
        for _ in range(200):
            file.write(b"x" * 999_999 + b"\n")
    read = subprocess.run([sys.executable, "-c", READ, str(path)], check=True, capture_output=True, text=True)

    assert int(read.stdout) < 24 * 1024
