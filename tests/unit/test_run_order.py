"""Output files in the order of the input: all at once, whatever happens, and in bounded memory."""

from __future__ import annotations

import json
import os
import random
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from mira_producer.jsonl.errors import InputError
from mira_producer.jsonl.line_index import LineIndex
from mira_producer.jsonl.result_file import ResultFile
from mira_producer.jsonl.sort import put_in_order


def line(number: int, text: str = "") -> bytes:
    return json.dumps({"custom_id": f"id-{number}", "text": text}).encode() + b"\n"


def indexed(count: int) -> LineIndex:
    index = LineIndex()
    index.add((f"id-{number}", number, "") for number in range(1, count + 1))
    return index


def ordered(path: Path, count: int) -> bool:
    file = ResultFile(path)
    try:
        with indexed(count) as index:
            return put_in_order(file, index)
    finally:
        file.close()


def test_lines_are_put_in_the_order_of_the_input_and_stay_as_they_are(tmp_path: Path) -> None:
    numbers = list(range(1, 2001))
    random.Random(7).shuffle(numbers)
    path = tmp_path / "out"
    path.write_bytes(b"".join(line(number, "x" * (number % 90)) for number in numbers))

    assert ordered(path, 2000)
    assert path.read_bytes() == b"".join(line(number, "x" * (number % 90)) for number in range(1, 2001))
    assert os.listdir(tmp_path) == ["out"]


def test_a_file_of_some_of_the_lines_is_ordered_too_and_loses_its_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(line(9) + b"\n" + line(3) + b"  \n" + line(5))

    assert ordered(path, 10)
    assert path.read_bytes() == line(3) + line(5) + line(9)


@pytest.mark.parametrize("content", [b"", line(1), line(2) + line(4) + line(5)])
def test_a_file_that_is_in_order_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "out"
    path.write_bytes(content)
    file = ResultFile(path)
    before = path.stat().st_ino

    with indexed(5) as index:
        assert not put_in_order(file, index)
    assert (path.read_bytes(), path.stat().st_ino) == (content, before)
    file.close()


def test_the_lock_goes_with_the_file_and_lines_can_be_added_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(line(2) + line(1))
    file = ResultFile(path)
    with indexed(3) as index:
        put_in_order(file, index)

    with pytest.raises(InputError, match="another run is writing it"):
        ResultFile(path)
    file.append([line(3)])
    file.close()
    assert path.read_bytes() == line(1) + line(2) + line(3)


def test_rights_and_a_link_to_the_file_stay(tmp_path: Path) -> None:
    path, link = tmp_path / "real", tmp_path / "link"
    path.write_bytes(line(2) + line(1))
    path.chmod(0o600)
    link.symlink_to(path)

    assert ordered(link, 2)
    assert link.is_symlink()
    assert path.read_bytes() == line(1) + line(2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_a_killed_run_has_left_beside_the_file_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(line(2) + line(1))
    (tmp_path / ".out.new").write_bytes(b"x" * 1000)

    assert ordered(path, 2)
    assert path.read_bytes() == line(1) + line(2)
    assert os.listdir(tmp_path) == ["out"]


FULL_DISK = """
import resource, sys
from pathlib import Path
from mira_producer.jsonl.sort import put_in_order
from mira_producer.jsonl.result_file import ResultFile
from mira_producer.jsonl.errors import StorageFull
from tests.unit.test_run_order import indexed

file = ResultFile(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
with indexed(40) as index:
    try:
        put_in_order(file, index)
    except StorageFull as error:
        print(error.path, error.reason)
"""


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out"
    content = b"".join(line(number, "x" * 50) for number in range(40, 0, -1))
    path.write_bytes(content)
    root = Path(__file__).parents[2]

    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, cwd=root)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{path} File too large\n"
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["out"]


# 100 MB of lines; the process says how much it grew, in KiB.
ORDER = """
import resource, sys
from pathlib import Path
from mira_producer.jsonl.sort import put_in_order
from mira_producer.jsonl.result_file import ResultFile
from tests.unit.test_run_order import indexed

def peak_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

with indexed(100_000) as index:
    before = peak_kib()
    assert put_in_order(ResultFile(Path(sys.argv[1])), index)
print(peak_kib() - before)
"""


def test_a_large_file_is_ordered_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("wb") as file:
        file.writelines(line(number * 7919 % 100_000 + 1, "x" * 1000) for number in range(100_000))
    root = Path(__file__).parents[2]

    done = subprocess.run([sys.executable, "-c", ORDER, str(path)], check=True, capture_output=True, cwd=root)

    assert int(done.stdout) < 12 * 1024
    with path.open("rb") as file:
        assert [json.loads(content)["custom_id"] for content in file] == [f"id-{n}" for n in range(1, 100_001)]
