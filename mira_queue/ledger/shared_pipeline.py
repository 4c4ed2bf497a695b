"""Round trips to the server, shared: commands of threads that come while one is under way go together in the next.

Every thread of a worker brings its job a step further with a script. One trip for all of them costs the server less,
and the interpreter's lock, which every send and every receive gives up and must win again, far less.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import redis
from redis.exceptions import NoScriptError
from redis.retry import Retry

from mira_queue.ledger.connection import passes

Command = tuple[Any, ...]

LOOK_AGAIN_S = 1.0


class _PendingCommands:
    """One thread's commands, and their answers. `turn` is let go when they are there, or when this one is to lead."""

    __slots__ = ("answers", "commands", "error", "is_given_up", "leads", "turn")

    def __init__(self, commands: Sequence[Command]) -> None:
        self.commands = commands
        self.answers: list[Any] | None = None
        self.error: Exception | None = None
        self.is_given_up = self.leads = False
        self.turn = threading.Lock()
        self.turn.acquire()

    @property
    def is_over(self) -> bool:
        return self.answers is not None or self.error is not None


class SharedPipeline:
    """Trips of one client, for all of a process's threads. `scripts`: by their hash, for a server that lacks one.

    Commands may be repeated: after a lost answer, and all of a trip when the server refused one of them for the moment.
    """

    def __init__(self, client: redis.Redis, scripts: Iterable[str]) -> None:
        self._pool = client.connection_pool
        self._retry: Retry = client.get_retry()  # type: ignore[assignment]
        self._scripts = list(scripts)
        self._begin_anew()
        # In a child after a fork: the threads that were under way are not in it.
        begin_anew = weakref.WeakMethod(self._begin_anew)
        os.register_at_fork(after_in_child=lambda: (begin_anew() or _nothing_more)())

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_PendingCommands] = []
        self._under_way = False

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """The answer to each, in order; one that the server refused is a ResponseError in its place.

        Raises what the client raises when the server does not answer within its patience.
        """
        ride = _PendingCommands(commands)
        try:
            with self._lock:
                self._waiting.append(ride)
                ride.leads, self._under_way = not self._under_way, True
            while not (ride.leads or ride.is_over):
                # Looked at again: who was to let it go may have been interrupted just then.
                ride.turn.acquire(timeout=LOOK_AGAIN_S)
            if not ride.is_over:
                self._lead(ride)
        except BaseException:
            # Ctrl-C while it waits: nobody would be there to lead, when it is this one's turn.
            with self._lock:
                ride.is_given_up = True
                if ride.leads:
                    self._hand_on(ride)
            raise
        if ride.error is not None:
            raise ride.error
        assert ride.answers is not None
        return ride.answers

    def _hand_on(self, leader: _PendingCommands) -> None:
        """The first of those who wait leads the next trip, if there is one. The lock is held."""
        self._waiting = [ride for ride in self._waiting if not ride.is_given_up]
        self._under_way = bool(self._waiting)
        if self._waiting and not self._waiting[0].leads:
            self._waiting[0].leads = True
            self._waiting[0].turn.release()
        # Last: interrupted before, it does all of this again.
        leader.leads = False

    def _lead(self, leader: _PendingCommands) -> None:
        """Take everybody who waits along; then the first of those who came meanwhile leads."""
        with self._lock:
            together, self._waiting = self._waiting, []
        try:
            answers = self._retry.call_with_retry(lambda: self._go(together), _nothing)
            for ride in together:
                ride.answers, answers = answers[: len(ride.commands)], answers[len(ride.commands) :]
        except (UnicodeError, redis.DataError):
            # Some cannot be written down, so nothing was sent: whose they are must not be everybody's loss.
            for ride in together:
                self._go_alone(ride)
        except Exception as error:  # noqa: BLE001
            with self._lock:
                # Who came meanwhile has waited too: in a trip of his own he would wait as long again.
                together, self._waiting = together + self._waiting, []
            for ride in together:
                ride.error = error
        finally:
            with self._lock:
                # After an interrupt of this thread, its companions go on without it.
                self._waiting[:0] = [ride for ride in together if ride is not leader and not ride.is_over]
                self._hand_on(leader)
            for ride in together:
                if ride is not leader and ride.is_over:
                    ride.turn.release()

    def _go_alone(self, ride: _PendingCommands) -> None:
        try:
            ride.answers = self._retry.call_with_retry(lambda: self._go([ride]), _nothing)
        except Exception as error:  # noqa: BLE001
            ride.error = error

    def _go(self, together: Sequence[_PendingCommands]) -> list[Any]:
        commands = [command for ride in together for command in ride.commands]
        connection: Any = self._pool.get_connection()
        try:
            answers = _exchange(connection, commands)
            if any(isinstance(answer, NoScriptError) for answer in answers):
                # The server is a new one, or was started anew.
                _exchange(connection, [("SCRIPT LOAD", script) for script in self._scripts])
                answers = _exchange(connection, commands)
        except BaseException:
            # Answers that are still to come would be taken for those of the next commands.
            connection.disconnect()
            raise
        finally:
            self._pool.release(connection)
        for answer in answers:
            if isinstance(answer, redis.ResponseError) and passes(answer):
                raise answer
        return answers


def _exchange(connection: Any, commands: Sequence[Command]) -> list[Any]:
    connection.send_packed_command(connection.pack_commands(commands))
    answers = []
    for _ in commands:
        try:
            answers.append(connection.read_response())
        except redis.ResponseError as error:
            answers.append(error)
    return answers


def _nothing(_: Exception) -> None:
    """A connection that failed is closed already."""


def _nothing_more() -> None:
    """The ledger that was here before the fork is not needed any more."""
