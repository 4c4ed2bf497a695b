"""Messages in Celery's queues: hints to check these jobs. A lost message costs time, never a job."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from celery import Celery
from kombu.exceptions import OperationalError

from mira_queue.contract.names import GROUP_TASK, TASK, Lane, queue_name

# Jobs of a file in one message: Celery's cost per message is then small per job, and a killed worker orphans no more
# than these.
GROUP_SIZE = 50


class MessageNotSent(Exception):
    """The queue's server did not accept a message. Rescue will send another one."""


class Messenger:
    """Sender of messages with this Celery application."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def send(
        self,
        account: str,
        job_ids: Sequence[str],
        lane: Lane,
        *,
        group_size: int = GROUP_SIZE,
        countdown: timedelta = timedelta(0),
    ) -> None:
        """Send a message for each job of the account; in the bulk lane, for each `group_size`. Raises MessageNotSent.

        A worker keeps the message for `countdown` before it claims the job.
        """
        size = group_size if lane is Lane.BULK else 1
        options = {"countdown": countdown.total_seconds()} if countdown else {}
        try:
            with self._app.producer_or_acquire() as producer:
                for start in range(0, len(job_ids), size):
                    group = list(job_ids[start : start + size])
                    self._app.send_task(
                        GROUP_TASK if lane is Lane.BULK else TASK,
                        args=[group] if lane is Lane.BULK else group,
                        # Rescue identifies a message by its first job.
                        task_id=group[0],
                        queue=queue_name(account, lane.queue),
                        priority=lane.priority,
                        producer=producer,
                        # The ledger has the outcomes. Celery would open a channel for each result, and keep it as
                        # long as this process lives.
                        ignore_result=True,
                        # For people who inspect the queue. The arguments themselves would take a third of the time.
                        argsrepr=f"<{len(group)} jobs>",
                        kwargsrepr="{}",
                        **options,
                    )
        except OperationalError as error:
            raise MessageNotSent(str(error)) from error
