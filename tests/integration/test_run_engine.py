"""The engine of a run, as a supervisor uses it: without a console, signals, or workers of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from mira_producer.cost.prices import Prices
from mira_producer.engine.engine import Engine, Hooks
from mira_producer.engine.options import End
from mira_producer.engine.plan import Plan
from mira_producer.engine.stats import Stats
from mira_producer.jsonl.errors import InvalidInput

from mira_queue import MiraQueue
from mira_queue.contract.batch import BatchFiles, BatchOptions, Reason
from mira_queue.contract.names import ACCOUNT_TTL
from tests.support.queue_process import WorkerProcess
from tests.support.run_process import files_in, ids, read_lines, write_lines
from tests.support.simulator_process import SimulatorProcess

PATIENCE = timedelta(seconds=60)


@pytest.fixture
def files(tmp_path: Path, worker: WorkerProcess) -> BatchFiles:
    """Files of a run in the test's folder, whose lines the module's worker answers."""
    return files_in(tmp_path)


@contextmanager
def planned(queue: MiraQueue, files: BatchFiles, options: BatchOptions | None = None) -> Iterator[Plan]:
    plan = Plan(files, options or BatchOptions(), Prices(), queue.check)
    try:
        yield plan
    finally:
        plan.close()


def engine_of(
    queue: MiraQueue,
    plan: Plan,
    shown: list[int] | None = None,
    interrupted: threading.Event | None = None,
    *,
    careful: bool = False,
    tend: Callable[[], None] = lambda: None,
) -> Engine:
    """Return an engine; `shown` gets the number of finished lines whenever the engine shows it."""

    def show(stats: Stats, reason: Reason) -> None:
        if shown is not None:
            shown.append(stats.done)

    hooks = Hooks(show=show, say=lambda text: None, tend=tend)
    # As the supervisor does: the hold of an engine that was drained stays.
    queue.ledger.unhold("a batch", plan.group, queue.accounts.current.id)
    return Engine(queue, plan, hooks, interrupted or threading.Event(), window=50, careful=careful)


def test_an_engine_takes_a_file_to_its_answers_and_errors(
    queue: MiraQueue, files: BatchFiles, simulator: SimulatorProcess
) -> None:
    entries = [{"custom_id": f"{number}", "prompt": f"Question {number}"} for number in range(200)]
    write_lines(files.input, [*entries, {"custom_id": "bad", "prompt": "[[sim:400]]"}])
    shown: list[int] = []

    with planned(queue, files) as plan, closing(engine_of(queue, plan, shown)) as engine:
        assert (plan.index.total, plan.left) == (201, 201)
        assert engine.run() is End.COMPLETE
        assert (engine.open_jobs, plan.left) == (0, 0)

    assert ids(read_lines(files.output)) == ids(entries)
    assert ids(read_lines(files.errors)) == ["bad"]
    assert shown == sorted(shown)
    assert shown[-1] == 201


def test_an_engine_that_was_interrupted_and_drained_leaves_the_rest_to_the_next(
    queue: MiraQueue, files: BatchFiles, simulator: SimulatorProcess
) -> None:
    entries = [{"custom_id": f"{number}", "prompt": f"Question {number}"} for number in range(200)]
    write_lines(files.input, entries)
    simulator.configure(latency_s=0.05)
    interrupted = threading.Event()

    with planned(queue, files) as plan, closing(engine_of(queue, plan, interrupted=interrupted)) as engine:
        threading.Timer(0, interrupted.set).start()
        assert engine.run() is End.INTERRUPTED
        engine.drain(PATIENCE, threading.Event())
        assert engine.open_jobs == 0
        assert plan.left == 200 - len(read_lines(files.output))

    with planned(queue, files) as plan, closing(engine_of(queue, plan)) as engine:
        assert engine.run() is End.COMPLETE
    assert ids(read_lines(files.output)) == ids(entries)
    assert simulator.stats()["calls"] == 200


def test_a_careful_engine_risks_one_line_when_the_account_refuses(
    queue: MiraQueue, files: BatchFiles, simulator: SimulatorProcess
) -> None:
    entries = [{"custom_id": f"{number}", "prompt": f"Question {number}"} for number in range(60)]
    write_lines(files.input, entries)
    simulator.configure(balance_calls=0)

    with planned(queue, files) as plan, closing(engine_of(queue, plan, careful=True)) as engine:
        assert engine.run() is End.ACCOUNT
        engine.drain(PATIENCE, threading.Event())
        assert "(402)" in engine.reason(End.ACCOUNT)
    assert simulator.stats()["calls"] == 1

    assert ids(read_lines(files.errors)) == ["0"]

    simulator.configure(balance_calls=None)
    with planned(queue, files) as plan, closing(engine_of(queue, plan, careful=True)) as engine:
        assert (plan.left, plan.stats.failed_before) == (60, 1)
        plan.retry_errors()
        assert (plan.left, plan.stats.failed_before) == (60, 0)
        # Workers reject jobs of this account without a call, for as long as they remember the error.
        queue.ledger.probe_now(queue.accounts.current.id, ends_waits_over=ACCOUNT_TTL)
        assert engine.run() is End.COMPLETE
    assert ids(read_lines(files.output)) == ids(entries)
    assert not files.errors.exists()


def test_given_up_lines_that_were_refused_keep_the_refusal_for_good(
    queue: MiraQueue, files: BatchFiles, simulator: SimulatorProcess
) -> None:
    write_lines(files.input, [{"custom_id": f"{number}", "prompt": f"Question {number}"} for number in range(60)])
    simulator.configure(balance_calls=0)
    options = BatchOptions(ordered=True)
    with planned(queue, files, options) as plan, closing(engine_of(queue, plan, careful=True)) as engine:
        assert engine.run() is End.ACCOUNT
        engine.drain(PATIENCE, threading.Event())

        engine.give_up("batch_cancelled", "the batch was cancelled")
        assert (plan.left, plan.stats.codes) == (0, {"balance_used_up (402)": 1, "batch_cancelled": 59})

    errors = read_lines(files.errors)
    assert [line["custom_id"] for line in errors] == [str(number) for number in range(60)]
    assert errors[0]["response"]["status_code"] == 402
    assert errors[0]["error"] == {"code": "balance_used_up", "message": "Insufficient balance"}
    with planned(queue, files) as plan:
        plan.retry_errors()
        assert plan.left == 0


def test_an_engine_that_follows_another_on_one_plan_continues_the_counts(
    queue: MiraQueue, files: BatchFiles, simulator: SimulatorProcess
) -> None:
    write_lines(files.input, [{"custom_id": f"{number}", "prompt": f"Question {number}"} for number in range(200)])
    simulator.configure(latency_s=0.05)
    interrupted = threading.Event()

    with planned(queue, files) as plan:
        with closing(engine_of(queue, plan, interrupted=interrupted)) as engine:
            threading.Timer(0, interrupted.set).start()
            assert engine.run() is End.INTERRUPTED
            engine.drain(PATIENCE, threading.Event())
        with closing(engine_of(queue, plan)) as engine:
            assert engine.run() is End.COMPLETE
        assert (plan.stats.succeeded, plan.left) == (200, 0)
    assert simulator.stats()["calls"] == 200


def test_a_plan_of_a_wrong_file_touches_no_other(queue: MiraQueue, files: BatchFiles) -> None:
    write_lines(files.input, [{"prompt": 1}])

    with pytest.raises(InvalidInput, match="line 1, prompt"), planned(queue, files):
        pass
    assert not files.output.exists()


def test_an_engine_whose_command_has_just_been_seen_submits_nothing_more(
    queue: MiraQueue, files: BatchFiles, redis_client: redis.Redis
) -> None:
    write_lines(files.input, [{"custom_id": "only", "prompt": "Hello"}])
    interrupted = threading.Event()
    with planned(queue, files) as plan:
        engine = engine_of(queue, plan, interrupted=interrupted, tend=interrupted.set)

        assert engine.run() is End.INTERRUPTED

        assert redis_client.keys("mira:job:*") == []
