"""Single steps of a supervisor, and of the process of all supervisors, at moments that a whole process hardly hits."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
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
from mira_queue.contract.commands import Adopt, Command, Pause, Resume
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import Lease
from tests.support.ledger_steps import COMPLETION, claimed
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

    assert supervisor.work.batch.paused_by == "owner"
    assert supervisor.work.plan is not None
    assert supervisor.work.plan.left == 50
    assert simulator.stats()["calls"] == 0
    queue.ledger.forget_batch(batch.id)


class UntilOpen(Owner):
    """Ends the supervisor when lines of `prod` are open jobs, and at the second pause. Acts on its way."""

    def __init__(self, ledger: Ledger, batch_id: str, **acts: Callable[[], object]) -> None:
        super().__init__(ledger, batch_id, threading.Event(), threading.Event())
        self._acts = acts
        self.open_jobs = 0
        self.reasons: list[str] = []

    def moved(self, status: BatchStatus) -> None:
        self._acts.pop(status, lambda: None)()

    def tend(self) -> None:
        self.open_jobs = len(self._ledger.open_jobs("prod"))
        if self.open_jobs:
            self.stopping.set()

    def paused(self, by: PausedBy, reason: str) -> None:
        self.reasons.append(f"{by}: {reason}")
        self._acts.pop("paused", self.stopping.set)()


OLD_BASE, NEW_BASE = "http://127.0.0.1:9/v1", "http://127.0.0.1:10/v1"


class Prod:
    """An accounts file with the account `prod`, and a batch of that account with five lines."""

    def __init__(self, queue: MiraQueue, folder: Path) -> None:
        self.path = folder / "accounts.toml"
        self.define("prod", OLD_BASE)
        self.queue = MiraQueue(queue.settings.model_copy(update={"accounts_file": self.path}))
        write_lines(folder / "input.jsonl", prompts(5))
        self._files = files_in(folder)
        self.batch = Batch(new_batch_id(), BatchStatus.VALIDATING, "input.jsonl", "here", 1, account="prod")
        self.queue.ledger.write_batch(self.batch)
        self.queue.ledger.record_account("prod", OLD_BASE)

    def define(self, name: str, base: str) -> None:
        self.path.write_text(f'[accounts.{name}]\nbase = "{base}"\nkey_env = "NO_SUCH_KEY"\n')

    def move(self) -> None:
        """Change the base, and adopt the jobs."""
        self.define("prod", NEW_BASE)
        self.queue.ledger.set_base("prod", NEW_BASE)

    def supervise(self, **acts: Callable[[], object]) -> UntilOpen:
        owner = UntilOpen(self.queue.ledger, self.batch.id, **acts)
        self.run(owner)
        return owner

    def run(self, owner: Owner, **settings: object) -> Supervisor:
        self.queue.settings = self.queue.settings.model_copy(update=settings)
        with closing(Supervisor(self.queue, self.batch, self._files, owner, window=50)) as supervisor:
            supervisor.run()
        return supervisor


@pytest.fixture
def prod(queue: MiraQueue, tmp_path: Path) -> Iterator[Prod]:
    prod = Prod(queue, tmp_path)
    with prod.queue:
        yield prod
        prod.queue.ledger.forget_batch(prod.batch.id)


def test_a_batch_continues_when_its_account_has_moved_to_another_base(prod: Prod) -> None:
    prod.move()

    owner = prod.supervise()

    assert (owner.open_jobs, owner.reasons) == (5, [])


def test_a_batch_continues_when_its_account_moves_while_it_runs(prod: Prod) -> None:
    owner = prod.supervise(in_progress=prod.move)

    assert (owner.open_jobs, owner.reasons) == (5, [])


def test_a_batch_whose_account_has_another_base_in_the_queue_is_paused_and_says_so(prod: Prod) -> None:
    owner = prod.supervise(in_progress=lambda: prod.queue.ledger.set_base("prod", NEW_BASE))

    [reason] = owner.reasons
    assert reason.startswith("account: ")
    assert NEW_BASE in reason
    assert "adopt prod" in reason


def test_a_batch_of_an_unknown_account_is_paused_until_the_account_is_defined(prod: Prod) -> None:
    prod.define("staging", OLD_BASE)

    def correct() -> None:
        assert prod.queue.ledger.open_jobs("prod") == []
        prod.define("prod", OLD_BASE)
        prod.queue.ledger.send_command(prod.batch.id, Resume())

    owner = prod.supervise(paused=correct)

    [reason] = owner.reasons
    assert str(prod.path) in reason
    assert owner.open_jobs == 1, "after a pause by its account, one line checks it"


class SlowCall(UntilOpen):
    """Adopts the batch during a call, which ends when the supervisor has read the command several times."""

    lease: Lease | None = None
    reads = 0
    open_at_adoption: int | None = None

    def tend(self) -> None:
        open_ids = self._ledger.open_jobs("prod")
        if open_ids and self.lease is None:
            self.lease = claimed(self._ledger, open_ids[0], account="prod")
            self._ledger.send_command(self._batch_id, Adopt("staging"))

    def command(self) -> Command | None:
        command = super().command()
        self.reads += command is not None
        if self.reads == 8 and self.lease is not None:
            assert self._ledger.finish(self.lease, COMPLETION)
        return command

    def acknowledge(self, command: Command) -> None:
        super().acknowledge(command)
        self.open_at_adoption = len(self._ledger.open_jobs("prod"))
        self.stopping.set()


def test_a_batch_is_adopted_when_its_last_call_has_ended_and_its_answer_is_written(prod: Prod) -> None:
    owner = SlowCall(prod.queue.ledger, prod.batch.id)

    supervisor = prod.run(owner, grace=timedelta(0))

    assert owner.open_at_adoption == 0
    assert supervisor.work.batch.account == "staging"
    assert supervisor.work.plan is not None
    assert supervisor.work.plan.left == 4


class FailingSpool(Spool):
    """Cannot open a file, as often as `failures` says."""

    failures = 0

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
    spool.failures = 2

    events = supervise(spool)

    wait_until("the batch ends", lambda: queue.ledger.batch(batch.id).status is BatchStatus.COMPLETED)
    assert "supervisor_failed" in events
    assert spool.failures == 0
