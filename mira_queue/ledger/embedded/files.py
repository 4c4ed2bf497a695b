"""Files of the embedded server, which only this user can access."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mira_queue.ledger.embedded.errors import StateDirError
from mira_queue.runtime.private_files import PRIVATE_DIR_MODE, make_private_dir

# sun_path holds 104 bytes on macOS and 108 on Linux, with a closing zero byte.
SOCKET_PATH_MAX_BYTES = 100

# Anything else would need quoting in a URL, and Celery, kombu and redis-py do not agree on how.
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")

# Not tempfile.gettempdir(): TMPDIR differs between a shell, cron and a service, and all have to find one socket.
SHORT_SOCKET_ROOT = Path("/tmp")

_BLOCK_BYTES = 64 * 1024


@dataclass(frozen=True)
class ServerFiles:
    """The paths of one state directory. Lock files are never deleted: a lock on a deleted file protects nothing."""

    state_dir: Path
    socket: Path

    @property
    def start_lock(self) -> Path:
        """Held by a process while it starts or stops the server, one at a time."""
        return self.state_dir / "start.lock"

    @property
    def users_lock(self) -> Path:
        """Held shared by every process that uses the server. A process that gets it exclusively is the last one."""
        return self.state_dir / "users.lock"

    @property
    def server_lock(self) -> Path:
        """Held by the server process as long as it runs. Its text is the server's pid."""
        return self.state_dir / "server.lock"

    @property
    def log(self) -> Path:
        return self.state_dir / "valkey.log"

    @property
    def data_dir(self) -> Path:
        return self.state_dir / "appendonlydir"

    def prepare(self) -> None:
        """Create the directories. Raises StateDirError, one line that names the setting."""
        try:
            make_private_dir(self.state_dir)
        except OSError as error:
            raise state_dir_error(self.state_dir, error) from None
        if self.socket.parent != self.state_dir:
            _own_private_dir(self.socket.parent)

    def sync(self) -> None:
        """Wait until the newest part of the append-only file, to which the server writes, is on the disk."""
        try:
            newest = max(self.data_dir.glob("*.incr.aof"), key=lambda path: path.stat().st_mtime_ns)
            fd = os.open(newest, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, ValueError):
            return
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def cut_zeros(self) -> list[tuple[Path, int]]:
        """Remove zeros at the end of append-only files. Return the files and the number of removed bytes.

        After a power cut, a file system may have made a file longer before it has stored the content. No complete
        command ends with a zero. What precedes the zeros may be half a command, which the server removes itself.
        """
        cut = []
        for path in self.data_dir.glob("*.incr.aof"):
            with path.open("r+b") as file:
                size = file.seek(0, os.SEEK_END)
                end = _end_without_zeros(file, size)
                if end < size:
                    file.truncate(end)
                    os.fsync(file.fileno())
                    cut.append((path, size - end))
        return cut


def locate_files(state_dir: Path, short_socket_root: Path = SHORT_SOCKET_ROOT) -> ServerFiles:
    """Return the files of a state directory. A socket path that does not fit into an address or URL is replaced."""
    # One server for one directory, through any symbolic link.
    state_dir = Path(os.path.realpath(state_dir.expanduser()))
    socket = state_dir / "valkey.sock"
    if len(os.fsencode(socket)) > SOCKET_PATH_MAX_BYTES or not PLAIN_PATH.fullmatch(str(socket)):
        digest = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:16]
        socket = short_socket_root / f"mira-queue-{os.getuid()}" / f"{digest}.sock"
    return ServerFiles(state_dir, socket)


def state_dir_error(state_dir: Path, error: OSError) -> StateDirError:
    reason = error.strerror or str(error)
    return StateDirError(f"{state_dir} cannot hold the embedded server ({reason}): free it or set MIRA_STATE_DIR")


def _end_without_zeros(file: BinaryIO, end: int) -> int:
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        file.seek(start)
        kept = len(file.read(end - start).rstrip(b"\0"))
        if kept:
            return start + kept
        end = start
    return 0


def _own_private_dir(path: Path) -> None:
    """Create a private directory. In a world-writable one, another user may have created it first, to listen there."""
    try:
        path.mkdir(mode=PRIVATE_DIR_MODE, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise StateDirError(f"{path} belongs to another user: remove it or set MIRA_STATE_DIR to a shorter path")
        if stat.S_IMODE(found.st_mode) != PRIVATE_DIR_MODE:
            path.chmod(PRIVATE_DIR_MODE)
    except OSError as error:
        raise state_dir_error(path, error) from None
