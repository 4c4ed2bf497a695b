"""Who submits a batch, keeps it or asks for a retry dies exactly here. Each test is a row in docs/states.md."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from mira_producer.batches.lock import SupervisorLock
from mira_producer.processes import environment_of

from mira_queue import MiraQueue
from mira_queue.contract import names
from mira_queue.contract.batch import BatchOptions, BatchStatus
from mira_queue.contract.commands import Cancel, Command, Pause, Resume
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.names import Lane
from mira_queue.contract.settings import Settings
from tests.conftest import StartWorker
from tests.support.batch_steps import (
    at,
    end_supervisors,
    entries,
    every_line_once,
    paused,
    results,
    submitted,
    supervisors,
)
from tests.support.cli_process import COMMAND
from tests.support.crash_matrix import row, wait_for_calls
from tests.support.run_process import read_lines, write_lines
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

LINES = 60
SUPERVISOR = (sys.executable, "-m", "mira_producer.batches")

# Runs the command with a point armed, and sees it die there.
DieAt = Callable[..., None]


@pytest.fixture
def batches(queue: MiraQueue) -> Iterator[MiraQueue]:
    """The queue; its supervisors end with the test."""
    yield queue
    end_supervisors(queue)


@pytest.fixture
def die_at(settings: Settings, tmp_path: Path) -> DieAt:
    def die(crash_at: str, *command: str, **more: object) -> None:
        told = {**environment_of(settings), "MIRA_CRASH_AT": crash_at, **{k: str(v) for k, v in more.items()}}
        ended = subprocess.run(command or SUPERVISOR, env={**os.environ, **told}, cwd=tmp_path, timeout=60)
        assert ended.returncode == -signal.SIGKILL

    return die


@pytest.fixture
def batch_id(batches: MiraQueue, tmp_path: Path) -> str:
    """A batch that nobody keeps yet."""
    return unsupervised(batches, lambda: submitted(batches, tmp_path, entries(LINES)))


def unsupervised(queue: MiraQueue, ask: Callable[[], str]) -> str:
    """What is asked of batches here starts no supervisor."""
    lock = SupervisorLock(queue.batches.spool, queue.redis_url)
    wait_until("nobody keeps it", lock.take)
    try:
        return ask()
    finally:
        lock.release()


def commands(queue: MiraQueue, batch_id: str, command: Command) -> None:
    queue.ledger.send_command(batch_id, command)


def late(queue: MiraQueue, folder: Path, between: Callable[[], None] = lambda: None) -> str:
    """A batch whose deadline has passed before anybody kept it, or after `between`."""
    write_lines(folder / "input.jsonl", entries(LINES))
    # Far enough for a supervisor to start on a busy machine; then it is moved into the past.
    options = BatchOptions(deadline_s=int(time.time()) + 600)
    batch_id = unsupervised(queue, lambda: queue.batches.submit(folder / "input.jsonl", options=options).id)
    between()
    batch = queue.ledger.batch(batch_id)
    queue.ledger.write_batch(replace(batch, options=replace(options, deadline_s=int(time.time()) - 1)))
    return batch_id


def codes(folder: Path) -> Counter[str]:
    return Counter(line["error"]["code"] for line in read_lines(folder / "errors.jsonl"))


def completes(queue: MiraQueue, batch_id: str, folder: Path, simulator: SimulatorProcess, calls: int = LINES) -> None:
    """The next supervisor, which the next command about the batch starts, brings it to its end."""
    batch = at(queue, batch_id, BatchStatus.COMPLETED)
    answers, errors = results(queue, batch_id, folder)
    every_line_once(answers, errors, LINES)
    assert (batch.answered, batch.failed) == (LINES, 0)
    assert simulator.stats()["calls"] == calls


@row("`mira-queue submit`", "after it has copied the input, before the batch is in the ledger")
def test_a_copy_that_nobody_knows_of_is_no_batch_and_goes_with_its_time(
    batches: MiraQueue, die_at: DieAt, simulator: SimulatorProcess, start_worker: StartWorker, tmp_path: Path
) -> None:
    write_lines(tmp_path / "input.jsonl", entries(LINES))
    die_at(CrashPoint.AFTER_COPY, COMMAND, "submit", "input.jsonl")
    [(orphan, _)] = batches.batches.spool.ids()
    assert batches.batches.all() == []

    start_worker()
    # Of another queue: whether anybody knows it is not ours to say.
    spool = batches.batches.spool
    foreign = spool.receive("batch_foreign", tmp_path / "input.jsonl", "another queue").input.parent
    for folder in (spool.folder(orphan), foreign):
        os.utime(folder, (0, 0))
    batch_id = submitted(batches, tmp_path, entries(LINES))

    completes(batches, batch_id, tmp_path, simulator)
    assert {each for each, _ in spool.ids()} == {batch_id, "batch_foreign"}


@row("`mira-queue submit`", "after the batch is in the ledger, before it has started a supervisor")
def test_a_batch_that_was_never_kept_is_kept_when_somebody_asks_for_it(
    batches: MiraQueue, die_at: DieAt, simulator: SimulatorProcess, start_worker: StartWorker, tmp_path: Path
) -> None:
    write_lines(tmp_path / "input.jsonl", entries(LINES))
    die_at(CrashPoint.AFTER_SUBMIT, COMMAND, "submit", "input.jsonl")
    [batch] = batches.ledger.batches()
    assert (batch.status, supervisors(batches)) == (BatchStatus.VALIDATING, [])

    start_worker()

    completes(batches, batch.id, tmp_path, simulator)


@row("supervisor", "while it checks the input")
def test_a_batch_whose_supervisor_died_while_it_checked_it_is_checked_again(
    batches: MiraQueue,
    batch_id: str,
    die_at: DieAt,
    simulator: SimulatorProcess,
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    die_at(CrashPoint.AFTER_CHECK)
    assert batches.ledger.batch(batch_id).status is BatchStatus.VALIDATING

    start_worker()

    completes(batches, batch_id, tmp_path, simulator)


@row("supervisor", "after lines are submitted, before their messages are sent")
def test_lines_that_a_dead_supervisor_had_handed_in_are_found_by_the_next(
    account: str,
    batches: MiraQueue,
    batch_id: str,
    die_at: DieAt,
    redis_client: redis.Redis,
    simulator: SimulatorProcess,
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    die_at(CrashPoint.AFTER_ACCEPT)
    assert redis_client.zcard(names.queued_key(account, Lane.BULK)) == LINES
    assert redis_client.llen(names.messages_key(account, Lane.BULK)) == 0

    start_worker(resend_after=1)

    completes(batches, batch_id, tmp_path, simulator)


@row("supervisor", "after answers have arrived, before their lines are written")
def test_answers_that_a_dead_supervisor_had_taken_are_written_by_the_next(
    batches: MiraQueue,
    batch_id: str,
    die_at: DieAt,
    simulator: SimulatorProcess,
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    start_worker()
    die_at(CrashPoint.BEFORE_LINES)
    assert read_lines(batches.batches.spool.files(batch_id).output) == []

    completes(batches, batch_id, tmp_path, simulator)


@row("supervisor", "after lines are written, before their jobs are deleted")
def test_lines_that_a_dead_supervisor_had_written_are_not_written_again(
    batches: MiraQueue,
    batch_id: str,
    die_at: DieAt,
    simulator: SimulatorProcess,
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    start_worker()
    die_at(CrashPoint.AFTER_LINES)
    assert read_lines(batches.batches.spool.files(batch_id).output) != []

    completes(batches, batch_id, tmp_path, simulator)


@row("supervisor", "between the two files that it sorts")
def test_files_that_a_dead_supervisor_was_putting_in_order_are_in_order_in_the_end(
    batches: MiraQueue, die_at: DieAt, simulator: SimulatorProcess, start_worker: StartWorker, tmp_path: Path
) -> None:
    simulator.configure(latency_s=[0, 0.1])
    lines = [
        {**entry, "prompt": "[[sim:moderation]]"} if number % 3 else entry
        for number, entry in enumerate(entries(LINES))
    ]
    write_lines(tmp_path / "input.jsonl", lines)
    options = BatchOptions(ordered=True)
    batch_id = unsupervised(batches, lambda: batches.batches.submit(tmp_path / "input.jsonl", options=options).id)
    start_worker()
    die_at(CrashPoint.AFTER_ORDER)
    assert batches.ledger.batch(batch_id).status is BatchStatus.IN_PROGRESS

    at(batches, batch_id, BatchStatus.COMPLETED)

    every_line_once(*results(batches, batch_id, tmp_path), LINES)
    ids = [entry["custom_id"] for entry in lines]
    for name in ("output.jsonl", "errors.jsonl"):
        written = [line["custom_id"] for line in read_lines(tmp_path / name)]
        assert written == sorted(written, key=ids.index)


@row("supervisor", "when every line has ended, before the batch has")
def test_a_batch_whose_supervisor_died_at_its_very_end_ends(
    batches: MiraQueue,
    batch_id: str,
    die_at: DieAt,
    simulator: SimulatorProcess,
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    start_worker()
    die_at(CrashPoint.AFTER_FINALIZING)
    assert batches.ledger.batch(batch_id).status is BatchStatus.FINALIZING

    completes(batches, batch_id, tmp_path, simulator)


@row("supervisor", "when the deadline has passed and every line has its error, before the batch has ended")
def test_a_batch_whose_supervisor_died_when_it_had_expired_has_expired(
    batches: MiraQueue, die_at: DieAt, tmp_path: Path
) -> None:
    batch_id = late(batches, tmp_path)
    die_at(CrashPoint.AFTER_FINALIZING)
    assert batches.ledger.batch(batch_id).status is BatchStatus.FINALIZING

    at(batches, batch_id, BatchStatus.EXPIRED)

    every_line_once(*results(batches, batch_id, tmp_path), LINES)


@row("supervisor", "with open jobs, before it has seen a pause")
def test_what_a_dead_supervisor_had_open_is_taken_back_when_the_batch_pauses(
    batches: MiraQueue,
    batch_id: str,
    die_at: DieAt,
    simulator: SimulatorProcess,
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    die_at(CrashPoint.AFTER_ACCEPT)
    commands(batches, batch_id, Pause())

    assert "command" in paused(batches, batch_id)
    start_worker(resend_after=1)
    batches.enqueue([{"role": "user", "content": "beside it"}]).result(60)
    assert simulator.stats()["calls"] == 1

    batches.batches.resume(batch_id)
    completes(batches, batch_id, tmp_path, simulator, calls=1 + LINES)


@row("supervisor", "with open jobs, before it has seen a cancel")
def test_what_a_dead_supervisor_had_open_is_taken_back_when_the_batch_is_cancelled(
    batches: MiraQueue,
    batch_id: str,
    die_at: DieAt,
    simulator: SimulatorProcess,
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    die_at(CrashPoint.AFTER_ACCEPT)
    commands(batches, batch_id, Cancel())

    ends_cancelled(batches, batch_id, tmp_path, answered=0)
    start_worker(resend_after=1)
    batches.enqueue([{"role": "user", "content": "beside it"}]).result(60)
    assert simulator.stats()["calls"] == 1


@row("supervisor", "with open jobs, and the deadline passes before there is another")
def test_what_a_dead_supervisor_had_open_is_taken_back_when_the_deadline_has_passed(
    batches: MiraQueue, die_at: DieAt, simulator: SimulatorProcess, start_worker: StartWorker, tmp_path: Path
) -> None:
    batch_id = late(batches, tmp_path, lambda: die_at(CrashPoint.AFTER_ACCEPT))

    at(batches, batch_id, BatchStatus.EXPIRED)

    answers, errors = results(batches, batch_id, tmp_path)
    every_line_once(answers, errors, LINES)
    assert codes(tmp_path) == Counter({"batch_expired": LINES})
    start_worker(resend_after=1)
    batches.enqueue([{"role": "user", "content": "beside it"}]).result(60)
    assert simulator.stats()["calls"] == 1


@row("supervisor", "during cancel, when it has withdrawn jobs that had not started")
def test_a_cancel_whose_supervisor_died_after_taking_back_goes_on(
    batches: MiraQueue, batch_id: str, die_at: DieAt, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    die_at(CrashPoint.AFTER_ACCEPT)
    commands(batches, batch_id, Cancel())
    die_at(CrashPoint.AFTER_REMOVE_UNSTARTED)
    assert batches.ledger.batch(batch_id).status is BatchStatus.CANCELLING

    ends_cancelled(batches, batch_id, tmp_path, answered=0)
    assert simulator.stats()["calls"] == 0


@row("supervisor", "during cancel, when it has cancelled running jobs, before their lines are written")
def test_a_cancel_whose_supervisor_died_before_it_had_written_goes_on(
    batches: MiraQueue,
    batch_id: str,
    die_at: DieAt,
    simulator: SimulatorProcess,
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    simulator.configure(latency_s=30)
    start_worker(max_in_flight=2, resend_after=1)
    die_at(CrashPoint.AFTER_ACCEPT)
    wait_for_calls(simulator, 2)
    commands(batches, batch_id, Cancel())
    die_at(CrashPoint.AFTER_CANCEL, MIRA_GRACE=0)

    ends_cancelled(batches, batch_id, tmp_path, answered=0)
    assert simulator.stats()["calls"] == 2
    assert batches.ledger.batch(batch_id).unanswered_calls == 2
    says_what_it_costs(tmp_path, billed=2)


@row("supervisor", "during cancel, when some lines of it are written")
def test_a_cancel_whose_supervisor_died_among_its_lines_writes_each_once(
    batches: MiraQueue,
    batch_id: str,
    die_at: DieAt,
    simulator: SimulatorProcess,
    tmp_path: Path,
) -> None:
    commands(batches, batch_id, Cancel())
    die_at(f"{CrashPoint.AFTER_LINES}:2")

    ends_cancelled(batches, batch_id, tmp_path, answered=0)


@row("supervisor", "during retry, before the error file without the lines is in its place")
def test_a_retry_whose_supervisor_died_before_its_lines_were_taken_out_takes_them_out(
    batches: MiraQueue, die_at: DieAt, simulator: SimulatorProcess, start_worker: StartWorker, tmp_path: Path
) -> None:
    batch_id = failed_one(batches, start_worker, tmp_path)
    end_supervisors(batches)
    unsupervised(batches, lambda: retried(batches, batch_id))
    die_at(CrashPoint.AFTER_DELETE)

    retry_ends(batches, batch_id, simulator, tmp_path)


@row("supervisor", "during retry, when the lines are removed from the error file")
def test_a_retry_whose_supervisor_died_after_its_lines_were_taken_out_goes_on(
    batches: MiraQueue, die_at: DieAt, simulator: SimulatorProcess, start_worker: StartWorker, tmp_path: Path
) -> None:
    batch_id = failed_one(batches, start_worker, tmp_path)
    end_supervisors(batches)
    unsupervised(batches, lambda: retried(batches, batch_id))
    die_at(CrashPoint.AFTER_TAKE_OUT)
    assert read_lines(batches.batches.spool.files(batch_id).errors) == []

    retry_ends(batches, batch_id, simulator, tmp_path)


@row("supervisor", "when the account was rejected, after the rejected lines are written, before the batch is paused")
def test_a_refusal_whose_supervisor_died_before_it_paused_is_met_again_or_not_at_all(
    batches: MiraQueue,
    batch_id: str,
    die_at: DieAt,
    simulator: SimulatorProcess,
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    simulator.configure(balance_calls=0)
    start_worker()
    die_at(CrashPoint.AFTER_LINES)
    batch = batches.ledger.batch(batch_id)
    assert (batch.status, batch.paused) == (BatchStatus.IN_PROGRESS, "")
    assert refused(batches, batch_id) > 0
    simulator.configure(balance_calls=None)
    calls = simulator.stats()["calls"]

    batch = at(batches, batch_id, BatchStatus.COMPLETED)

    every_line_once(*results(batches, batch_id, tmp_path), LINES)
    assert (batch.answered, batch.codes) == (LINES, {})
    # What met the refusal after the supervisor had died runs again, too.
    assert simulator.stats()["calls"] == simulator.stats()["by_status"]["402"] + LINES >= calls


@row("supervisor", "when the account was rejected, before the rejected lines are written")
def test_refusals_that_a_dead_supervisor_had_not_written_are_errors_of_a_batch_that_is_paused(
    batches: MiraQueue,
    batch_id: str,
    die_at: DieAt,
    simulator: SimulatorProcess,
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    simulator.configure(balance_calls=0)
    start_worker()
    die_at(CrashPoint.BEFORE_LINES)
    wait_until("a call was rejected, and none is in flight", lambda: _rejected(simulator))
    commands(batches, batch_id, Pause())

    assert "command" in paused(batches, batch_id)
    assert refused(batches, batch_id) == batches.batches.get(batch_id).failed > 0
    rejected = _rejected(simulator)
    simulator.configure(balance_calls=None)
    batches.batches.resume(batch_id)
    completes(batches, batch_id, tmp_path, simulator, calls=rejected + LINES)


def _rejected(simulator: SimulatorProcess) -> int:
    """Return how many calls were rejected, if none is in flight."""
    stats = simulator.stats()
    return 0 if stats["in_flight"] else stats["by_status"].get("402", 0)


@row("supervisor", "when a batch resumes, after the rejected lines are removed from the error file")
def test_refused_lines_that_a_dead_supervisor_had_taken_out_are_run_by_the_next(
    batches: MiraQueue,
    batch_id: str,
    die_at: DieAt,
    simulator: SimulatorProcess,
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    simulator.configure(balance_calls=0)
    start_worker()
    paused(batches, batch_id)
    end_supervisors(batches)
    calls = simulator.stats()["calls"]
    assert refused(batches, batch_id) == batches.ledger.batch(batch_id).failed == calls > 0
    simulator.configure(balance_calls=None)
    commands(batches, batch_id, Resume())
    die_at(CrashPoint.AFTER_TAKE_OUT)
    assert refused(batches, batch_id) == 0
    assert simulator.stats()["calls"] == calls

    completes(batches, batch_id, tmp_path, simulator, calls=calls + LINES)


@row("supervisor", "during cancel of a batch whose account was rejected, when some lines of it are written")
def test_a_cancel_among_refused_lines_leaves_them_their_error_for_good(
    batches: MiraQueue,
    batch_id: str,
    die_at: DieAt,
    simulator: SimulatorProcess,
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    simulator.configure(balance_calls=LINES // 2)
    start_worker()
    paused(batches, batch_id)
    end_supervisors(batches)
    count = refused(batches, batch_id)
    commands(batches, batch_id, Cancel())
    die_at(CrashPoint.AFTER_LINES)
    assert refused(batches, batch_id) == count > 0

    batch = at(batches, batch_id, BatchStatus.CANCELLED)

    every_line_once(*results(batches, batch_id, tmp_path), LINES)
    assert codes(tmp_path) == Counter({"balance_used_up": count, "batch_cancelled": LINES - LINES // 2 - count})
    assert batch.codes.pop("balance_used_up (402)") == count
    assert refused(batches, batch_id) == 0


@row("`mira-queue retry`", "after its command, before the batch is open again")
def test_a_retry_that_died_before_the_batch_was_open_again_is_asked_for_again(
    batches: MiraQueue, die_at: DieAt, simulator: SimulatorProcess, start_worker: StartWorker, tmp_path: Path
) -> None:
    batch_id = failed_one(batches, start_worker, tmp_path)
    die_at(CrashPoint.AFTER_RETRY_COMMAND, COMMAND, "retry", batch_id)
    assert batches.ledger.batch(batch_id).status is BatchStatus.COMPLETED

    batches.batches.retry(batch_id)

    retry_ends(batches, batch_id, simulator, tmp_path)


def test_calls_that_a_cancel_does_not_wait_for_are_cancelled_and_counted(
    queue: MiraQueue, settings: Settings, simulator: SimulatorProcess, start_worker: StartWorker, tmp_path: Path
) -> None:
    simulator.configure(latency_s=30)
    start_worker(max_in_flight=2, grace=0)
    with MiraQueue(**settings.model_dump(exclude_unset=True) | {"grace": 0}) as impatient:
        batch_id = submitted(impatient, tmp_path, entries(LINES))
        wait_for_calls(simulator, 2)

        impatient.batches.cancel(batch_id)

        batch = at(impatient, batch_id, BatchStatus.CANCELLED)
        end_supervisors(impatient)
    every_line_once(*results(queue, batch_id, tmp_path), LINES)
    assert batch.unanswered_calls == 2
    says_what_it_costs(tmp_path, billed=2)


def test_a_full_disk_pauses_the_batch_and_loses_nothing(
    batches: MiraQueue,
    batch_id: str,
    settings: Settings,
    simulator: SimulatorProcess,
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    start_worker()

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, 6_000))

    environment = {**os.environ, **environment_of(settings)}
    with subprocess.Popen(SUPERVISOR, env=environment, cwd=tmp_path, preexec_fn=small_disk) as supervisor:
        wait_until("it pauses", lambda: batches.ledger.batch(batch_id).paused)
        batch = batches.ledger.batch(batch_id)
        assert (batch.paused_by, "File too large" in batch.paused) == ("files", True)
        supervisor.kill()

    batches.batches.resume(batch_id)

    completes(batches, batch_id, tmp_path, simulator)


def test_a_job_that_a_dead_supervisor_had_written_and_not_forgotten_is_run_again_by_retry(
    batches: MiraQueue, die_at: DieAt, simulator: SimulatorProcess, start_worker: StartWorker, tmp_path: Path
) -> None:
    lines = [{"custom_id": "line-0", "prompt": "[[sim:500x1]]"}]
    batch_id = unsupervised(batches, lambda: submitted(batches, tmp_path, lines))
    start_worker(max_attempts=1)
    die_at(CrashPoint.AFTER_LINES)
    at(batches, batch_id, BatchStatus.COMPLETED)

    batches.batches.retry(batch_id)

    retry_ends(batches, batch_id, simulator, tmp_path, count=1)


def ends_cancelled(queue: MiraQueue, batch_id: str, folder: Path, *, answered: int) -> None:
    at(queue, batch_id, BatchStatus.CANCELLED)
    answers, errors = results(queue, batch_id, folder)
    every_line_once(answers, errors, LINES)
    assert len(answers) == answered
    assert codes(folder) == Counter({"batch_cancelled": LINES - answered})


def says_what_it_costs(folder: Path, *, billed: int) -> None:
    """Lines that were never sent say so, and those that were and have no answer do not."""
    messages = Counter(line["error"]["message"] for line in read_lines(folder / "errors.jsonl"))
    assert messages == {
        "not run: the batch was cancelled before": LINES - billed,
        "the batch was cancelled before its answer arrived: a call was in flight, and may have been billed": billed,
    }


def refused(queue: MiraQueue, batch_id: str) -> int:
    """Lines whose stored error is the account's, and which run again when the batch goes on."""
    lines = read_lines(queue.batches.spool.files(batch_id).errors)
    return sum(
        line["response"]["status_code"] == 402 and "runs_again" in line["error"] for line in lines if line["response"]
    )


def failed_one(queue: MiraQueue, start_worker: StartWorker, folder: Path) -> str:
    """A batch that has ended, with one line that failed and would not fail again."""
    start_worker(max_attempts=1)
    lines = entries(LINES)
    lines[3]["prompt"] = "[[sim:500x1]]"
    batch_id = submitted(queue, folder, lines)
    assert at(queue, batch_id, BatchStatus.COMPLETED).failed == 1
    return batch_id


def retried(queue: MiraQueue, batch_id: str) -> str:
    queue.batches.retry(batch_id)
    return batch_id


def retry_ends(queue: MiraQueue, batch_id: str, simulator: SimulatorProcess, folder: Path, count: int = LINES) -> None:
    batch = at(queue, batch_id, BatchStatus.COMPLETED)
    answers, errors = results(queue, batch_id, folder)
    every_line_once(answers, errors, count)
    assert (batch.answered, batch.failed) == (count, 0)
    assert simulator.stats()["calls"] == count + 1
