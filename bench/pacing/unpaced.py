"""A worker without a pacer, as the baseline of bench.pacing.overhead. No setting does this."""

from __future__ import annotations

import sys
from datetime import datetime

import mira_worker.worker_runtime
from mira_worker.__main__ import main
from mira_worker.pacing.pacer import Pacer
from mira_worker.pacing.waiting_line import HeldPermit
from mira_worker.response_meaning import Meaning
from mira_worker.transport import HttpResponse, NoResponse

from mira_queue.contract.pace import Permit
from mira_queue.ledger.records import Lease


class Unpaced(Pacer):
    """Grants every call, and counts nothing."""

    def acquire(self, lease: Lease) -> HeldPermit:
        return HeldPermit(lease, Permit("go"))

    def report(
        self, held: HeldPermit, response: HttpResponse | NoResponse, meaning: Meaning, now: datetime, message: str = ""
    ) -> bool:
        return True


if __name__ == "__main__":
    mira_worker.worker_runtime.Pacer = Unpaced  # type: ignore[attr-defined]
    main(sys.argv[1:])
