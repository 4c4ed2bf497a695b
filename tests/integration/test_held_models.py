"""Lines of a model that the account's plan lacks, at moments that real workers hardly hit."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

from mira_producer.cost.prices import Prices
from mira_producer.engine.engine import Engine, Hooks
from mira_producer.engine.options import End
from mira_producer.engine.plan import Plan

from mira_queue import MiraQueue
from mira_queue.contract.batch import BatchOptions
from mira_queue.contract.errors import ModelNotInPlan
from mira_queue.contract.outcome import Failure
from mira_queue.ledger.records import Lease
from tests.support.ledger_steps import LONG, claimed
from tests.support.run_process import files_in, prompts, write_lines

# Otherwise, a failure would never end.
PATIENCE_S = 60.0


class OneWorker:
    """Claims all lines, is rejected with the first one, and returns the others after a first withdrawal."""

    def __init__(self, queue: MiraQueue) -> None:
        self._ledger = queue.ledger
        self.engine: Engine | None = None
        self._leases: list[Lease] = []

    def tend(self) -> None:
        assert self.engine is not None
        if self.engine.account.held:
            while self._leases:
                assert self._ledger.release(self._leases.pop())
        elif not self._leases and self.engine.window.open:
            first, *self._leases = (claimed(self._ledger, job_id, LONG) for job_id in self.engine.window.open)
            self._ledger.finish(first, Failure.from_error(ModelNotInPlan("no", 403)))


def test_lines_of_a_rejected_model_that_a_worker_had_claimed_are_withdrawn_when_it_returns_them(
    queue: MiraQueue, tmp_path: Path
) -> None:
    files = files_in(tmp_path)
    write_lines(files.input, prompts(3))
    worker = OneWorker(queue)
    hooks = Hooks(show=lambda stats, reason: None, say=lambda text: None, tend=worker.tend)
    with closing(Plan(files, BatchOptions(), Prices(), queue.check)) as plan:
        interrupted = threading.Event()
        worker.engine = engine = Engine(queue, plan, hooks, interrupted, window=50)
        patience = threading.Timer(PATIENCE_S, interrupted.set)
        patience.start()

        assert engine.run() is End.ACCOUNT

        patience.cancel()
        assert engine.open_jobs == 0
        engine.close()
