"""One server shared by every command on this machine that has no MIRA_REDIS_URL.

The first process starts it, every process keeps it running, and the last one stops it. One lock (`start.lock`) protects
these decisions. They depend on the kernel's locks, which end with their holders, and never on the text of a file.
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
# To open the socket. The data is loaded after that, which may take as long as the server reports that it is loading.
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
# Longer than one start or stop, so that waiting processes give up only if something is stuck.
LOCK_TIMEOUT_S = 90.0
# A server that was killed during its start is started again. A server that rejects its data is not.
START_ATTEMPTS = 3
# With less, the server cannot create a file.
MIN_FREE_BYTES = 64 * 1024
POLL_S = 0.02

log = logging.getLogger(__name__)


class EmbeddedServer:
    """A share in the embedded server of a state directory.

        with EmbeddedServer(settings.state_dir) as url:
            ...

    Every process acquires its own share. A program that a process starts inherits nothing. A fork has its parent's
    share: the server does not stop while either has it, and either may release it.
    """

    def __init__(self, state_dir: Path, *, find_binary: process.BinaryLocator = process.find_binary) -> None:
        self._files = locate_files(state_dir)
        self._find_binary = find_binary
        self._share: int | None = None
        self._guard = threading.RLock()

    @property
    def url(self) -> str:
        """URL for Celery, kombu and our own client. The server need not run."""
        return f"redis+socket://{self._files.socket}"

    def acquire(self) -> str:
        """Acquire a share, start the server if it does not run, and return its URL when it responds.

        A second call on the same object only ensures that it runs. After an EmbeddedServerError, nothing is held.
        """
        with self._guard:
            if self._share is None:
                self._files.prepare()
                try:
                    with locks.exclusive(self._files.start_lock, LOCK_TIMEOUT_S):
                        self._share = locks.open_lock(self._files.users_lock)
                        # Other processes hold it exclusively only under the start lock, which we hold: no wait.
                        fcntl.flock(self._share, fcntl.LOCK_SH)
                except OSError as error:
                    raise state_dir_error(self._files.state_dir, error) from None
            try:
                self.ensure_running()
                if self._probe() is Answer.CANNOT_WRITE:
                    raise state_dir_error(self._files.state_dir, OSError(errno.ENOSPC, "its disk rejects writes"))
            except BaseException:
                # Also after Ctrl-C while a large file is loading: no other process may need that server.
                with suppress(EmbeddedServerError):
                    self.release()
                raise
            return self.url

    def release(self) -> None:
        """Release the share. The last process stops the server. Without a share, do nothing."""
        with self._guard:
            if self._share is None:
                return
            try:
                with locks.exclusive(self._files.start_lock, LOCK_TIMEOUT_S):
                    self._drop_share()
                    if self._is_unused():
                        self._stop()
            except OSError as error:
                raise state_dir_error(self._files.state_dir, error) from None
            finally:
                self._drop_share()

    def ensure_running(self) -> None:
        """Send one PING, and restart the server with its data if it does not run. Raises EmbeddedServerError.

        Any number of processes may call this at the same time.
        """
        if self._share is None:
            raise EmbeddedServerError("The embedded server was not acquired, or was released")
        attempts = 0
        # Outside the lock: loading may take minutes, and other processes may wait for it as well.
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
        """Sync acknowledged writes to the disk, against a power loss. The server does not do it (see 0002)."""
        self._files.sync()

    def running_pid(self) -> int | None:
        """Return the process of the running server, acquired or not, or None if no server responds."""
        if not self._probe().alive:
            return None
        try:
            with self._client() as client:
                return int(client.info("server")["process_id"])
        except redis.RedisError:
            return None

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

    def _is_unused(self) -> bool:
        # Through a new file description, because a fork that still has ours counts as a user.
        fd = locks.open_lock(self._files.users_lock)
        try:
            return locks.try_lock(fd, fcntl.LOCK_EX)
        finally:
            os.close(fd)

    def _bring_up(self) -> None:
        """Start servers until one responds at the socket. The caller holds the start lock."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (answer := self._probe()).alive:
            if answer is Answer.ABSENT and self._start():
                return
            if time.monotonic() > deadline:
                raise self._silent_error()
            time.sleep(POLL_S)

    def _start(self) -> bool:
        """Start a server, unless the last one still has the data. Return True if it responds, or was killed."""
        fd = locks.open_lock(self._files.server_lock)
        try:
            if not locks.try_lock(fd, fcntl.LOCK_EX):
                self._end_leftovers()
                return False
            for path, count in self._files.cut_zeros():
                log.warning("%s: cut off %s bytes of zeros, which a power cut had left at its end", path, f"{count:,}")
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
        """Return True when the server is ready, or False if it exited. There is no timeout while it is loading."""
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
        """Kill the rewriting child of a killed server: it inherited the lock, and would delay the restart."""
        pid = process.read_pid(self._files.server_lock)
        if pid is None or pid <= 1:
            return
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            # The server led its process group, so the rest of the group are its children.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        except PermissionError:
            return

    def _stop(self) -> None:
        """Stop the server and wait until it has released its data. The caller is the only user."""
        answer = self._probe()
        if answer is Answer.CANNOT_WRITE:
            # Writes that it acknowledged when the disk became full are only in memory. It retries every second.
            log.warning("The disk of %s is full: the embedded server stays until it can write", self._files.state_dir)
            return
        if not answer.alive:
            return  # It has exited, or does not respond. The next process handles that.
        try:
            with self._client() as client:
                client.shutdown(nosave=True)  # Flushes the append-only file; "nosave" is about snapshots.
        except redis.RedisError as error:
            log.warning("The embedded server did not accept SHUTDOWN (%s); it stays", error)
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
            # The log could not be written either, so its last lines are old.
            return state_dir_error(self._files.state_dir, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        tail = process.log_tail(self._files.log)
        return ServerStartError(f"The embedded server did not start; its log, {self._files.log}, ends with\n{tail}")

    def _silent_error(self) -> ServerSilentError:
        pid = process.read_pid(self._files.server_lock)
        who = f"pid {pid}" if pid else "pid unknown"
        return ServerSilentError(
            f"The embedded server ({who}) has not responded for {START_TIMEOUT_S:g} s; its log is {self._files.log}"
        )


def is_supported(find_binary: process.BinaryLocator = process.find_binary) -> bool:
    """Return True if this machine has an embedded server."""
    try:
        find_binary()
    except EmbeddedServerError:
        return False
    return True
