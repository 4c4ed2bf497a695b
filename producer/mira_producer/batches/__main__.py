"""`python -m mira_producer.batches [LOCK_FD]`: the keeper. Started by whoever submits a batch, or by hand."""

from __future__ import annotations

import os
import signal
import sys

import structlog

from mira_producer.batches.lock import KeeperLock
from mira_producer.batches.spool import Spool
from mira_producer.batches.supervisor_process import Keeper
from mira_producer.client import MiraQueue
from mira_producer.interrupts import interrupts
from mira_queue.contract.errors import MiraQueueError
from mira_queue.contract.settings import SettingsError
from mira_queue.runtime.logs import configure_logs
from mira_queue.runtime.private_files import restrict_umask
from mira_queue.runtime.settings_loader import load_settings


def main() -> int:
    restrict_umask()
    lock_fd = int(sys.argv[1]) if len(sys.argv) > 1 else -1
    if lock_fd >= 0:
        # A server that we start must not hold it longer than we live.
        os.set_inheritable(lock_fd, False)
    try:
        settings = load_settings()
        configure_logs(settings.log_format, settings.log_level)
        log = structlog.get_logger("mira_queue.keeper").bind(pid=os.getpid())
        # Whoever started us may have had his terminal closed by now.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with interrupts() as (ending, _), MiraQueue(settings) as queue:
            spool = Spool(settings.state_dir)
            Keeper(queue, spool, KeeperLock(spool, queue.redis_url, lock_fd), ending, log).run()
    except (SettingsError, MiraQueueError) as error:
        print(f"mira-queue keeper: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
