"""Celery tasks, and start and stop of a worker. Apart from configuration and messages, only this file uses Celery."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import structlog
from celery import Celery, Task, bootsteps, signals
from celery.bin.celery import celery
from celery.exceptions import Ignore
from celery.worker import state
from celery.worker.consumer import Consumer
from celery.worker.control import control_command
from celery.worker.request import Request

from mira_queue.contract.account import Account
from mira_queue.contract.errors import JobError, JobNotFound, ServiceFault
from mira_queue.contract.names import (
    BULK_QUEUE,
    GROUP_TASK,
    QUEUE,
    TASK,
    Lane,
    account_of_queue,
    queue_name,
)
from mira_queue.contract.outcome import Completion, Failure
from mira_queue.contract.settings import Settings
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.messages import MessageNotSent, Messenger
from mira_queue.runtime.celery_config import stores_results_itself
from mira_queue.runtime.logs import configure_logs
from mira_worker.result_backend import BackendResults
from mira_worker.runner import Finished, JobRunner, SendAgain, SendNow
from mira_worker.worker_runtime import Runtime

# Celery's loop polls for messages when something happens, otherwise once per second. It does not notice the end of a
# call in another thread: without this tick, a worker that was full takes its next jobs up to a second late.
TICK_S = 0.02


NO_KEY = "no key: set MIRA_API_KEY in the environment or in .env, or the keys of accounts.toml"


class AfterFault(Exception):
    """Raised for autoretry_for: the job waits after a server fault, for an exponential backoff with jitter."""

    def __init__(self, countdown: timedelta, error: JobError) -> None:
        # Celery logs it. Therefore it has the code, not the server's message, which may quote the prompt.
        super().__init__(error.code)
        self.countdown_s = countdown.total_seconds()


class Failed(Exception):
    """Raised for Celery's events when the outcome, which is stored already, is an error. Its argument is the code."""


class JobMessage(Request):  # type: ignore[misc]
    """Message that a worker has received.

    Celery logs an acknowledgment that failed, and the transport continues to count its message as unacknowledged. After
    some broken connections, the worker receives no more messages. Here, such an error makes the worker reconnect.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        # Kombu raises this if the message's connection does not exist any more: then there is nothing to acknowledge.
        super().__init__(*args, **{**options, "connection_errors": (AttributeError,)})


class JobConsumer(Consumer):  # type: ignore[misc]
    """Receives messages."""

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Close a broken connection. If that fails, continue with a new one.

        Celery 5.7 closes a connection that it has reset before. With unacknowledged messages and without a server,
        kombu then raises AttributeError, which would end the worker.
        """
        try:
            super().on_connection_error_after_connected(exc)
        except Exception as error:  # noqa: BLE001
            self.connection = None
            structlog.get_logger("mira_queue.worker").warning("connection_dropped", error=repr(error))

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        """Drop a message that is not one of a task. Celery would stop the worker, and the message would return."""
        handle: Callable[[Any], None] = super().create_task_handler(*args, **options)

        def handle_or_drop(message: Any) -> None:
            if is_well_formed(message):
                handle(message)
                return
            log = structlog.get_logger("mira_queue.worker")
            log.error("malformed_message", bytes=len(message.body or b""))
            message.ack_log_error(logging.getLogger(__name__), self.connection_errors)

        return handle_or_drop


def is_well_formed(message: Any) -> bool:
    """Return True if the message is for one of our tasks and has arguments. Its payload is decoded only once."""
    try:
        args, options, embed = message.payload
        eta = message.headers.get("eta")
        if eta is not None:
            datetime.fromisoformat(eta)
    # A message from another program can make any library fail.
    except Exception:  # noqa: BLE001
        return False
    is_ours = message.headers.get("task") in (TASK, GROUP_TASK)
    return is_ours and isinstance(args, list) and isinstance(options, dict) and isinstance(embed, dict | None)


def run_worker(app: Celery, arguments: list[str]) -> int:
    """Run `celery ARGUMENTS`. Return its exit code, which Celery.worker_main would drop."""
    celery.params[0].default = app
    code = celery.main(args=arguments, standalone_mode=False)
    return code if isinstance(code, int) else 0


