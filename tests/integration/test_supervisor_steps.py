"""Single steps of a supervisor, and of the process of all supervisors, at moments that a whole process hardly hits."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import structlog
from mira_producer.batches import supervisor_process
from mira_producer.batches.lock import SupervisorLock
from mira_producer.batches.owner import Owner
from mira_producer.batches.spool import Spool
from mira_producer.batches.supervisor import Supervisor
from mira_producer.batches.supervisor_process import SupervisorProcess
from structlog.testing import LogCapture

from mira_queue import MiraQueue
from mira_queue.contract.batch import Batch, BatchStatus, PausedBy, new_batch_id
from mira_queue.contract.commands import Pause
from mira_queue.ledger.ledger import Ledger
from tests.support.queue_process import WorkerProcess
from tests.support.run_process import files_in, prompts, write_lines
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until


class Impatient(Owner):
    """Pauses its batch at one moment, and ends the supervisor when the batch is paused."""

    def __init__(self, ledger: Ledger, batch_id: str, moment: str) -> None:
        super().__init__(ledger, batch_id, threading.Event(), threading.Event())
        self._moment = moment

    def moved(self, status: BatchStatus) -> None:
        self._pause_at(f"moved {status}")

    def tend(self) -> None:
        self._pause_at("tend")

    def paused(self, by: PausedBy, reason: str) -> None:
        self.stopping.set()

    def _pause_at(self, moment: str) -> None:
        if moment == self._moment:
            self._moment = ""
            self._ledger.send_command(self._batch_id, Pause())


@pytest.mark.parametrize("moment", ["moved in_progress", "tend"])
def test_no_line_is_sent_after_a_pause_that_arrives_while_the_batch_starts(
    moment: str, queue: MiraQueue, worker: WorkerProcess, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    write_lines(tmp_path / "input.jsonl", prompts(50))
    batch = Batch(new_batch_id(), BatchStatus.VALIDATING, "input.jsonl", "here", 1)
    queue.ledger.write_batch(batch)

    with closing(
        Supervisor(queue, batch, files_in(tmp_path), Impatient(queue.ledger, batch.id, moment), window=50)
    ) as supervisor:
        supervisor.run()

    assert supervisor.batch.paused_by == "owner"
    assert supervisor.plan is not None
    assert supervisor.plan.left == 50
    assert simulator.stats()["calls"] == 0
    queue.ledger.forget_batch(batch.id)


class FailingSpool(Spool):
    """Cannot open a file at first."""

    failures = 2

    def holds(self, batch_id: str) -> bool:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().holds(batch_id)


@pytest.fixture
def supervise(queue: MiraQueue, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Spool], list[str]]]:
    """Starts the process's loop in a thread. Returns the names of the events that it logs."""
    monkeypatch.setattr(supervisor_process, "POLL_S", 0.02)
    stopping, logged, threads = threading.Event(), LogCapture(), []

    class Events(list[str]):
        def __contains__(self, name: object) -> bool:
            return any(entry["event"] == name for entry in logged.entries)

    def start(spool: Spool) -> list[str]:
        log = structlog.wrap_logger(structlog.PrintLogger(), processors=[logged])
        process = SupervisorProcess(queue, spool, SupervisorLock(spool, queue.redis_url), stopping, log)
        threads.append(threading.Thread(target=process.run))
        threads[0].start()
        return Events()

    yield start
    stopping.set()
    for thread in threads:
        thread.join()


def test_an_unexpected_error_does_not_end_the_supervision_of_all_batches(
    supervise: Callable[[Spool], list[str]], queue: MiraQueue, worker: WorkerProcess, tmp_path: Path
) -> None:
    spool = FailingSpool(queue.settings.state_dir)
    source = write_lines(tmp_path / "input.jsonl", prompts(5))
    batch = Batch(new_batch_id(), BatchStatus.VALIDATING, "input.jsonl", "here", 1)
    lock = SupervisorLock(spool, queue.redis_url)
    spool.receive(batch.id, source, lock.queue_name)
    queue.ledger.write_batch(batch)

    events = supervise(spool)

    wait_until("the batch ends", lambda: queue.ledger.batch(batch.id).status is BatchStatus.COMPLETED)
    assert "supervisor_failed" in events
    assert spool.failures == 0
