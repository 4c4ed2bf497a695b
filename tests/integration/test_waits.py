"""Waits for finished jobs: many share one subscription, and faults, forks, and cancelled tasks lose none of them."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from mira_queue import AsyncMiraQueue, JobCancelled, JobNotFound, MiraQueue, QueueUnavailable, ResultTimeout
from mira_queue.contract import names
from mira_queue.contract.errors import InvalidRequest, QueueUnusable
from mira_queue.contract.outcome import Outcome, outcome_of_record
from mira_queue.contract.permissions import acl_rules
from mira_queue.contract.settings import Settings
from mira_queue.ledger.connection import connect
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.waits import Wait, Waits
from tests.support.ledger_steps import COMPLETION, FAILURE, LIFE, accepted, claimed, ended
from tests.support.redis_pair import PortServer, Wire
from tests.support.waiting import wait_until

TIMEOUT_S = 60.0
THREAD = "mira-queue-waits"


@pytest.fixture
def waits(ledger: Ledger) -> Iterator[Waits]:
    waits = Waits(ledger)
    yield waits
    waits.close()
    wait_until("the thread has ended", lambda: not listening_threads())


@pytest.fixture
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only announcements end a wait in time."""
    monkeypatch.setattr("mira_queue.ledger.waits.POLL_S", 10 * TIMEOUT_S)


def listening_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


def outcome_of_wait(wait: Wait) -> Outcome:
    return outcome_of_record(wait.result(TIMEOUT_S) or b"")


def finish(ledger: Ledger, job_id: str) -> None:
    assert ledger.finish(claimed(ledger, job_id), COMPLETION)


def wait_for_subscriptions(client: redis.Redis, count: int = 1) -> None:
    wait_until("jobs are listened for", lambda: len(client.pubsub_channels(names.result_key("*"))) == count)


@pytest.mark.usefixtures("no_poll")
def test_one_connection_and_one_thread_serve_many_waits(
    waits: Waits, ledger: Ledger, redis_client: redis.Redis
) -> None:
    job_ids = [accepted(ledger) for _ in range(200)]
    started = [waits.start(job_id) for job_id in job_ids]
    wait_for_subscriptions(redis_client, 200)

    for job_id in job_ids:
        finish(ledger, job_id)

    assert [outcome_of_wait(wait) for wait in started] == [COMPLETION] * 200
    assert len(listening_threads()) == 1
    assert len([each for each in redis_client.client_list() if each["cmd"].endswith("subscribe")]) == 1


@pytest.mark.usefixtures("no_poll")
def test_a_job_that_finished_before_the_wait_began_ends_it(waits: Waits, ledger: Ledger) -> None:
    for outcome in (COMPLETION, FAILURE):
        assert outcome_of_wait(waits.start(ended(ledger, outcome))) == outcome
    with pytest.raises(JobNotFound):
        waits.start("nowhere").result(TIMEOUT_S)


@pytest.mark.usefixtures("no_poll")
def test_waits_for_one_job_end_together_and_a_later_one_after_its_retry_with_the_new_outcome(
    waits: Waits, ledger: Ledger
) -> None:
    held = claimed(ledger, accepted(ledger))
    together = [waits.start(held.job_id) for _ in range(3)]
    ledger.finish(held, FAILURE)
    assert [outcome_of_wait(wait) for wait in together] == [FAILURE] * 3

    assert ledger.retry(held.job_id)
    later = waits.start(held.job_id)
    finish(ledger, held.job_id)

    assert outcome_of_wait(later) == COMPLETION


def test_the_poll_finds_a_job_whose_announcement_was_lost(
    waits: Waits, ledger: Ledger, redis_client: redis.Redis
) -> None:
    job_id = accepted(ledger)
    wait = waits.start(job_id)
    wait_for_subscriptions(redis_client)
    announcements = waits._listener._announcements if waits._listener else None
    assert announcements is not None
    # The subscription ends, and the connection stays: announcements are lost in silence.
    announcements.unsubscribe([job_id])
    wait_for_subscriptions(redis_client, 0)

    finish(ledger, job_id)

    assert wait.result(TIMEOUT_S)


def test_the_thread_ends_when_nobody_waits_and_a_later_wait_starts_another(waits: Waits, ledger: Ledger) -> None:
    for _ in range(2):
        assert waits.start(ended(ledger, COMPLETION)).result(TIMEOUT_S)
        assert listening_threads()
        wait_until("the thread has ended", lambda: not listening_threads())