class JobTask(Task):  # type: ignore[misc]
    """Task of a job. The ledger counts attempts, the backoff policy decides when, and Celery carries the message."""

    autoretry_for = (AfterFault,)
    throws = (Failed,)
    # Unlimited for Celery: waiting is not failing, and the ledger counts attempts, which survive a crash there.
    max_retries = None
    ignore_result = True
    Request = "mira_worker.tasks:JobMessage"

    def retry(self, *args: Any, exc: Exception | None = None, countdown: float | None = None, **options: Any) -> Any:
        """Retry with our countdown: Celery's own backoff has whole seconds only, and is lost in a crash."""
        if isinstance(exc, AfterFault):
            countdown = exc.countdown_s
        # Sent with the highest priority, because the countdown starts when a worker receives the message.
        return super().retry(*args, exc=exc, countdown=countdown, **{"priority": Lane.FIRST.priority, **options})


def is_stopping() -> bool:
    """Return True if this worker is stopping."""
    return state.should_stop is not None


def register(
    app: Celery, settings: Settings, accounts: Sequence[Account], redis_url: str, on_exit: Callable[[], None]
) -> None:
    """Register the tasks and the runtime of a worker that serves these accounts.

    `on_exit` is called last, when the grace period is over.
    """
    life = WorkerLife(app, settings, accounts, redis_url, on_exit)
    app.conf.worker_consumer = JobConsumer

    @app.task(bind=True, base=JobTask, name=TASK)  # type: ignore[untyped-decorator]
    def run_job(self: JobTask, job_id: str) -> None:
        runner = life.runner_of(self)
        match runner.run(job_id):
            case SendAgain(countdown=countdown, error=error) if isinstance(error, ServiceFault):
                raise AfterFault(countdown, error)
            case SendAgain(countdown=countdown):
                raise self.retry(countdown=countdown.total_seconds())
            case Finished(outcome=Completion()):
                return
            case Finished(outcome=Failure(code=code)):
                raise Failed(code)
            case SendNow(lane=lane):
                life.send(runner.account, [job_id], lane)
        # The job has not finished. Celery's events must not show a success.
        raise Ignore

    @app.task(bind=True, acks_late=True, ignore_result=True, name=GROUP_TASK)  # type: ignore[untyped-decorator]
    def run_jobs(self: Task, job_ids: list[str]) -> None:
        life.runtime().groups.run(life.runner_of(self), job_ids)

    # Celery's own class would ignore a failed acknowledgment; see JobMessage.
    run_jobs.Request = JobTask.Request

    # Replaces Celery's own command, which drops the job's messages, while the job stays open.
    @control_command(name="revoke", variadic="task_id", signature="[id1 [id2 [... [idN]]]]")  # type: ignore[untyped-decorator]
    def revoke(state: Any, task_id: str | list[str], **_: Any) -> dict[str, str]:
        for each in cancelled_jobs(life.runtime().ledger, [task_id] if isinstance(task_id, str) else task_id):
            state.consumer.event_dispatcher.send(
                "task-revoked", uuid=each, terminated=False, signum=None, expired=False
            )
        return {"ok": "the jobs are cancelled, except for those that had finished"}

    life.connect_signals()


def cancelled_jobs(ledger: Ledger, job_ids: list[str]) -> Iterator[str]:
    """Cancel jobs, and yield those that are cancelled now. Unknown jobs are skipped."""
    for job_id in job_ids:
        with suppress(JobNotFound):
            if ledger.cancel(job_id):
                yield job_id


