"""The belief that processes, and threads of one process, share: nobody's lesson is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
import structlog
from mira_worker.pacing import policy
from mira_worker.pacing.learner import Learner

from mira_queue.contract.pace import Belief, Limit, Told
from mira_queue.ledger.connection import connect
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.pace import Permit, Refusal, call_name
from mira_queue.ledger.records import Lease
from tests.support.ledger_steps import LIFE, ask, running

ACCOUNT = "an-account"
START_MS = 1_000_000_000_000
WINDOW = timedelta(seconds=60)
FLIGHTS = Limit(3, 5_000, START_MS, sure=2)
KNOWN = Belief(in_flight=FLIGHTS, start=4, proven=3)


@pytest.fixture
def ledger(redis_url: str) -> Iterator[Ledger]:
    with connect(redis_url) as client:
        yield Ledger(client, result_ttl=LIFE)


def learner_of(ledger: Ledger, told: Told | None = None) -> Learner:
    return Learner(ledger, ACCOUNT, told or Told(), structlog.get_logger("test"))


def fly(ledger: Ledger, count: int, at_ms: int = 0) -> list[tuple[Lease, Permit]]:
    """So many calls, out one after the other."""
    flying = []
    for index in range(count):
        lease = running(ledger)
        _, (permit,) = ask(ledger, lease, now_ms=START_MS + at_ms + 5 * index)
        assert permit.verdict == "go"
        flying.append((lease, permit))
    return flying


def refuse_last(learner: Learner, flying: list[tuple[Lease, Permit]], wait: timedelta = WINDOW) -> None:
    lease, permit = flying[-1]
    learner.learn(call_name(lease), permit, wait, now_ms=permit.at_ms + 20)


def test_what_one_process_learns_all_believe(ledger: Ledger) -> None:
    ledger.believe(ACCOUNT, 0, replace(KNOWN, in_flight=None, start=8, proven=7))

    refuse_last(learner_of(ledger), fly(ledger, 8))

    in_flight = ledger.belief(ACCOUNT)[1].in_flight
    assert in_flight is not None
    assert (in_flight.most, in_flight.retry_after_ms) == (7, 60_000)


def test_of_two_processes_that_learn_at_once_the_second_learns_on_top(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.believe(ACCOUNT, 0, replace(KNOWN, in_flight=None, start=8, proven=9))
    flying = fly(ledger, 8)
    read_record = ledger.refuse
    rate = Limit(60, 60_000, START_MS, sure=1)
    beliefs = iter([replace(KNOWN, in_flight=FLIGHTS, rate=rate, proven=9)])

    def refuse(*args: object, **options: object) -> Refusal:
        """Between this process's reading and its writing, another one writes."""
        seen = read_record(*args, **options)  # type: ignore[arg-type]
        for belief in beliefs:
            assert ledger.believe(ACCOUNT, seen.version, belief)
        return seen

    monkeypatch.setattr(ledger, "refuse", refuse)
    refuse_last(learner_of(ledger), flying)

    learned = ledger.belief(ACCOUNT)[1]
    assert learned.rate is not None
    assert learned.rate.most == 7
    assert learned.in_flight is not None
    assert learned.in_flight.most == 3


def test_of_two_threads_one_that_looks_for_more_does_not_undo_what_the_other_learns(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.believe(ACCOUNT, 0, replace(KNOWN, in_flight=None, start=4, proven=3))
    learner = learner_of(ledger)
    flying = fly(ledger, 4)
    pace, _ = ask(ledger, running(ledger), told=Told(), now_ms=START_MS + 1_000)
    assert pace.reason == "flights"
    grow = policy.grown

    def grown(belief: Belief, denied: policy.Denied) -> Belief | None:
        """While it is decided whether more may go, a refusal is heard by another thread."""
        found = grow(belief, denied)
        assert found is not None
        refuse_last(learner, flying)
        return found

    monkeypatch.setattr(policy, "grown", grown)
    learner.grow(pace)

    assert ledger.belief(ACCOUNT)[1].in_flight is not None


def test_who_is_held_back_by_a_start_that_is_proven_asks_for_more(ledger: Ledger) -> None:
    ledger.believe(ACCOUNT, 0, replace(KNOWN, in_flight=None, start=4, proven=0))
    fly(ledger, 4)
    pace, _ = ask(ledger, running(ledger), told=Told(), now_ms=START_MS + 1_000)

    assert learner_of(ledger).grow(pace) is True

    assert ledger.belief(ACCOUNT)[1].start == 8


@pytest.mark.parametrize("reason", ["closed", "probe", "told", "tokens", "header", "spacing", "turn", ""])
def test_only_what_was_learned_is_looked_beyond(ledger: Ledger, reason: str) -> None:
    ledger.believe(ACCOUNT, 0, KNOWN)
    pace, _ = ask(ledger, now_ms=START_MS + 10**9)

    assert learner_of(ledger).grow(replace(pace, reason=reason)) is False  # type: ignore[arg-type]

    assert ledger.belief(ACCOUNT)[1] == KNOWN


def test_forgetting_reaches_a_process_that_knew(ledger: Ledger) -> None:
    ledger.believe(ACCOUNT, 0, KNOWN)
    learner = learner_of(ledger)
    fly(ledger, 3)
    pace, _ = ask(ledger, running(ledger), told=Told(), now_ms=START_MS + 1_000)
    assert learner.grow(pace) is True
    ledger.forget_account(ACCOUNT)

    pace, _ = ask(ledger, running(ledger), told=Told(), now_ms=START_MS + 2_000)
    learner.grow(pace)

    assert ledger.belief(ACCOUNT)[1].in_flight is None
