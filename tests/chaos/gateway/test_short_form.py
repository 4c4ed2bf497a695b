"""Short form of `make chaos-gateway`: less than a minute, with kills of every part."""

from __future__ import annotations

import pytest

from tests.chaos.gateway import schedule
from tests.chaos.gateway.driver import run_gateway_chaos
from tests.chaos.gateway.options import GatewayOptions
from tests.chaos.gateway.schedule import GatewayFault

# The first faults of a plan are those of the most frequent kinds: kills of the gateway, a worker, and the supervisor.
OPTIONS = GatewayOptions(creates=30, batches=2, lines=20, faults=3, seed=3, minutes=0.2, latency_s=(0.2, 0.8))


@pytest.mark.chaos
@pytest.mark.timeout(480)
def test_nothing_is_lost_or_duplicated_while_the_gateway_is_killed() -> None:
    said: list[str] = []
    score = run_gateway_chaos(OPTIONS, said.append)
    bad = [f"{each.name}: {each.value}, allowed {each.allowed}" for each in score.measures if each.is_bad]
    assert score.is_clean, "\n".join([*bad, *score.remarks, *said])
    assert score.value("faults") == OPTIONS.faults
    assert score.value("creates of a job that returned") == OPTIONS.creates
    assert score.value("batch lines") == OPTIONS.batches * OPTIONS.lines
    assert score.value("objects with a webhook") == OPTIONS.creates + OPTIONS.batches


def test_the_plan_depends_on_the_seed_alone() -> None:
    plans = [schedule.plan(seed, 60) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]


@pytest.mark.parametrize("faults", [0, 3, 10, 60])
def test_a_plan_has_the_requested_number_of_faults_in_order(faults: int) -> None:
    events = schedule.plan(1, faults)
    assert len(events) == faults
    assert [event.at for event in events] == sorted(event.at for event in events)


def test_a_plan_has_every_kind_of_fault() -> None:
    assert {event.fault for event in schedule.plan(1, len(GatewayFault))} == set(GatewayFault)
