"""The one Celery task, and the worker's life. With the Celery configuration, the only code that knows Celery."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import structlog
from celery import Celery, Task, bootsteps, signals
from celery.bin.celery import celery
from celery.worker import state
from celery.worker.consumer import Consumer
from celery.worker.request import Request

from mira_queue.contract.errors import JobError, ServiceFault
from mira_queue.contract.names import BULK_QUEUE, GROUP_TASK, TASK, Lane
from mira_queue.contract.settings import Settings
from mira_queue.ledger.messages import MessageNotSent, Messenger
from mira_queue.runtime.celery_config import stores_results_itself
from mira_queue.runtime.logs import configure_logs
from mira_worker.result_backend import BackendResults
from mira_worker.runner import SendAgain, SendNow
from mira_worker.worker_runtime import Runtime

# Celery's loop looks for the next message when something happens, else once a second. A call that ends in another
# thread is nothing that it sees: without this tick a worker that was full takes its next jobs up to a second late.
TICK_S = 0.02


class Again(Exception):
    """Raised for autoretry_for: the job waits. Carries the countdown that its outcome asks for."""

    def __init__(self, countdown: timedelta, error: JobError) -> None:
        # Celery logs it: the code, and not the server's words, which may quote the prompt.
        super().__init__(error.code)
        self.countdown_s = countdown.total_seconds()
        self.error = error


class AfterFault(Again):
    """A server fault or a broken connection: exponential backoff with jitter."""


class JobMessage(Request):  # type: ignore[misc]
    """A message that a worker holds.

    Celery logs an acknowledgement that failed, and the transport goes on counting its message as held: after some
    broken connections so many are "held" that the worker takes no more. Not swallowed, they make it connect anew.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        # What kombu stumbles over when the message's connection is gone altogether: nothing is held there any more.
        super().__init__(*args, **{**options, "connection_errors": (AttributeError,)})


class JobConsumer(Consumer):  # type: ignore[misc]
    """Listens to the queue."""

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Let a broken connection go; whatever goes wrong with that, go on to the next one.

        Celery 5.7 closes a connection that it has emptied before. With messages held, and the server away, kombu then
        stumbles over what is not there (AttributeError), and the worker would end.
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
    """A job's task. The ledger counts attempts and the backoff policy says when; Celery carries the message."""

    autoretry_for = (AfterFault,)
    # Endless for Celery: waiting is not failing, and what may fail is counted in the ledger, where a crash keeps it.
    max_retries = None
    ignore_result = True
    Request = "mira_worker.tasks:JobMessage"

    def retry(self, *args: Any, exc: Exception | None = None, countdown: float | None = None, **options: Any) -> Any:
        """Celery's retry, with our countdown: its own backoff knows whole seconds only, and forgets in a crash."""
        if isinstance(exc, Again):
            countdown = exc.countdown_s
        # First in line, since a message is only looked at, and its countdown begun, when it has been taken out.
        return super().retry(*args, exc=exc, countdown=countdown, **{"priority": Lane.FIRST.priority, **options})


def is_stopping() -> bool:
    """Somebody has told this worker to end."""
    return state.should_stop is not None


def register(app: Celery, settings: Settings, redis_url: str, on_exit: Callable[[], None]) -> None:
    """Give the application its task and its worker the runtime; `on_exit` is called last, when the grace has passed."""
    life = WorkerLife(app, settings, redis_url, on_exit)
    app.conf.worker_consumer = JobConsumer

    @app.task(bind=True, base=JobTask, name=TASK)  # type: ignore[untyped-decorator]
    def run_job(self: JobTask, job_id: str) -> None:
        match life.runtime().runner.run(job_id):
            case SendAgain(countdown=countdown, error=error) if isinstance(error, ServiceFault):
                raise AfterFault(countdown, error)
            case SendAgain(countdown=countdown):
                raise self.retry(countdown=countdown.total_seconds())
            case SendNow():
                life.send([job_id])

    @app.task(acks_late=True, ignore_result=True, name=GROUP_TASK)  # type: ignore[untyped-decorator]
    def run_jobs(job_ids: list[str]) -> None:
        life.runtime().groups.run(job_ids)

    # Celery's own class for requests would swallow a failed acknowledgement; see JobMessage.
    run_jobs.Request = JobTask.Request

    life.connect_signals()


