"""Why a run waits, in words; and that looking at the account costs the server next to nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from mira_producer.engine.wait_reason import NOTHING, Watch, message_text, reason_of, reason_text
from mira_producer.text import duration

from mira_queue.contract.batch import Kind, Reason
from mira_queue.contract.errors import QueueUnavailable
from mira_queue.contract.pace import ConfiguredLimits, Estimate, Limit
from mira_queue.ledger.accounts import PaceView

RATE = Limit(max_calls=60, retry_after_ms=60_000, since_ms=1)
IN_FLIGHT = Limit(max_calls=3, retry_after_ms=1_000, since_ms=1)
HOURLY = Limit(max_calls=1000, retry_after_ms=3_600_000, since_ms=1)
CALM = PaceView("account", "", Estimate(), "", timedelta(0), in_flight=0, waiting=0, now_ms=1_000_000)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


@pytest.mark.parametrize(
    ("view", "kind", "keyword"),
    [
        (replace(CALM, in_flight=3), "", ""),
        (CALM, "worker", "worker"),
        (replace(CALM, breaker="limit", open_for=seconds(12), estimate=Estimate(rate=RATE)), "limit", "60 per 60 s"),
        (replace(CALM, breaker="limit", estimate=Estimate(rate=RATE)), "limit", "probing"),
        (replace(CALM, breaker="limit", open_for=seconds(0.2)), "limit", "in 1 s"),
        (replace(CALM, breaker="faults", open_for=seconds(8)), "faults", "in 8 s"),
        (replace(CALM, breaker="faults"), "faults", "unavailable"),
        (
            replace(CALM, waiting=2, in_flight=1, next_in=seconds(12), estimate=Estimate(rate=RATE)),
            "limit",
            "60 per 60 s, next call in 12 s",
        ),
        (replace(CALM, waiting=1, in_flight=2, estimate=Estimate(rate=HOURLY)), "limit", "1,000 per 1 h"),
        (replace(CALM, waiting=1, in_flight=2, next_in=seconds(1)), "learning", "2 in flight"),
    ],
)
def test_the_reason_has_a_kind_and_a_text(view: PaceView, kind: Kind, keyword: str) -> None:
    reason = reason_of(view, 5)

    assert reason.kind == kind
    assert keyword in reason_text(reason)


@pytest.mark.parametrize("view", [replace(CALM, breaker="limit"), replace(CALM, breaker="faults"), CALM])
def test_the_message_of_the_server_belongs_to_the_reason(view: PaceView) -> None:
    view = replace(view, message="HTTP 429: slow down")

    assert "HTTP 429: slow down" in message_text(reason_of(view, 5, resting=1))
    assert message_text(reason_of(replace(view, in_flight=2, breaker=""), 5)) == ""


def test_a_wait_for_a_free_slot_has_no_known_end() -> None:
    view = replace(CALM, waiting=2, in_flight=3, next_in=seconds(1), estimate=Estimate(rate=RATE, in_flight=IN_FLIGHT))

    assert reason_of(view, 5).wait == seconds(0)


def test_without_open_jobs_nothing_waits() -> None:
    assert reason_of(replace(CALM, breaker="limit", open_for=seconds(9)), 0) == NOTHING


@pytest.mark.parametrize(
    ("closed_s", "in_flight", "limit"),
    [
        (0.5, 3, "3 in flight"),
        (0.5, 1, "60 per 60 s"),
        (30, 3, "60 per 60 s"),
        # Such a Retry-After belongs to neither limit, but perhaps to a daily quota: no number is named.
        (3600, 0, ""),
    ],
)
def test_the_limit_that_is_named_is_the_one_that_asks_for_such_a_wait(
    closed_s: float, in_flight: int, limit: str
) -> None:
    estimate = Estimate(rate=RATE, in_flight=IN_FLIGHT)
    view = replace(CALM, breaker="limit", open_for=seconds(closed_s), in_flight=in_flight, estimate=estimate)

    assert reason_of(view, 5).words.partition(": ")[2] == limit


@pytest.mark.parametrize(
    ("configured", "estimate", "in_flight", "text"),
    [
        (ConfiguredLimits(in_flight=2), Estimate(in_flight=IN_FLIGHT), 2, "configured limit: 2 in flight"),
        (ConfiguredLimits(rate=30, window_ms=60_000), Estimate(rate=RATE), 0, "configured limit: 30 per 60 s"),
        (ConfiguredLimits(rate=90, window_ms=60_000), Estimate(rate=RATE), 0, "account limit: 60 per 60 s"),
        (ConfiguredLimits(tokens=5000, tokens_window_ms=60_000), Estimate(), 0, "configured limit: 5,000 tokens per"),
    ],
)
def test_a_configured_limit_is_told_from_the_accounts(
    configured: ConfiguredLimits, estimate: Estimate, in_flight: int, text: str
) -> None:
    view = replace(CALM, waiting=1, in_flight=in_flight, estimate=estimate)

    assert reason_text(reason_of(view, 5, configured=configured)).startswith(text)


def test_jobs_that_wait_for_a_retry_do_not_wait_for_a_worker() -> None:
    assert reason_of(CALM, 5, resting=1).kind == "retry"
    assert "4 jobs" in reason_text(reason_of(CALM, 5, resting=4))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (3599.6, "1 h"),
        (7190, "2 h"),
        (86_399, "1 d"),
        (200_000, "2 d 8 h"),
    ],
)
def test_durations_are_for_people(number: float, words: str) -> None:
    assert duration(number) == words


# --- the watch ---


class World:
    """A clock, and an account that counts who looks."""

    def __init__(self, view: PaceView = CALM) -> None:
        self.now_s = 100.0
        self.view = view
        self.looks = 0
        self.is_up = True
        self.seen: list[Reason] = []
        self.watch = Watch(
            self._look, lambda: 5, seen=lambda view, reason: self.seen.append(reason), clock=lambda: self.now_s
        )

    def _look(self) -> PaceView:
        self.looks += 1
        if not self.is_up:
            raise QueueUnavailable("down")
        return self.view


def test_the_account_is_looked_at_twice_a_second_at_most() -> None:
    world = World()
    for _ in range(1000):
        world.watch.reason()
        world.now_s += 0.01

    assert 19 <= world.looks <= 21
    assert len(world.seen) == world.looks


def test_a_worker_is_missed_only_when_nothing_has_gone_on_for_a_while() -> None:
    world = World()
    assert world.watch.reason() == NOTHING
    world.now_s += 4
    assert world.watch.reason().kind == "worker"
    world.view = replace(CALM, in_flight=1)
    world.now_s += 1
    assert world.watch.reason() == NOTHING
    world.view = CALM
    world.now_s += 1
    assert world.watch.reason() == NOTHING


def test_a_server_that_is_away_is_the_reason_and_no_error() -> None:
    world = World()
    world.is_up = False

    assert world.watch.reason().kind == "server"
