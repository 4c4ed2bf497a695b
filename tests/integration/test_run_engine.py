"""The engine of a run, as whoever keeps batches uses it: no console, no signals, no workers of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from mira_producer.engine.engine import Engine
from mira_producer.engine.options import End, EngineOptions
from mira_producer.engine.stats import Stats
from mira_producer.engine.wait_reason import Reason
from mira_producer.jsonl.errors import InvalidInput

from mira_queue import MiraQueue
from tests.support.queue_process import WorkerProcess
from tests.support.run_process import ANSWERS, ERRORS, ids, read_lines, write_lines
from tests.support.simulator_process import SimulatorProcess

PATIENCE = timedelta(seconds=60)


@pytest.fixture
def options(tmp_path: Path, worker: WorkerProcess) -> EngineOptions:
    """Of a run in the test's folder, whose lines the module's worker answers."""
    source, output, errors = (tmp_path / name for name in ("input.jsonl", ANSWERS, ERRORS))
    return EngineOptions(source, output, errors, group="test", window=50)


@contextmanager
def engine_of(
    queue: MiraQueue, options: EngineOptions, shown: list[int] | None = None, interrupted: threading.Event | None = None
) -> Iterator[Engine]:
    """`shown` gets the number of lines that were done whenever the engine shows it."""
    interrupted = interrupted or threading.Event()

    def show(stats: Stats, reason: Reason) -> None:
        if shown is not None:
            shown.append(stats.done)

    engine = Engine(
        queue,
        options,
        show=show,
        say=lambda text: None,
        tend=lambda: None,
        pace=lambda: queue.ledger.pace_view("nobody"),
        interrupted=interrupted,
    )
    try:
        yield engine
    finally:
        engine.close()


def test_an_engine_takes_a_file_to_its_answers_and_errors(
    queue: MiraQueue, options: EngineOptions, simulator: SimulatorProcess
) -> None:
    entries = [{"custom_id": f"{number}", "prompt": f"Question {number}"} for number in range(200)]
    write_lines(options.input, [*entries, {"custom_id": "bad", "prompt": "[[sim:400]]"}])
    shown: list[int] = []

    with engine_of(queue, options, shown) as engine:
        plan = engine.plan()
        assert (plan.index.total, plan.left) == (201, 201)
        assert engine.run() is End.COMPLETE
        assert (engine.open, plan.left) == (0, 0)

    assert ids(read_lines(options.output)) == ids(entries)
    assert ids(read_lines(options.errors)) == ["bad"]
    assert shown == sorted(shown)
    assert shown[-1] == 201


def test_an_engine_that_was_interrupted_and_drained_leaves_the_rest_to_the_next(
    queue: MiraQueue, options: EngineOptions, simulator: SimulatorProcess
) -> None:
    entries = [{"custom_id": f"{number}", "prompt": f"Question {number}"} for number in range(200)]
    write_lines(options.input, entries)
    simulator.configure(latency_s=0.05)
    interrupted = threading.Event()

    with engine_of(queue, options, interrupted=interrupted) as engine:
        plan = engine.plan()
        threading.Timer(0, interrupted.set).start()
        assert engine.run() is End.INTERRUPTED
        engine.drain(PATIENCE, threading.Event())
        assert engine.open == 0
        assert plan.left == 200 - len(read_lines(options.output))

    with engine_of(queue, options) as engine:
        engine.plan()
        assert engine.run() is End.COMPLETE
    assert ids(read_lines(options.output)) == ids(entries)
    assert simulator.stats()["calls"] == 200


def test_a_careful_engine_risks_one_line_when_the_account_refuses(
    queue: MiraQueue, options: EngineOptions, simulator: SimulatorProcess
) -> None:
    entries = [{"custom_id": f"{number}", "prompt": f"Question {number}"} for number in range(60)]
    write_lines(options.input, entries)
    simulator.configure(balance_calls=0)

    with engine_of(queue, replace(options, careful=True)) as engine:
        engine.plan()
        assert engine.run() is End.ACCOUNT
        engine.drain(PATIENCE, threading.Event())
        assert engine.account_error is not None
        assert engine.account_error.status == 402
    assert simulator.stats()["calls"] == 1

    assert ids(read_lines(options.errors)) == ["0"]

    simulator.configure(balance_calls=None)
    with engine_of(queue, replace(options, careful=True)) as engine:
        plan = engine.plan()
        assert (plan.left, plan.stats.failed_before) == (60, 1)
        plan.retry_errors()
        assert (plan.left, plan.stats.failed_before) == (60, 0)
        assert engine.run() is End.COMPLETE
    assert ids(read_lines(options.output)) == ids(entries)
    assert not options.errors.exists()


def test_given_up_lines_that_were_refused_keep_the_refusal_for_good(
    queue: MiraQueue, options: EngineOptions, simulator: SimulatorProcess
) -> None:
    write_lines(options.input, [{"custom_id": f"{number}", "prompt": f"Question {number}"} for number in range(60)])
    simulator.configure(balance_calls=0)
    with engine_of(queue, replace(options, careful=True, ordered=True)) as engine:
        plan = engine.plan()
        assert engine.run() is End.ACCOUNT
        engine.drain(PATIENCE, threading.Event())

        engine.give_up("batch_cancelled", "not run", "billed")
        assert (plan.left, plan.stats.codes) == (0, {"balance_used_up (402)": 1, "batch_cancelled": 59})

    errors = read_lines(options.errors)
    assert [line["custom_id"] for line in errors] == [str(number) for number in range(60)]
    assert errors[0]["response"]["status_code"] == 402
    assert errors[0]["error"] == {"code": "balance_used_up", "message": "Insufficient balance"}
    with engine_of(queue, options) as engine:
        plan = engine.plan()
        plan.retry_errors()
        assert plan.left == 0


def test_an_engine_refuses_a_wrong_file_before_it_touches_another(queue: MiraQueue, options: EngineOptions) -> None:
    write_lines(options.input, [{"prompt": 1}])

    with engine_of(queue, options) as engine, pytest.raises(InvalidInput, match="line 1, prompt"):
        engine.plan()
    assert not options.output.exists()
