"""Messages: hints in Celery's queues that say "look at these jobs". Losing one costs time, never a job."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from celery import Celery
from kombu.exceptions import OperationalError

from mira_queue.contract.names import GROUP_TASK, TASK, Lane

# Jobs of a file that one message carries: what Celery costs a message is then little for a job, and a worker that is
# killed strands no more than these.
GROUP_SIZE = 50


class MessageNotSent(Exception):
    """The queue's server did not take a message; rescue will send another."""


class Messenger:
    """Sends messages with this application."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def send(
        self,
        job_ids: Sequence[str],
        lane: Lane,
        *,
        group_size: int = GROUP_SIZE,
        countdown: timedelta = timedelta(0),
    ) -> None:
        """A message for each job; in the bulk lane one for `group_size` of them. Raises MessageNotSent.

        `countdown`: how long a worker keeps the message before it looks.
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
                        # Rescue knows a message by its first job.
                        task_id=group[0],
                        queue=lane.queue,
                        priority=lane.priority,
                        producer=producer,
                        # The ledger has the outcomes: Celery would open a channel for each message, to hear of its
                        # result, and keep it as long as this process lives.
                        ignore_result=True,
                        # For people who look into the queue; what it costs to write down is a third of a message.
                        argsrepr=f"<{len(group)} jobs>",
                        kwargsrepr="{}",
                        **options,
                    )
        except OperationalError as error:
            raise MessageNotSent(str(error)) from error
