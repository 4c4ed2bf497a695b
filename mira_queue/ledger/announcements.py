"""Announcements of finished jobs, on one connection.

`close` of lib/job.lua announces each job on a channel of its own, named like the job's result. A process therefore
receives what it waits for and nothing else.
"""

from __future__ import annotations

import select
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import redis

from mira_queue.contract import names
from mira_queue.ledger.connection import passes, queue_error
from mira_queue.ledger.script_runner import decode

_MAX_WAKES = 4096


class Announcements:
    """Subscriptions of one thread.

    A connection that breaks is closed, and announcements are lost: `is_connected` is False, and methods do nothing. An
    error that the next connection would get, too, is raised as QueueUnavailable.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._pool = client.connection_pool
        self._connection: Any = None
        self._is_silent = False
        self._unconfirmed: Counter[str] = Counter()

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    def connect(self) -> None:
        """Connect, without subscriptions. Raises QueueUnavailable after the client's patience."""
        self._connection = self._pool.get_connection()
        # The default writes each message into a debug log, and builds the line also if nothing logs it.
        self._connection._parser.set_pubsub_push_handler(lambda message: message)
        self._is_silent = False
        self._unconfirmed.clear()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # It cannot return to commands: the next announcement would be taken for a response.
            connection.disconnect()
            self._pool.release(connection)

    def close_after_fork(self) -> None:
        """Close the child's copy. The connection, and the pool's lock, are the parent's."""
        if self._connection is not None:
            self._connection.disconnect()

    def subscribe(self, job_ids: Sequence[str]) -> None:
        self._unconfirmed.update(job_ids)
        self._send("SUBSCRIBE", job_ids)

    def unsubscribe(self, job_ids: Sequence[str]) -> None:
        self._send("UNSUBSCRIBE", job_ids)

    def ping(self) -> None:
        """Check the connection, which is closed if nothing has arrived since the last ping.

        A firewall that drops a connection tells neither side.
        """
        if self._is_silent:
            self.close()
        self._is_silent = True
        self._attempt(lambda connection: connection.send_command("PING", check_health=False))

    def wait(self, timeout_s: float, wake: socket.socket) -> tuple[dict[str, bytes | None], list[str]]:
        """Return the records of announced jobs, and the ids of jobs to check. A record elsewhere is None.

        A job is to be checked when its subscription is confirmed: if it had finished before, that was not announced
        here. The method returns after the timeout, or earlier if `wake` can be read, and empties it.
        """
        poller = select.poll()
        poller.register(wake, select.POLLIN)
        if self._connection is not None:
            poller.register(self._connection._sock, select.POLLIN)
        readable = [file for file, _ in poller.poll(max(0.0, timeout_s) * 1000)]
        announced: dict[str, bytes | None] = {}
        to_check: list[str] = []
        if wake.fileno() in readable:
            wake.recv(_MAX_WAKES)
            readable.remove(wake.fileno())
        if readable:
            self._attempt(lambda connection: self._read(connection, announced, to_check))
        return announced, to_check

    def _read(self, connection: Any, announced: dict[str, bytes | None], to_check: list[str]) -> None:
        is_first = True
        while is_first or connection.can_read(timeout=0):
            is_first = False
            response = connection.read_response(push_request=True)
            self._is_silent = False
            # The response to a ping is no list, or another one.
            match response:
                case [b"subscribe", channel, _]:
                    job_id = _job_id(channel)
                    self._unconfirmed[job_id] -= 1
                    to_check.append(job_id)
                case [b"message", channel, record]:
                    job_id = _job_id(channel)
                    # Before the confirmation, it may be older than a retry, and older than the wait for its result.
                    if self._unconfirmed[job_id] <= 0:
                        announced[job_id] = record or None

    def _send(self, command: str, job_ids: Sequence[str]) -> None:
        if job_ids:
            channels = map(names.result_key, job_ids)
            self._attempt(lambda connection: connection.send_command(command, *channels, check_health=False))

    def _attempt(self, do: Callable[[Any], None]) -> None:
        if self._connection is None:
            return
        try:
            do(self._connection)
        except (redis.RedisError, OSError) as error:
            self.close()
            if not passes(error):
                raise queue_error(error) from error


def _job_id(channel: bytes) -> str:
    return decode(channel).removeprefix(names.result_key(""))
