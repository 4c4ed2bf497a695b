"""One server shared by every command on this machine that has no MIRA_REDIS_URL.

Whoever comes first starts it, each user keeps it alive, and the last one stops it. All of this is decided under one
lock (`start.lock`), and what is true is asked of the kernel, never of a file's text: a lock is gone when its holder is.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mira_queue.ledger.embedded import locks, process
from mira_queue.ledger.embedded.errors import EmbeddedServerError, ServerSilentError, ServerStartError
from mira_queue.ledger.embedded.files import locate_files, state_dir_error
from mira_queue.ledger.embedded.process import Answer

# One PING. A script may keep the server for 5 s before it answers BUSY.
PROBE_TIMEOUT_S = 6.0
# To open the socket; loading the data comes after that and is waited for as long as the server says that it loads.
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
# Longer than one start or stop, so that a queue of users gives up only when something is really stuck.
LOCK_TIMEOUT_S = 90.0
# A server killed from outside while it starts is started again; one that refuses its data is not.
START_ATTEMPTS = 3
# With less the server cannot even begin a file.
MIN_FREE_BYTES = 64 * 1024
POLL_S = 0.02

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerStatus:
    """What `doctor` shows of a running server."""

    pid: int
    version: str
    uptime_s: int
    memory_bytes: int
    socket: Path
    data_bytes: int


class EmbeddedServer:
    """A share in the embedded server of a state directory.

        with EmbeddedServer(settings.state_dir) as url:
            ...

    Every process acquires for itself. A program that is started inherits nothing. A fork shares its parent's share:
    the server is not stopped while either of them has it, and either may release it.
    """

    def __init__(self, state_dir: Path, *, find_binary: process.BinaryLocator = process.find_binary) -> None:
        self._files = locate_files(state_dir)
        self._find_binary = find_binary
        self._share: int | None = None
        self._guard = threading.RLock()

    @property
    def url(self) -> str:
        """For Celery, kombu and our own client; nothing has to run."""
        return f"redis+socket://{self._files.socket}"

    @property
    def log_path(self) -> Path:
        return self._files.log

    def acquire(self) -> str:
        """Take a share, start the server when it does not run, and return its URL once it answers.

        A second call of the same object only ensures that it runs. Raises EmbeddedServerError; then nothing is held.
        """
        with self._guard:
            if self._share is None:
                self._files.prepare()
                try:
                    with locks.exclusive(self._files.start_lock, LOCK_TIMEOUT_S):
                        self._share = locks.open_lock(self._files.users_lock)
                        # Held exclusively only under the start lock, which is ours: this never waits.
                        fcntl.flock(self._share, fcntl.LOCK_SH)
                except OSError as error:
                    raise state_dir_error(self._files.state_dir, error) from None
            try:
                self.ensure_running()
                if self._probe() is Answer.CANNOT_WRITE:
                    raise state_dir_error(self._files.state_dir, OSError(errno.ENOSPC, "its disk refuses writes"))
            except BaseException:
                # Ctrl-C while a large file is loading comes here too: nobody else may want that server.
                with suppress(EmbeddedServerError):
                    self.release()
                raise
            return self.url

    def release(self) -> None:
        """Give the share back; the last one stops the server. Harmless without a share."""
        with self._guard:
            if self._share is None:
                return
            try:
                with locks.exclusive(self._files.start_lock, LOCK_TIMEOUT_S):
                    self._drop_share()
                    if self._nobody_uses_it():
                        self._stop()
            except OSError as error:
                raise state_dir_error(self._files.state_dir, error) from None
            finally:
                self._drop_share()

    def ensure_running(self) -> None:
        """Start the server again, with its data, when it is gone; one PING when it is not.

        Any user may call it at any time, in any number of processes at once. Raises EmbeddedServerError.
        """
        if self._share is None:
            raise EmbeddedServerError("The embedded server was not acquired, or was released")
        attempts = 0
        # Loading is waited for outside the lock: it may take minutes, and others may wait for it as well.
        while not self._wait_until_loaded():
            if attempts == START_ATTEMPTS:
                raise self._start_error()
            attempts += 1
            try:
                with self._guard, locks.exclusive(self._files.start_lock, LOCK_TIMEOUT_S):
                    self._bring_up()
            except OSError as error:
                raise state_dir_error(self._files.state_dir, error) from None

    def sync(self) -> None:
        """Bring what was acknowledged to the disk, for the day the power fails; the server does not (see 0002)."""
        self._files.sync()

    def status(self) -> ServerStatus | None:
        """Of the running server, acquired or not; None when none answers."""
        if not self._probe().alive:
            return None
        try:
            with self._client() as client:
                info = client.info()
        except redis.RedisError:
            return None
        return ServerStatus(
            pid=int(info["process_id"]),
            version=str(info.get("valkey_version", info["redis_version"])),
            uptime_s=int(info["uptime_in_seconds"]),
            memory_bytes=int(info["used_memory"]),
            socket=self._files.socket,
            data_bytes=self._files.data_bytes(),
        )

    def __enter__(self) -> str:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def _drop_share(self) -> None:
        if self._share is not None:
            os.close(self._share)
            self._share = None

    def _nobody_uses_it(self) -> bool:
        # Asked through a new file description: a fork that still has ours counts as a user.
        fd = locks.open_lock(self._files.users_lock)
        try:
            return locks.try_lock(fd, fcntl.LOCK_EX)
        finally:
            os.close(fd)

    def _bring_up(self) -> None:
        """Until something answers at the socket. The caller holds the start lock."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (answer := self._probe()).alive:
            if answer is Answer.ABSENT and self._start():
                return
            if time.monotonic() > deadline:
                raise self._silent_error()
            time.sleep(POLL_S)

    def _start(self) -> bool:
        """Start a server, unless the last one still has the data. True when it answers, or was killed from outside."""
        fd = locks.open_lock(self._files.server_lock)
        try:
            if not locks.try_lock(fd, fcntl.LOCK_EX):
                self._end_leftovers()
                return False
            server = process.spawn(self._find_binary(), self._files, fd)
        finally:
            os.close(fd)
        return self._wait_until_listening(server)

    def _wait_until_listening(self, server: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._probe().alive:
            ended = server.poll()
            if ended is not None and ended >= 0:
                raise self._start_error()
            if ended is not None:
                return True
            if time.monotonic() > deadline:
                raise self._silent_error()
            time.sleep(POLL_S)
        return True

    def _wait_until_loaded(self) -> bool:
        """True once it is ready, False when it ended instead. No limit while it says that it is loading."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while (answer := self._probe()) not in (Answer.READY, Answer.CANNOT_WRITE):
            if answer is Answer.ABSENT:
                return False
            if answer is Answer.LOADING:
                deadline = time.monotonic() + START_TIMEOUT_S
            elif time.monotonic() > deadline:
                raise self._silent_error()
            time.sleep(POLL_S)
        return True

    def _end_leftovers(self) -> None:
        """A killed server's rewriting child inherited the lock: it works for nobody, and would hold up the restart."""
        pid = process.read_pid(self._files.server_lock)
        if pid is None or pid <= 1:
            return
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            # The server led its own process group, and what is left of the group are its children.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        except PermissionError:
            return

    def _stop(self) -> None:
        """Stop the server and wait until it has let go of its data. The caller is the only user."""
        answer = self._probe()
        if answer is Answer.CANNOT_WRITE:
            # What it acknowledged as the disk became full is in its memory only. It tries again every second.
            log.warning("The disk of %s is full: the embedded server stays until it can write", self._files.state_dir)
            return
        if not answer.alive:
            return  # Gone, or it hears nothing; the next user meets it as it is.
        try:
            with self._client() as client:
                client.shutdown(nosave=True)  # Flushes the append-only file; "nosave" is about snapshots.
        except redis.RedisError as error:
            log.warning("The embedded server did not take SHUTDOWN (%s); the next user will find it", error)
            return
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while locks.is_held(self._files.server_lock):
            if time.monotonic() > deadline:
                log.warning("The embedded server has not stopped within %g s; see %s", STOP_TIMEOUT_S, self._files.log)
                return
            time.sleep(POLL_S)

    def _probe(self) -> Answer:
        return process.probe(self._files.socket, PROBE_TIMEOUT_S)

    def _client(self) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=str(self._files.socket),
            socket_timeout=STOP_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )

    def _start_error(self) -> EmbeddedServerError:
        if shutil.disk_usage(self._files.state_dir).free < MIN_FREE_BYTES:
            # The log could not be written either: what it ends with is of another day.
            return state_dir_error(self._files.state_dir, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        tail = process.log_tail(self._files.log)
        return ServerStartError(f"The embedded server did not start; its log, {self._files.log}, ends with\n{tail}")

    def _silent_error(self) -> ServerSilentError:
        pid = process.read_pid(self._files.server_lock)
        who = f"pid {pid}" if pid else "pid unknown"
        return ServerSilentError(
            f"The embedded server ({who}) has not answered for {START_TIMEOUT_S:g} s; its log is {self._files.log}"
        )


def is_supported(find_binary: process.BinaryLocator = process.find_binary) -> bool:
    """Whether this machine has an embedded server."""
    try:
        find_binary()
    except EmbeddedServerError:
        return False
    return True
