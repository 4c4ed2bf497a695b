"""The belief that processes, and threads of one process, share: nobody's lesson is lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import structlog
from mira_worker.pacing import growth
from mira_worker.pacing.learner import Learner

from mira_queue.contract.pace import ConfiguredLimits, Estimate, Limit, PaceState, Permit, RateLimitHit
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.pace import call_name
from mira_queue.ledger.records import Lease
from tests.support.ledger_steps import ask, running

ACCOUNT = "an-account"
START_MS = 1_000_000_000_000
WINDOW = timedelta(seconds=60)
IN_FLIGHT = Limit(3, 5_000, START_MS, confirmations=2)
KNOWN = Estimate(in_flight=IN_FLIGHT, start=4, max_accepted=3)


def learner_of(ledger: Ledger, configured: ConfiguredLimits | None = None) -> Learner:
    return Learner(ledger, ACCOUNT, configured or ConfiguredLimits(), structlog.get_logger("test"), lambda: 1_000)


def fly(ledger: Ledger, count: int, at_ms: int = 0) -> list[tuple[Lease, Permit]]:
    """So many calls, out one after the other."""
    in_flight = []
    for index in range(count):
        lease = running(ledger)
        _, (permit,) = ask(ledger, lease, now_ms=START_MS + at_ms + 5 * index)
        assert permit.verdict == "go"
        in_flight.append((lease, permit))
    return in_flight


def refuse_last(learner: Learner, in_flight: list[tuple[Lease, Permit]], wait: timedelta = WINDOW) -> None:
    lease, permit = in_flight[-1]
    learner.learn(call_name(lease), permit, wait, now_ms=permit.at_ms + 20)


def test_what_one_process_learns_all_processes_use(ledger: Ledger) -> None:
    ledger.store_estimate(ACCOUNT, 0, replace(KNOWN, in_flight=None, start=8, max_accepted=7))

    refuse_last(learner_of(ledger), fly(ledger, 8))

    in_flight = ledger.estimate(ACCOUNT)[1].in_flight
    assert in_flight is not None
    assert (in_flight.max_calls, in_flight.retry_after_ms) == (7, 60_000)


def test_of_two_processes_that_learn_at_once_the_second_learns_on_top(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.store_estimate(ACCOUNT, 0, replace(KNOWN, in_flight=None, start=8, max_accepted=9))
    in_flight = fly(ledger, 8)
    read_record = ledger.record_rate_limit
    rate = Limit(60, 60_000, START_MS, confirmations=1)
    beliefs = iter([replace(KNOWN, in_flight=IN_FLIGHT, rate=rate, max_accepted=9)])

    def record(*args: object, **options: object) -> tuple[int, Estimate, RateLimitHit]:
        """Between this process's reading and its writing, another one writes."""
        found = read_record(*args, **options)  # type: ignore[arg-type]
        for estimate in beliefs:
            assert ledger.store_estimate(ACCOUNT, found[0], estimate)
        return found

    monkeypatch.setattr(ledger, "record_rate_limit", record)
    refuse_last(learner_of(ledger), in_flight)

    learned = ledger.estimate(ACCOUNT)[1]
    assert learned.rate is not None
    assert learned.rate.max_calls == 7
    assert learned.in_flight is not None
    assert learned.in_flight.max_calls == 3


