"""Watcher of an embedded server: a small process that stops the server if its last user was killed.

A user that exits normally stops the server itself. The watcher is for users that could not.

It runs as a script, without our packages, so that it takes 10 MiB. It starts with the server and ends with it: its
standard input is a pipe whose other end only the server holds.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import sys

CHECK_EVERY_S = 10.0
STOP_TIMEOUT_S = 30.0
REPLY_TIMEOUT_S = 6.0
READ_BYTES = 256


def main(start_lock: int, users_lock: int, users_path: str, socket_path: str) -> None:
    """Watch until the server has exited. The locks are open files, which outlive a deleted state directory."""
    pid = b""
    while True:
        if _is_readable(CHECK_EVERY_S):
            # The process that starts the server sends its pid. The pipe ends with the server.
            received = os.read(0, READ_BYTES)
            if not received:
                return
            pid += received
            continue
        # A user that starts or stops the server holds the start lock. While we hold it, no user can appear.
        if not _try_lock(start_lock):
            continue
        if _try_lock(users_lock):
            _unlock(users_lock)
            _stop(users_lock, users_path, socket_path, pid)
            if _is_readable(STOP_TIMEOUT_S) and not os.read(0, READ_BYTES):
                return
        _unlock(start_lock)


def _stop(users_lock: int, users_path: str, socket_path: str, pid: bytes) -> None:
    try:
        is_current = os.path.samestat(os.stat(users_path), os.fstat(users_lock))
    except OSError:
        is_current = False
    if is_current:
        _shut_down(socket_path)
    elif pid:
        # The state directory was deleted or moved, and the socket's path may belong to its successor. SIGKILL loses
        # nothing: the kernel has every acknowledged write.
        os.killpg(int(pid), signal.SIGKILL)


def _shut_down(socket_path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(REPLY_TIMEOUT_S)
        try:
            connection.connect(socket_path)
            connection.sendall(b"PING\r\n")
            # While its disk is full, it holds acknowledged writes in memory, and replies MISCONF.
            if connection.recv(READ_BYTES).startswith((b"+PONG", b"-LOADING")):
                connection.sendall(b"SHUTDOWN NOSAVE\r\n")
                connection.recv(READ_BYTES)
        except OSError:
            # The next check retries.
            return


def _is_readable(timeout_s: float) -> bool:
    return bool(select.select([0], [], [], timeout_s)[0])


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(fd: int) -> None:
    fcntl.flock(fd, fcntl.LOCK_UN)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
