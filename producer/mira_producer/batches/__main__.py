"""`python -m mira_producer.batches [LOCK_FD]`: the supervisor process. Commands about batches start it."""

from __future__ import annotations

import os
import signal
import sys

import structlog

from mira_producer.batches.lock import SupervisorLock
from mira_producer.batches.spool import Spool
from mira_producer.batches.supervisor_process import SupervisorProcess
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
        # A server that this process starts must not hold the lock longer than this process lives.
        os.set_inheritable(lock_fd, False)
    try:
        settings = load_settings()
        configure_logs(settings.log_format, settings.log_level)
        log = structlog.get_logger("mira_queue.supervisor").bind(pid=os.getpid())
        # The terminal of the command that started this process may be closed by now.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with interrupts() as (stopping, _), MiraQueue(settings) as queue:
            spool = Spool(settings.state_dir)
            SupervisorProcess(queue, spool, SupervisorLock(spool, queue.redis_url, lock_fd), stopping, log).run()
    except (SettingsError, MiraQueueError) as error:
        print(f"mira-queue supervisor: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