def test_the_subscription_of_a_wait_that_has_ended_ends_while_others_continue(
    waits: Waits, ledger: Ledger, redis_client: redis.Redis
) -> None:
    ending, staying = accepted(ledger), accepted(ledger)
    wait = waits.start(ending)
    waits.start(staying)
    wait_for_subscriptions(redis_client, 2)

    finish(ledger, ending)

    assert wait.result(TIMEOUT_S)
    wait_for_subscriptions(redis_client, 1)
    ledger.cancel(staying)


def test_a_cancelled_wait_is_forgotten(waits: Waits, ledger: Ledger, redis_client: redis.Redis) -> None:
    wait = waits.start(accepted(ledger))
    wait_for_subscriptions(redis_client)

    assert wait.cancel()

    assert waits.job_ids() == []
    wait_for_subscriptions(redis_client, 0)


def test_an_id_that_is_no_text_is_rejected_and_other_waits_continue(waits: Waits, ledger: Ledger) -> None:
    job_id = accepted(ledger)
    wait = waits.start(job_id)
    with pytest.raises(InvalidRequest):
        waits.start("\ud800")

    finish(ledger, job_id)

    assert wait.result(TIMEOUT_S)


def test_waits_survive_a_restart_of_the_server(tmp_path: Path) -> None:
    with PortServer(tmp_path / "server", appendfsync="always") as server, connect(server.url) as client:
        ledger = Ledger(client, result_ttl=LIFE)
        waits, job_id = Waits(ledger), accepted(ledger)
        wait = waits.start(job_id)
        wait_for_subscriptions(server.client)

        server.kill()
        server.start()
        wait_for_subscriptions(server.client)
        finish(ledger, job_id)

        assert wait.result(TIMEOUT_S)
        waits.close()


@pytest.mark.parametrize("fault", ["reset", "blackhole"])
def test_waits_survive_a_connection_that_breaks(fault: str, redis_url: str, tmp_path: Path) -> None:
    with PortServer(tmp_path / "server") as server, Wire(server.port) as wire, connect(wire.url) as client:
        waits, ledger = Waits(Ledger(client, result_ttl=LIFE)), Ledger(server.client, result_ttl=LIFE)
        job_id = accepted(ledger)
        wait = waits.start(job_id)
        wait_for_subscriptions(server.client)

        wire.reset() if fault == "reset" else wire.blackhole()
        finish(ledger, job_id)
        wire.mend()

        assert wait.result(TIMEOUT_S)
        # The next announcement arrives on a new connection.
        other_id = accepted(ledger)
        other = waits.start(other_id)
        wait_until("it is listened for", lambda: names.result_key(other_id).encode() in server.client.pubsub_channels())
        finish(ledger, other_id)
        assert other.result(TIMEOUT_S)
        waits.close()


def test_without_a_server_all_waits_end_with_an_error_and_later_ones_wait_again(tmp_path: Path) -> None:
    with PortServer(tmp_path / "server", appendfsync="always") as server, connect(server.url) as client:
        ledger = Ledger(client, result_ttl=LIFE)
        waits, job_ids = Waits(ledger), [accepted(ledger) for _ in range(2)]
        started = [waits.start(job_id) for job_id in job_ids]
        wait_for_subscriptions(server.client, 2)
        server.kill()

        errors = [wait.exception(TIMEOUT_S) for wait in started]

        assert [type(error) for error in errors] == [QueueUnavailable] * 2
        assert errors[0] is not errors[1]
        server.start()
        finish(ledger, job_ids[0])
        assert waits.start(job_ids[0]).result(TIMEOUT_S)
        waits.close()


def test_a_user_that_may_not_subscribe_gets_an_error(tmp_path: Path) -> None:
    with PortServer(tmp_path / "server") as server:
        server.client.acl_setuser("mute", enabled=True, passwords=["+secret"], reset=True)
        rules = acl_rules().replace("&celery-task-meta-* ", "").split()
        client: Any = server.client
        client.execute_command("ACL", "SETUSER", "mute", "resetchannels", *rules)
        with connect(server.url.replace("//", "//mute:secret@")) as mute:
            waits = Waits(Ledger(mute, result_ttl=LIFE))
            with pytest.raises(QueueUnusable, match="permission"):
                waits.start("some-id").result(TIMEOUT_S)


