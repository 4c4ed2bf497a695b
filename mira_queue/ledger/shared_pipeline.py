"""Shared pipeline: commands of threads that arrive during a round trip go together in the next one.

Every thread of a worker runs scripts. One round trip for all of them costs the server less. It costs the interpreter's
lock, which every send and every receive releases and must acquire again, far less.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

import redis
from redis.exceptions import NoScriptError
from redis.retry import Retry

from mira_queue.contract.errors import InvalidRequest
from mira_queue.ledger.connection import passes
from mira_queue.runtime.forks import reset_after_fork

Command = tuple[Any, ...]

CHECK_EVERY_S = 1.0


class _PendingCommands:
    """One thread's commands, and their responses. `turn` is released when they are there, or when the thread leads."""

    __slots__ = ("commands", "error", "is_given_up", "leads", "responses", "turn")

    def __init__(self, commands: Sequence[Command]) -> None:
        self.commands = commands
        self.responses: list[Any] | None = None
        self.error: Exception | None = None
        self.is_given_up = self.leads = False
        self.turn = threading.Lock()
        self.turn.acquire()

    @property
    def is_done(self) -> bool:
        return self.responses is not None or self.error is not None


class SharedPipeline:
    """Round trips of one client for all threads of a process. `scripts` are loaded into a server that lacks one.

    Commands may be repeated: after a lost response, and all of a round trip if the server rejected one for the moment.
    """

    def __init__(self, client: redis.Redis, scripts: Iterable[str]) -> None:
        self._pool = client.connection_pool
        self._retry: Retry = client.get_retry()  # type: ignore[assignment]
        self._scripts = list(scripts)
        self._reset()
        # In a child after a fork, the threads that were waiting do not exist.
        reset_after_fork(self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_PendingCommands] = []
        self._is_busy = False

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """Return the responses in order; the response to a rejected command is a ResponseError.

        Raises the client's errors if the server does not respond within the client's patience.
        """
        pending = _PendingCommands(commands)
        try:
            with self._lock:
                self._waiting.append(pending)
                pending.leads, self._is_busy = not self._is_busy, True
            while not (pending.leads or pending.is_done):
                # Checked again: the thread that should release it may have been interrupted just then.
                pending.turn.acquire(timeout=CHECK_EVERY_S)
            if not pending.is_done:
                self._lead(pending)
        except BaseException:
            # After Ctrl-C in this wait, no thread would lead when it is this one's turn.
            with self._lock:
                pending.is_given_up = True
                if pending.leads:
                    self._pass_lead(pending)
            raise
        if pending.error is not None:
            raise pending.error
        assert pending.responses is not None
        return pending.responses

    def _pass_lead(self, leader: _PendingCommands) -> None:
        """Let the first waiting thread lead the next round trip, if there is one. The caller holds the lock."""
        self._waiting = [pending for pending in self._waiting if not pending.is_given_up]
        self._is_busy = bool(self._waiting)
        if self._waiting and not self._waiting[0].leads:
            self._waiting[0].leads = True
            self._waiting[0].turn.release()
        # Last: if this thread is interrupted before, it does all of this again.
        leader.leads = False

    def _lead(self, leader: _PendingCommands) -> None:
        """Run the commands of all waiting threads. Then the first thread that has arrived in the meantime leads."""
        with self._lock:
            together, self._waiting = self._waiting, []
        try:
            responses = self._retry.call_with_retry(lambda: self._round_trip(together), _is_closed)
            for pending in together:
                count = len(pending.commands)
                pending.responses, responses = responses[:count], responses[count:]
        except (InvalidRequest, redis.DataError):
            # Some cannot be encoded, so nothing was sent. Only the thread that they belong to gets the error.
            for pending in together:
                self._run_alone(pending)
        except Exception as error:  # noqa: BLE001
            with self._lock:
                # Threads that arrived in the meantime have waited, too: another round trip would take as long again.
                together, self._waiting = together + self._waiting, []
            for pending in together:
                pending.error = error
        finally:
            with self._lock:
                # After an interrupt of this thread, the others continue without it.
                self._waiting[:0] = [each for each in together if each is not leader and not each.is_done]
                self._pass_lead(leader)
            for pending in together:
                if pending is not leader and pending.is_done:
                    pending.turn.release()

    def _run_alone(self, pending: _PendingCommands) -> None:
        try:
            pending.responses = self._retry.call_with_retry(lambda: self._round_trip([pending]), _is_closed)
        except Exception as error:  # noqa: BLE001
            pending.error = error

    def _round_trip(self, together: Sequence[_PendingCommands]) -> list[Any]:
        commands = [command for pending in together for command in pending.commands]
        connection: Any = self._pool.get_connection()
        try:
            responses = _exchange(connection, commands)
            if any(isinstance(response, NoScriptError) for response in responses):
                # The server is new, or was restarted.
                _exchange(connection, [("SCRIPT LOAD", script) for script in self._scripts])
                responses = _exchange(connection, commands)
        except BaseException:
            # Responses that are still to come would be taken for those of the next commands.
            connection.disconnect()
            raise
        finally:
            self._pool.release(connection)
        for response in responses:
            if isinstance(response, redis.ResponseError) and passes(response):
                raise response
        return responses


def _exchange(connection: Any, commands: Sequence[Command]) -> list[Any]:
    connection.send_packed_command(connection.pack_commands(commands))
    responses = []
    for _ in commands:
        try:
            responses.append(connection.read_response())
        except redis.ResponseError as error:
            responses.append(error)
    return responses


def _is_closed(_: Exception) -> None:
    """A connection that failed is closed already."""
