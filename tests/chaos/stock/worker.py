"""`python -m tests.chaos.stock.worker`: `celery -A tests.chaos.stock.app worker`, which exits with the driver."""

from __future__ import annotations

import sys
import uuid

from tests.chaos.child import end_with_driver
from tests.chaos.stock.app import app

if __name__ == "__main__":
    end_with_driver()
    app.worker_main(["worker", *sys.argv[1:], "--hostname", f"stock-{uuid.uuid4().hex[:8]}@%h"])