class WorkerLife:
    """Start and stop of a worker. The runtime is built in the process that runs jobs, when it is first needed."""

    def __init__(
        self,
        app: Celery,
        settings: Settings,
        accounts: Sequence[Account],
        redis_url: str,
        on_exit: Callable[[], None],
    ) -> None:
        self._app = app
        self._accounts = accounts
        self._messenger = Messenger(app)
        self._on_exit = on_exit
        self._settings = settings
        self._redis_url = redis_url
        self._runtime: tuple[int, Runtime] | None = None

    def runtime(self) -> Runtime:
        """Return the runtime of this process. A forked child of Celery's prefork pool gets its own."""
        if self._runtime is None or self._runtime[0] != os.getpid():
            results = None if stores_results_itself(self._settings) else BackendResults(self._app.backend)
            single_jobs = not any(name.startswith(BULK_QUEUE) for name in self._app.amqp.queues.consume_from)
            runtime = Runtime(self._settings, self._accounts, self._redis_url, results, self, single_jobs=single_jobs)
            self._runtime = (os.getpid(), runtime)
            runtime.start()
        return self._runtime[1]

    def runner_of(self, task: Task) -> JobRunner:
        """Return the runner of the account whose queue the task's message came from."""
        account = account_of_queue(task.request.delivery_info["routing_key"])
        runner = self.runtime().runners.get(account)
        if runner is None:
            # Its jobs stay queued for their own account, whose workers send their messages again.
            self.runtime().log.warning("foreign_message", account=account)
            raise Ignore
        return runner

    def send(self, account: str, job_ids: list[str], lane: Lane = Lane.FIRST) -> None:
        """Send a message for each job, by default with the highest priority. If that fails, rescue finds the jobs."""
        self._send(account, job_ids, lane)

    def send_later(self, account: str, job_id: str, countdown: timedelta) -> None:
        """Send a message for a job that waits."""
        self._send(account, [job_id], Lane.FIRST, countdown=countdown)

    def send_groups(self, account: str, job_ids: list[str], size: int) -> None:
        """Send messages with `size` jobs of a file in each."""
        self._send(account, job_ids, Lane.BULK, group_size=size)

    def single_waits(self) -> bool:
        """Return True if this process has received a message with one job, and has no free thread for it.

        A job with a low priority does not count: no other job makes room for it.
        """
        try:
            return any(
                request.name == TASK and request.delivery_info["priority"] != Lane.LOW.priority
                for request in state.reserved_requests - state.active_requests
            )
        except RuntimeError:
            # The sets changed during the iteration: the process is busy.
            return True

    def _send(self, account: str, job_ids: list[str], lane: Lane, **options: Any) -> None:
        try:
            self._messenger.send(account, job_ids, lane, **options)
        except MessageNotSent as error:
            self.runtime().log.warning("send_failed", jobs=len(job_ids), error=str(error))

    def connect_signals(self) -> None:
        signals.setup_logging.connect(self._on_logging, weak=False)
        signals.celeryd_init.connect(self._on_init, weak=False)
        signals.celeryd_after_setup.connect(self._on_setup, weak=False)
        signals.worker_ready.connect(self._on_ready, weak=False)
        signals.worker_shutting_down.connect(self._on_stop, weak=False)
        signals.worker_shutdown.connect(self._on_shutdown, weak=False)
        self._app.steps["worker"].add(Tick)

    def _on_logging(self, **_: Any) -> None:
        configure_logs(self._settings.log_format, self._settings.log_level)

    def _on_init(self, **_: Any) -> None:
        if not self._accounts:
            # Without a key, a worker can run no job.
            raise SystemExit(NO_KEY)

    def _on_setup(self, **_: Any) -> None:
        """Select the queues of all accounts. `--queues` names kinds of queues, or queues of single accounts."""
        queues = self._app.amqp.queues
        ids = [account.id for account in self._accounts]
        selected = [
            name
            for wanted in list(queues.consume_from)
            for name in ([queue_name(each, wanted) for each in ids] if wanted in (QUEUE, BULK_QUEUE) else [wanted])
        ]
        queues.select(selected)

    def _on_ready(self, **_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGQUIT, self._on_quit)
        queues = list(self._app.amqp.queues.consume_from)
        self.runtime().log.info("ready", concurrency=self._app.conf.worker_concurrency, queues=queues)

    def _on_stop(self, **_: Any) -> None:
        # Celery's own handling of a second Ctrl-C cannot stop threads: it raises an error, and the worker continues.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._on_second_interrupt)
        if self._runtime is None:
            # The server was never reached, and no job has started. A runtime would wait for the server, as Celery does.
            threading.Thread(target=self._exit_now, daemon=True).start()
            return
        self.runtime().stop(self._exit_now)

    def _on_shutdown(self, **_: Any) -> None:
        """Handle the end of a worker whose jobs have all finished."""
        if self._runtime is not None:
            self._runtime[1].close()

    def _on_second_interrupt(self, *_: Any) -> None:
        self.runtime().stop(self._exit_now)

    def _on_quit(self, *_: Any) -> None:
        """Shut down without a grace period. Celery's own cold shutdown would kill threads, which is impossible."""
        os.kill(os.getpid(), signal.SIGTERM)
        self.runtime().stop(self._exit_now)

    def _exit_now(self) -> None:
        """End the process. Threads that wait for a response would prevent that; their jobs are in the queue again."""
        self._on_exit()
        os._exit(0)


class Tick(bootsteps.StartStopStep):  # type: ignore[misc]
    """Makes Celery's loop poll for messages; see TICK_S."""

    requires = ("celery.worker.components:Hub",)

    def create(self, worker: Any) -> None:
        if worker.hub is not None:
            worker.hub.call_repeatedly(TICK_S, _nothing)


def _nothing() -> None:
    """Do nothing: the loop only has to wake up."""
