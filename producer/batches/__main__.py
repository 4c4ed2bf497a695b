"""`python -m producer.batches`: the keeper. Started by whoever submits a batch, or by hand."""

from __future__ import annotations

import os
import signal
import sys

import structlog

from mira_queue.contract.errors import MiraQueueError
from mira_queue.contract.logs import configure_logs
from mira_queue.contract.settings import SettingsError, load_settings
from producer.batches.keeper import Keeper
from producer.batches.spool import Spool
from producer.client import MiraQueue
from producer.run.interrupts import interrupts


def main() -> int:
    try:
        settings = load_settings()
        configure_logs(settings.log_format, settings.log_level)
        log = structlog.get_logger("mira_queue.keeper").bind(pid=os.getpid())
        # Whoever started us may have had his terminal closed by now.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with interrupts() as (ending, _), MiraQueue(settings) as queue:
            Keeper(queue, Spool(settings.state_dir), ending, log).run()
    except (SettingsError, MiraQueueError) as error:
        print(f"mira-queue keeper: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
