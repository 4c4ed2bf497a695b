"""Announcements of finished jobs, on one connection.

`close` of lib/job.lua announces each job on a channel of its own, named like the job's result. A process therefore
receives what it waits for and nothing else.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import redis

from mira_queue.contract import names
from mira_queue.ledger.connection import passes, queue_error
from mira_queue.ledger.script_runner import decode


class Announcements:
    """Subscriptions of one thread.

    A connection that breaks is closed, and announcements are lost: `is_connected` is False, and methods do nothing. An
    error that the next connection would get, too, is raised as QueueUnavailable.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._pool = client.connection_pool
        self._connection: Any = None
        self._is_silent = False

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    def connect(self) -> None:
        """Connect, without subscriptions. Raises QueueUnavailable after the client's patience."""
        self._connection = self._pool.get_connection()
        self._is_silent = False

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

    def wait(self, timeout_s: float, wake: socket.socket) -> list[str]:
        """Return the ids of jobs to check, or none after the timeout or if `wake` can be read.

        A job is to be checked when it is announced. It is also to be checked when its subscription is confirmed: if it
        finished earlier, that was not announced here.
        """
        poller = select.poll()
        poller.register(wake, select.POLLIN)
        if self._connection is not None:
            poller.register(self._connection._sock, select.POLLIN)
        poller.poll(max(0.0, timeout_s) * 1000)
        found: list[str] = []
        self._attempt(lambda connection: found.extend(self._read(connection)))
        return found

    def _read(self, connection: Any) -> Iterator[str]:
        while connection.can_read(timeout=0):
            response = connection.read_response(push_request=True)
            self._is_silent = False
            # The response to a ping may be a list, too.
            if isinstance(response, list) and response[0] in (b"subscribe", b"message"):
                yield decode(response[1]).removeprefix(names.result_key(""))

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
