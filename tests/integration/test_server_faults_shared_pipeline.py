"""Threads share round trips: none hangs on another one's fault, and none waits twice for a server that is away."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from mira_queue.contract.errors import QueueUnavailable
from mira_queue.ledger.connection import PRODUCER_PATIENCE, connect
from mira_queue.ledger.ledger import Ledger
from tests.support.ledger_steps import ACCOUNT
from tests.support.redis_pair import PortServer, Wire
from tests.support.waiting import wait_until

PAGE = timedelta(minutes=1)
# A trip into a black hole ends after two tries of four seconds each; a third one does not fit.
ONE_TRIP_S = 11.5


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    with PortServer(tmp_path / "server") as server, Wire(server.port) as wire:
        yield wire


@pytest.fixture
def ledger(wire: Wire) -> Ledger:
    return Ledger(connect(wire.url, PRODUCER_PATIENCE), result_ttl=PAGE)


def ask(ledger: Ledger) -> object:
    return ledger.claim(ACCOUNT, "nobody", PAGE)


def seconds_until_unavailable(ledger: Ledger) -> float:
    began_s = time.monotonic()
    with pytest.raises(QueueUnavailable):
        ask(ledger)
    return time.monotonic() - began_s


def test_who_comes_while_a_trip_is_stuck_waits_no_longer_than_that_trip(ledger: Ledger, wire: Wire) -> None:
    ask(ledger)
    wire.blackhole()
    with ThreadPoolExecutor(6) as threads:
        waits = [threads.submit(seconds_until_unavailable, ledger) for _ in range(6)]
        assert max(wait.result() for wait in waits) < ONE_TRIP_S
    wire.mend()
    assert ask(ledger)


def test_a_thread_that_is_interrupted_while_it_waits_leaves_the_others_a_way_on(ledger: Ledger, wire: Wire) -> None:
    ask(ledger)
    trips = ledger._pipeline
    wire.blackhole()

    def interrupt_us() -> None:
        wait_until("we wait", lambda: trips._waiting)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with ThreadPoolExecutor(2) as threads:
        stuck = threads.submit(seconds_until_unavailable, ledger)
        wait_until("a trip is under way", lambda: trips._is_busy and not trips._waiting)
        interrupting = threads.submit(interrupt_us)
        with pytest.raises(KeyboardInterrupt):
            ask(ledger)
        wire.mend()
        interrupting.result()
        with suppress(AssertionError, pytest.fail.Exception):
            stuck.result()  # It may have come through, on a connection of its own.
        assert threads.submit(ask, ledger).result(ONE_TRIP_S)