def test_of_two_threads_one_that_looks_for_more_does_not_undo_what_the_other_learns(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.store_estimate(ACCOUNT, 0, replace(KNOWN, in_flight=None, start=4, max_accepted=3))
    learner = learner_of(ledger)
    in_flight = fly(ledger, 4)
    pace, _ = ask(ledger, running(ledger), configured=ConfiguredLimits(), now_ms=START_MS + 1_000)
    assert pace.reason == "in_flight"
    grow = growth.grown

    def grown(estimate: Estimate, state: PaceState) -> Estimate | None:
        """While it is decided whether more may go, a 429 is heard by another thread."""
        found = grow(estimate, state)
        assert found is not None
        refuse_last(learner, in_flight)
        return found

    monkeypatch.setattr(growth, "grown", grown)
    learner.wait_ms(pace)

    assert ledger.estimate(ACCOUNT)[1].in_flight is not None


def test_who_is_held_back_by_a_start_that_is_proven_asks_for_more(ledger: Ledger) -> None:
    ledger.store_estimate(ACCOUNT, 0, replace(KNOWN, in_flight=None, start=4, max_accepted=0))
    fly(ledger, 4)
    pace, _ = ask(ledger, running(ledger), configured=ConfiguredLimits(), now_ms=START_MS + 1_000)

    assert learner_of(ledger).wait_ms(pace) == 0

    assert ledger.estimate(ACCOUNT)[1].start == 8


@pytest.mark.parametrize("reason", ["breaker", "probe", "configured", "tokens", "header", "spacing", "turn", ""])
def test_only_what_was_learned_is_looked_beyond(ledger: Ledger, reason: str) -> None:
    ledger.store_estimate(ACCOUNT, 0, KNOWN)
    pace, _ = ask(ledger, now_ms=START_MS + 10**9)

    waits = replace(pace, reason=reason, wait_ms=77)  # type: ignore[arg-type]
    assert learner_of(ledger).wait_ms(waits) == 77

    assert ledger.estimate(ACCOUNT)[1] == KNOWN


def test_forgetting_reaches_a_process_that_knew(ledger: Ledger) -> None:
    ledger.store_estimate(ACCOUNT, 0, KNOWN)
    learner = learner_of(ledger)
    fly(ledger, 3)
    pace, _ = ask(ledger, running(ledger), configured=ConfiguredLimits(), now_ms=START_MS + 1_000)
    assert learner.wait_ms(pace) == 0
    ledger.forget_account(ACCOUNT)

    pace, _ = ask(ledger, running(ledger), configured=ConfiguredLimits(), now_ms=START_MS + 2_000)
    learner.wait_ms(pace)

    assert ledger.estimate(ACCOUNT)[1].in_flight is None


def test_the_expected_limits_are_the_first_estimate_and_what_was_learned_is_kept(ledger: Ledger) -> None:
    expected = ConfiguredLimits(expected_rate=60, expected_window_ms=60_000, expected_in_flight=3)
    learner = learner_of(ledger, expected)
    pace, _ = ask(ledger, now_ms=START_MS)

    assert learner.wait_ms(pace) == 0

    first = ledger.estimate(ACCOUNT)[1]
    assert first.rate is not None
    assert first.in_flight is not None
    assert (first.rate.max_calls, first.rate.window_ms, first.in_flight.max_calls) == (60, 60_000, 3)
    ledger.store_estimate(ACCOUNT, ledger.estimate(ACCOUNT)[0], KNOWN)
    pace, _ = ask(ledger, now_ms=START_MS + 1)
    learner_of(ledger, expected).wait_ms(pace)
    assert ledger.estimate(ACCOUNT)[1] == KNOWN


@pytest.mark.parametrize(("open_jobs", "is_probed"), [(24, False), (1_000, True)])
def test_a_probe_for_more_begins_only_if_enough_jobs_are_left(ledger: Ledger, open_jobs: int, is_probed: bool) -> None:
    ledger.store_estimate(ACCOUNT, 0, replace(KNOWN, call_ms=1_000))
    fly(ledger, 3)
    pace, _ = ask(ledger, running(ledger), configured=ConfiguredLimits(), now_ms=START_MS + 1_000)
    learner = Learner(ledger, ACCOUNT, ConfiguredLimits(), structlog.get_logger("test"), lambda: open_jobs)

    learner.wait_ms(pace)

    in_flight = ledger.estimate(ACCOUNT)[1].in_flight
    assert in_flight is not None
    assert bool(in_flight.step) is is_probed
