"""Short form of `make chaos`: one to two minutes, with every kind of fault."""

from __future__ import annotations

import pytest

from tests.chaos import schedule
from tests.chaos.driver import run_chaos
from tests.chaos.options import ChaosOptions
from tests.chaos.scorecard import Score
from tests.chaos.system import MiraQueueSystem

# Few slots and slow calls: the work must not end before every kind of fault has had its second. The backlog is small,
# and the seed kills the producer early: a fault without a target would become another SIGKILL of a worker.
OPTIONS = ChaosOptions(
    jobs=700,
    faults=len(schedule.Fault),
    seed=20_437,
    concurrency=8,
    backlog=24,
    batch_share=0.7,
    batch_files=2,
    latency_s=(0.3, 1.3),
    minutes=6,
)


@pytest.mark.chaos
@pytest.mark.timeout(480)
def test_nothing_is_lost_or_duplicated_while_everything_is_killed() -> None:
    said: list[str] = []
    score = run_chaos(OPTIONS, MiraQueueSystem(), said.append)
    assert score.is_clean, _why(score, said)
    assert score.value("single jobs accepted") == OPTIONS.single_jobs
    assert {fault: score.value(f"  {fault}") for fault in schedule.Fault if not score.value(f"  {fault}")} == {}
    assert score.value("acknowledged pauses") == 1


def _why(score: Score, said: list[str]) -> str:
    bad = [
        f"{measure.name}: {measure.value}, allowed {measure.allowed}" for measure in score.measures if measure.is_bad
    ]
    return "\n".join([*bad, *score.remarks, *said])


def test_the_plan_depends_on_the_seed_alone() -> None:
    plans = [schedule.plan(seed, 300) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]


@pytest.mark.parametrize("faults", [0, 1, 3, 18, 300])
def test_a_plan_has_the_requested_number_of_faults(faults: int) -> None:
    events = schedule.plan(1, faults)
    assert len(events) == faults
    assert [event.at for event in events] == sorted(event.at for event in events)


@pytest.mark.parametrize("faults", [len(schedule.Fault), 60, 300])
def test_a_plan_has_every_kind_of_fault(faults: int) -> None:
    assert {event.fault for event in schedule.plan(1, faults)} == set(schedule.Fault)


def test_the_users_own_server_is_spared() -> None:
    events = schedule.plan(1, 300, without=schedule.SERVER_FAULTS)
    assert {event.fault for event in events} == set(schedule.Fault) - schedule.SERVER_FAULTS
