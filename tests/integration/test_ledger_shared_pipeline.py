"""Round trips that threads share: each gets its own answers, whatever happens to the others'."""

from __future__ import annotations

import hashlib
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from mira_queue.contract.errors import InvalidRequest
from mira_queue.ledger.shared_pipeline import Command, SharedPipeline
from tests.support.waiting import wait_until

ECHO = "return ARGV[1]"
ECHO_HASH = hashlib.sha1(ECHO.encode(), usedforsecurity=False).hexdigest()
THREADS, ROUNDS = 16, 100


def echo(text: str) -> Command:
    return ("EVALSHA", ECHO_HASH, 0, text)


@pytest.fixture
def trips(redis_client: redis.Redis) -> SharedPipeline:
    return SharedPipeline(redis_client, [ECHO])


def test_of_many_threads_each_gets_its_own_answers_in_order(trips: SharedPipeline) -> None:
    def ask(number: int) -> bool:
        return all(
            trips.run([echo(f"{number} {turn} a"), echo(f"{number} {turn} b")])
            == [f"{number} {turn} a".encode(), f"{number} {turn} b".encode()]
            for turn in range(ROUNDS)
        )

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(ask, range(THREADS)))


def test_a_refused_command_is_its_own_threads_affair(trips: SharedPipeline) -> None:
    def ask(number: int) -> Any:
        return trips.run([("GET",) if number % 2 else echo("fine")])[0]

    with ThreadPoolExecutor(THREADS) as pool:
        for number, answer in enumerate(pool.map(ask, range(THREADS * ROUNDS))):
            assert isinstance(answer, redis.ResponseError) if number % 2 else answer == b"fine"


def test_a_server_that_has_forgotten_the_scripts_gets_them_again(
    trips: SharedPipeline, redis_client: redis.Redis
) -> None:
    assert trips.run([echo("before")]) == [b"before"]
    redis_client.script_flush()
    assert trips.run([echo("after")]) == [b"after"]


class OnceInterrupted:
    """A pool of connections whose first trip is held up until its companions are there, and then interrupted."""

    def __init__(self, client: redis.Redis) -> None:
        self._pool = client.connection_pool
        self.under_way, self.go_on = threading.Event(), threading.Event()

    def get_connection(self) -> Any:
        if not self.under_way.is_set():
            self.under_way.set()
            self.go_on.wait(60)
            raise KeyboardInterrupt
        return self._pool.get_connection()

    def release(self, connection: Any) -> None:
        self._pool.release(connection)


def test_when_the_thread_that_leads_is_interrupted_the_others_go_on(
    trips: SharedPipeline, redis_client: redis.Redis
) -> None:
    pool = OnceInterrupted(redis_client)
    trips._pool = pool  # type: ignore[assignment]

    def lead() -> None:
        with pytest.raises(KeyboardInterrupt):
            trips.run([echo("interrupted")])

    with ThreadPoolExecutor(3) as threads:
        leader = threads.submit(lead)
        assert pool.under_way.wait(60)
        others = [threads.submit(trips.run, [echo(text)]) for text in ("one", "two")]
        pool.go_on.set()
        leader.result(60)
        assert [other.result(60) for other in others] == [[b"one"], [b"two"]]


def test_a_command_that_cannot_be_written_down_is_its_own_threads_affair(
    trips: SharedPipeline, redis_client: redis.Redis
) -> None:
    pool = OnceInterrupted(redis_client)
    trips._pool = pool  # type: ignore[assignment]
    half_a_letter = "\ud800"

    with ThreadPoolExecutor(4) as threads:
        leader = threads.submit(trips.run, [echo("interrupted")])
        assert pool.under_way.wait(60)
        wrong = threads.submit(trips.run, [echo(half_a_letter)])
        others = [threads.submit(trips.run, [echo(text)]) for text in ("one", "two")]
        wait_until("they go together", lambda: len(trips._waiting) == 3)
        pool.go_on.set()
        assert isinstance(leader.exception(60), KeyboardInterrupt)
        assert isinstance(wrong.exception(60), InvalidRequest)
        assert [other.result(60) for other in others] == [[b"one"], [b"two"]]


def _ask_in_child(trips: SharedPipeline, answers: Any) -> None:
    answers.put(trips.run([echo("child")]))


def test_a_forked_child_goes_its_own_way_though_a_trip_was_under_way(
    trips: SharedPipeline, redis_client: redis.Redis
) -> None:
    pool = OnceInterrupted(redis_client)
    own_pool, trips._pool = trips._pool, pool  # type: ignore[assignment]
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()

    def lead() -> None:
        with pytest.raises(KeyboardInterrupt):
            trips.run([echo("parent")])

    leader = threading.Thread(target=lead)
    leader.start()
    assert pool.under_way.wait(60)
    trips._pool = own_pool
    child = fork.Process(target=_ask_in_child, args=(trips, answers))
    child.start()
    try:
        child.join(60)
        assert child.exitcode == 0
        assert answers.get() == [b"child"]
    finally:
        child.kill()
        pool.go_on.set()
        leader.join(60)
