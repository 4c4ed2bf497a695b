"""What a report is drawn from survives the supervisor that noted it, and says how long nobody noted anything."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from pathlib import Path

import pytest
from mira_producer.cost.usage import Usage
from mira_producer.report import recorder_file as recording
from mira_producer.report.recorder import Example, Recorder

from mira_queue.contract.outcome import Completion, Failure


class Clock:
    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "record.json"


def noted(monotonic: Clock) -> Recorder:
    """Ten seconds with three answers and an error."""
    recorder = Recorder(monotonic)
    for number in range(3):
        monotonic.now_s += 2
        answer = Completion("Hi", "stop", {}, {}, latency_ms=100 * (number + 1))
        recorder.ended(f"line-{number}", answer, code="", usage=Usage(1, 10, 5, Decimal("0.5")))
    recorder.waits("limit")
    monotonic.now_s += 4
    recorder.ended("line-9", Failure("unreachable", "nobody answered"), code="unreachable")
    return recorder


def test_a_record_that_was_saved_is_drawn_as_it_was(record: Path) -> None:
    recorder = noted(Clock(500))
    recording.save(recorder, record, clock=Clock(10_000))

    found, began_s = recording.saved(record)

    assert began_s == 9_990
    assert found.seconds == 10
    assert found.waited() == {"limit": 4}
    assert [dataclasses.asdict(bucket) for bucket in found.timeline.buckets] == [
        dataclasses.asdict(bucket) for bucket in recorder.timeline.buckets
    ]
    assert sorted(found.slowest) == sorted(recorder.slowest)
    assert found.latencies.quantile(0.5) == recorder.latencies.quantile(0.5)
    assert found.samples == {"unreachable": [Example("line-9", 0, "nobody answered")]}


@pytest.mark.parametrize(("ended", "waited"), [(False, {"limit": 4, "supervisor": 90}), (True, {"limit": 4})])
def test_a_supervisor_that_follows_goes_on_with_it_and_tells_how_long_nobody_was_there(
    record: Path, ended: bool, waited: dict[str, int]
) -> None:
    recording.save(noted(Clock(500)), record, ended=ended, clock=Clock(10_000))

    follower = recording.load(record, since="supervisor", clock=Clock(10_090), monotonic=Clock(3))

    assert follower.seconds == 100
    assert follower.waited() == waited
    follower.ended("line-10", Completion("Hi", "stop", {}, {}, latency_ms=50), code="")
    assert sum(bucket.answers for bucket in follower.timeline.buckets) == 4


@pytest.mark.parametrize("content", [b"", b"{"])
def test_a_record_that_is_broken_is_a_new_one(record: Path, content: bytes) -> None:
    record.write_bytes(content)

    assert recording.load(record, since="supervisor").waited() == {}


def test_where_nothing_was_saved_nothing_is_drawn(record: Path) -> None:
    with pytest.raises(FileNotFoundError):
        recording.saved(record)
