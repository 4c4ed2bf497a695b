"""Run one worker process: `python -m mira_worker`. `mira-queue worker` and `mira-queue run` start it.

The first arguments may be ours, in this order. The other arguments are Celery's.
`--parent-pipe`: stop gracefully when standard input ends, because the parent has ended.
`--in-order`: serve the first kind of the `--queues` first, instead of all of them in turn.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from mira_queue.runtime.private_files import restrict_umask
from mira_worker.tasks import is_stopping, run_worker


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    # A service manager that stops the parent often stops this process, too. A second signal would end the grace period.
    if not is_stopping():
        os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: list[str]) -> None:
    restrict_umask()
    if arguments[:1] == ["--parent-pipe"]:
        arguments = arguments[1:]
        threading.Thread(target=_end_with_parent, name="parent-pipe", daemon=True).start()
    # Imported here, because building the application reads the settings and may start the embedded server.
    from mira_worker.app import app  # noqa: PLC0415

    if arguments[:1] == ["--in-order"]:
        arguments = arguments[1:]
        app.conf.broker_transport_options["queue_order_strategy"] = "mira_worker.queue_order:KindsInOrder"
    # Nothing here needs gossip and mingle, which exchange messages between workers and slow down the start.
    sys.exit(run_worker(app, ["--quiet", "worker", "--without-gossip", "--without-mingle", *arguments]))


if __name__ == "__main__":
    main(sys.argv[1:])
