"""The process of a gateway: its socket, its HTTP server, and the workers next to it."""

from __future__ import annotations

import os
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import structlog
import uvicorn

from mira_producer.batches.restart import restart_batches
from mira_producer.client import MiraQueue
from mira_producer.fleet import STOP_MARGIN, Fleet, WorkersFail
from mira_producer.gateway.access import Access
from mira_producer.gateway.app import build_app
from mira_producer.gateway.context import Context
from mira_producer.gateway.files.batch_files import BatchFiles
from mira_producer.gateway.files.file_store import FileStore
from mira_producer.gateway.files.upload_store import UploadStore
from mira_producer.gateway.http.connections import MAX_CONNECTIONS, BoundedProtocol
from mira_producer.gateway.jobs.poll_forecast import PollForecast
from mira_producer.gateway.price_table import PriceTable
from mira_producer.gateway.retries.open_requests import OpenRequests
from mira_producer.interrupts import interrupts_call
from mira_producer.page.live import LiveTopics
from mira_producer.page.session import Sessions
from mira_producer.processes import StartError
from mira_queue.contract.settings import LOOPBACK_HOSTS, Settings

POLL_INTERVAL_S = 0.2
KEEP_ALIVE_S = 75
BACKLOG = 2048
# Files that a process has open apart from its connections.
OTHER_FILES = 1024


@dataclass(frozen=True, slots=True)
class Service:
    """A gateway to be run. `workers` is how many workers run next to it, and `say` prints a message for the user."""

    settings: Settings
    host: str
    port: int
    workers: int
    say: Callable[[str], None]
    is_simulated: bool = False
    price_table: PriceTable = field(default_factory=PriceTable)

    def run(self, announce: Callable[[MiraQueue, str], None]) -> list[int]:
        """Serve until a signal stops the process. Return the exit codes of the workers.

        `announce` gets the client and the base URL as soon as requests are accepted. Raises StartError if the address
        cannot be used, and WorkersFail if workers exit as soon as they start.
        """
        with ExitStack() as stack:
            listener = stack.enter_context(_listen(self.host, self.port))
            queue = stack.enter_context(MiraQueue(self.settings))
            if self.is_simulated:
                # The simulator of this gateway has another port than that of an earlier one.
                queue.ledger.set_base(queue.accounts.current.id, queue.accounts.current.base)
            # Their users wait: single jobs do not wait for the lines of batches, nor does the first line of a batch.
            fleet = Fleet(self.settings, self.workers, None, self.say, single=min(1, self.workers))
            stopping = threading.Event()
            config = self._config(queue, stopping)
            server = _Server(config, lambda: announce(queue, _url(listener)), stopping)
            watch = _Watch(fleet, server)
            ended = threading.Event()
            with interrupts_call(server.stop):
                try:
                    fleet.start()
                    for target, args in ((watch.run, (ended,)), (restart_batches, (queue, ended))):
                        threading.Thread(target=target, args=args, name=target.__name__, daemon=True).start()
                    server.run([listener])
                finally:
                    ended.set()
                    codes = fleet.stop(self.settings.grace + STOP_MARGIN)
            if watch.error is not None:
                raise watch.error
            return codes

    def _config(self, queue: MiraQueue, stopping: threading.Event) -> uvicorn.Config:
        _raise_file_limit()
        files = FileStore(self.settings.state_dir)
        log = structlog.get_logger("mira_queue.gateway").bind(pid=os.getpid())
        page = urlsplit(self.settings.page_url or "")
        context = Context(
            queue,
            self.settings,
            Access(queue.ledger.api_key, is_simulated=self.is_simulated),
            files,
            UploadStore(self.settings.state_dir, files),
            BatchFiles(queue.batches, round(self.settings.result_ttl.total_seconds())),
            OpenRequests(queue.ledger),
            PollForecast(queue.ledger.pace_view),
            self.price_table,
            frozenset({*self.settings.gateway_hosts, self.host.lower(), page.hostname or self.host.lower()}),
            Sessions(queue.ledger.page_secret(), is_secure=page.scheme == "https"),
            LiveTopics(stopping, log),
            log,
            self.is_simulated,
        )
        return uvicorn.Config(
            build_app(context),
            http=BoundedProtocol,
            loop="uvloop",
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            # The address of a proxy's client is nothing that we use.
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=round(self.settings.grace.total_seconds()),
        )


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves signals to us, and reports when it accepts requests and when it stops."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], stopping: threading.Event) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        """Stop accepting requests, and let open ones finish. A second call ends the wait for them."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._stopping.set()


class _Watch:
    """Replaces workers that crash. If they cannot start, it stops the server."""

    def __init__(self, fleet: Fleet, server: _Server) -> None:
        self._fleet = fleet
        self._server = server
        self.error: WorkersFail | None = None

    def run(self, ended: threading.Event) -> None:
        while not ended.wait(POLL_INTERVAL_S):
            try:
                self._fleet.replace_crashed()
            except WorkersFail as error:
                self.error = error
                self._server.stop()
                return


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    """Bind the address before anything is started. Raises StartError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(BACKLOG)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise StartError(f"cannot listen on {host}:{port}: {reason}: choose others with --host, --port") from None
        listener.setblocking(False)
        yield listener


def _url(listener: socket.socket) -> str:
    """Return the base URL, as a client on this machine uses it."""
    host, port = listener.getsockname()[:2]
    name = {"0.0.0.0": LOOPBACK_HOSTS[1], "::": f"[{LOOPBACK_HOSTS[2]}]"}.get(
        host, f"[{host}]" if ":" in host else host
    )
    return f"http://{name}:{port}/v1"


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