# --- the clients ---


def test_a_client_that_is_closed_ends_its_waits(queue: MiraQueue, redis_client: redis.Redis) -> None:
    job_id = accepted(queue.ledger)
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(queue.job(job_id).result) for _ in range(2)]
        wait_for_subscriptions(redis_client)

        queue.close()

        for each in waiting:
            with pytest.raises(QueueUnavailable, match="closed"):
                each.result(TIMEOUT_S)
    wait_until("the thread has ended", lambda: not listening_threads())
    queue.ledger.cancel(job_id)


def _wait_in_child(queue: MiraQueue, job_id: str, texts: Any) -> None:
    texts.put(queue.job(job_id).result(TIMEOUT_S).text)
    queue.close()


def test_a_forked_child_waits_by_itself_and_its_parent_goes_on(queue: MiraQueue, redis_client: redis.Redis) -> None:
    of_parent, of_child = accepted(queue.ledger), accepted(queue.ledger)
    fork = multiprocessing.get_context("fork")
    texts = fork.SimpleQueue()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(queue.job(of_parent).result, TIMEOUT_S)
        wait_for_subscriptions(redis_client)
        child = fork.Process(target=_wait_in_child, args=(queue, of_child, texts))
        child.start()
        try:
            wait_for_subscriptions(redis_client, 2)
            finish(queue.ledger, of_child)
            assert texts.get() == COMPLETION.text
            child.join(TIMEOUT_S)
            assert child.exitcode == 0
        finally:
            child.kill()
        # The child's exit has closed nothing of the parent's.
        finish(queue.ledger, of_parent)
        assert waiting.result(TIMEOUT_S) == COMPLETION


def test_a_wait_that_times_out_has_one_last_look(queue: MiraQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = accepted(queue.ledger)
    # A thread that does not come to it.
    monkeypatch.setattr(queue.waits, "start", lambda _: Wait())
    with pytest.raises(ResultTimeout):
        queue.job(job_id).result(0.05)

    finish(queue.ledger, job_id)

    assert queue.job(job_id).result(0.05) == COMPLETION


def test_a_cancelled_job_ends_its_waits(queue: MiraQueue, redis_client: redis.Redis) -> None:
    job = queue.job(accepted(queue.ledger))
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(job.result, TIMEOUT_S)
        wait_for_subscriptions(redis_client)
        assert job.cancel()
        with pytest.raises(JobCancelled):
            waiting.result(TIMEOUT_S)


def test_tasks_of_several_loops_wait_on_one_client(settings: Settings, redis_client: redis.Redis) -> None:
    queue = AsyncMiraQueue(settings)
    job_ids = [accepted(queue.sync.ledger) for _ in range(20)]

    async def view() -> set[str]:
        return {(await each).text for each in [asyncio.create_task(queue.job(id_).result(60)) for id_ in job_ids]}

    with ThreadPoolExecutor(3) as threads:
        loops = [threads.submit(asyncio.run, view()) for _ in range(3)]
        wait_for_subscriptions(redis_client, 20)
        for job_id in job_ids:
            finish(queue.sync.ledger, job_id)
        assert [loop.result(TIMEOUT_S) for loop in loops] == [{COMPLETION.text}] * 3
    assert len(listening_threads()) == 1
    asyncio.run(queue.close())


def test_a_cancelled_task_leaves_no_wait_and_the_job_continues(settings: Settings) -> None:
    async def view() -> None:
        async with AsyncMiraQueue(settings) as queue:
            job = queue.job(accepted(queue.sync.ledger))
            task = asyncio.create_task(job.result())
            while not queue.sync.waits.job_ids():
                await asyncio.sleep(0.001)

            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

            assert queue.sync.waits.job_ids() == []
            finish(queue.sync.ledger, job.id)
            assert await job.result(TIMEOUT_S) == COMPLETION

    asyncio.run(view())


def test_a_closed_client_ends_the_waits_of_tasks(settings: Settings) -> None:
    async def view() -> None:
        queue = AsyncMiraQueue(settings)
        job_id = accepted(queue.sync.ledger)
        task = asyncio.create_task(queue.job(job_id).result())
        while not queue.sync.waits.job_ids():
            await asyncio.sleep(0.001)
        await queue.close()
        with pytest.raises(QueueUnavailable):
            await task
        queue.sync.ledger.cancel(job_id)

    asyncio.run(view())