class WorkerLife:
    """Start and end of a worker. The runtime is built in the process that runs jobs, when it is first needed."""

    def __init__(self, app: Celery, settings: Settings, redis_url: str, on_exit: Callable[[], None]) -> None:
        self._app = app
        self._messenger = Messenger(app)
        self._on_exit = on_exit
        self._settings = settings
        self._redis_url = redis_url
        self._runtime: tuple[int, Runtime] | None = None

    def runtime(self) -> Runtime:
        """This process's runtime (a forked child of Celery's prefork pool gets its own)."""
        if self._runtime is None or self._runtime[0] != os.getpid():
            results = None if stores_results_itself(self._settings) else BackendResults(self._app.backend)
            single_jobs = BULK_QUEUE not in self._app.amqp.queues.consume_from
            runtime = Runtime(self._settings, self._redis_url, results, self, single_jobs=single_jobs)
            self._runtime = (os.getpid(), runtime)
            runtime.start()
        return self._runtime[1]

    def send(self, job_ids: list[str]) -> None:
        """A message for each job, first in line. One that cannot be sent is not lost: rescue sees a queued job."""
        self._send(job_ids, Lane.FIRST)

    def send_later(self, job_id: str, countdown: timedelta) -> None:
        """A message for a job that waits."""
        self._send([job_id], Lane.FIRST, countdown=countdown)

    def send_groups(self, job_ids: list[str], size: int) -> None:
        """Messages for jobs of a file, `size` in each."""
        self._send(job_ids, Lane.BULK, group_size=size)

    def single_waits(self) -> bool:
        """Is there a message of one job that this process has taken, and has no thread for?"""
        try:
            return any(request.name == TASK for request in state.reserved_requests - state.active_requests)
        except RuntimeError:
            # Others come and go while we look: too busy to tell.
            return True

    def _send(self, job_ids: list[str], lane: Lane, **options: Any) -> None:
        try:
            self._messenger.send(job_ids, lane, **options)
        except MessageNotSent as error:
            self.runtime().log.warning("send_failed", jobs=len(job_ids), error=str(error))

    def connect_signals(self) -> None:
        signals.setup_logging.connect(self._on_logging, weak=False)
        signals.worker_ready.connect(self._on_ready, weak=False)
        signals.worker_shutting_down.connect(self._on_stop, weak=False)
        self._app.steps["worker"].add(Tick)

    def _on_logging(self, **_: Any) -> None:
        configure_logs(self._settings.log_format, self._settings.log_level)

    def _on_ready(self, **_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGQUIT, self._on_quit)
        queues = list(self._app.amqp.queues.consume_from)
        self.runtime().log.info("ready", concurrency=self._app.conf.worker_concurrency, queues=queues)

    def _on_stop(self, **_: Any) -> None:
        # Celery's own answer to a second Ctrl-C cannot stop threads: it ends in an error, and the worker goes on.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._on_second_interrupt)
        if self._runtime is None:
            # The server was never reached, and nothing begun. A runtime would wait for the server, as Celery does.
            threading.Thread(target=self._exit_now, daemon=True).start()
            return
        self.runtime().stop(self._exit_now)

    def _on_second_interrupt(self, *_: Any) -> None:
        self.runtime().stop(self._exit_now)

    def _on_quit(self, *_: Any) -> None:
        """Cold shutdown: a warm one whose grace is over. Celery's own would kill threads, which cannot be done."""
        os.kill(os.getpid(), signal.SIGTERM)
        self.runtime().stop(self._exit_now)

    def _exit_now(self) -> None:
        """Threads that wait for an answer would keep Python from ending; their jobs are in the queue again."""
        self._on_exit()
        os._exit(0)


class Tick(bootsteps.StartStopStep):  # type: ignore[misc]
    """Keeps Celery's loop looking for messages; see TICK_S."""

    requires = ("celery.worker.components:Hub",)

    def create(self, worker: Any) -> None:
        if worker.hub is not None:
            worker.hub.call_repeatedly(TICK_S, _nothing)


def _nothing() -> None:
    """The loop needs no more than to wake up."""
