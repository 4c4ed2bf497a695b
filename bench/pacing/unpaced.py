"""A worker without a pacer, as the baseline of bench.pacing.overhead. No setting does this."""

from __future__ import annotations

import sys
from datetime import timedelta

import mira_worker.worker_runtime
from mira_worker.__main__ import main
from mira_worker.pacing.pacer import Pacer, Pass

from mira_queue.contract.pace import Permit
from mira_queue.ledger.records import Lease


class Unpaced(Pacer):
    """Admits every call immediately and records nothing."""

    def wait_for_pass(self, lease: Lease) -> Pass | None:
        return Pass(lease, Permit("go"))

    def answered(self, leave: Pass, used_tokens: int, room: tuple[int, timedelta] | None) -> None:
        pass


if __name__ == "__main__":
    mira_worker.worker_runtime.Pacer = Unpaced  # type: ignore[attr-defined]
    main(sys.argv[1:])
