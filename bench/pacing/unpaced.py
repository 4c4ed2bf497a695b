"""A worker whose calls leave at once: what bench.pacing.overhead measures the pacer against. No setting does this."""

from __future__ import annotations

import sys
from datetime import timedelta

import worker.runtime
from mira_queue.ledger.pace import Permit
from mira_queue.ledger.records import Lease
from worker.__main__ import main
from worker.pacing.pacer import Pacer, Pass


class Unpaced(Pacer):
    """Asks nobody, and counts nothing."""

    def wait_for_pass(self, lease: Lease) -> Pass | None:
        return Pass(lease, Permit("go"))

    def answered(self, leave: Pass, used_tokens: int, room: tuple[int, timedelta] | None) -> None:
        pass


if __name__ == "__main__":
    worker.runtime.Pacer = Unpaced  # type: ignore[misc]
    main(sys.argv[1:])
