"""The index of a run's lines: right for every id, and small however many there are."""

from __future__ import annotations

import subprocess
import sys

import pytest
from mira_producer.jsonl.line_index import LineIndex

from mira_queue.contract.errors import InvalidRequest

# Ids as long as a UUID; the process says how much it grew, in KiB.
FILL = """
import resource
from mira_queue.contract.errors import InvalidRequest
from mira_producer.jsonl.line_index import LineIndex

def peak_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

index = LineIndex()
before = peak_kib()
index.add((f"request-{number * 7919 % 200_000:030}", number + 1, f"{number:024x}") for number in range(200_000))
for number in range(1, 200_001, 2):
    index.mark_answered(number)
assert (index.total, index.answered) == (200_000, 100_000)
assert index.number_of(f"request-{7919:030}") == 2
assert index.number_of("request-of-another-file") is None
assert index.is_answered(199_999) and not index.is_answered(200_000)
print(peak_kib() - before)
"""


def test_200_000_lines_are_indexed_in_bounded_memory() -> None:
    grown_kib = int(subprocess.run([sys.executable, "-c", FILL], check=True, capture_output=True, text=True).stdout)

    # The database's cache is 2 MiB; as a dict the same ids take over 30.
    assert grown_kib < 6 * 1024


def test_an_id_is_found_with_its_line_whatever_characters_it_has() -> None:
    ids = ["a", "A", " a", "a\0", "a\0b", "é", "e\u0301", "😀", "'; DROP TABLE line; --", "5", "05", "5.0", "\u2028"]
    with LineIndex() as index:
        index.add((name, number, "") for number, name in enumerate(ids, 1))

        assert [index.number_of(name) for name in ids] == list(range(1, len(ids) + 1))
        assert index.number_of("5.00") is None


def test_an_id_that_is_there_is_refused_with_its_number_and_changes_nothing() -> None:
    with LineIndex() as index:
        index.add([("a", 1, "")])
        with pytest.raises(InvalidRequest, match="line 1") as caught:
            index.add([("a", 2, "")])

        assert (caught.value.field, caught.value.code) == ("custom_id", "duplicate_custom_id")
        assert (index.number_of("a"), index.total) == (1, 1)


def test_a_line_is_answered_once() -> None:
    with LineIndex() as index:
        index.add([("a", 1, ""), ("b", 9, "")])

        assert [index.mark_answered(9), index.mark_answered(9)] == [True, False]
        assert (index.answered, index.is_answered(9), index.is_answered(1)) == (1, True, False)
