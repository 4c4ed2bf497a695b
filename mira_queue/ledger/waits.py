"""Waits of a process for finished jobs. One thread, with one subscription and one poll, serves all of them.

The thread runs while there are waits. A wait is a future: a thread blocks on it, or an event loop wraps it.
"""

from __future__ import annotations

import copy
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress

from mira_queue.contract.errors import InvalidRequest, JobNotFound, QueueUnavailable
from mira_queue.contract.states import JobState
from mira_queue.contract.unicode import is_unicode
from mira_queue.ledger.jobs import Jobs
from mira_queue.runtime.forks import reset_after_fork

# An announcement can be lost with its connection. The poll finds these jobs.
POLL_S = 2.0
# If a server or a proxy closes every subscription, connecting again immediately would be a tight loop.
RECONNECT_S = 0.5
# Waits that begin within this time share a subscription and a check. The first one does not wait for others.
TOGETHER_S = 0.005

# The result is the job's record in the ledger. It is None if the outcome has to be read: the job was cancelled, or
# another result backend has it.
Wait = Future[bytes | None]

_STORED = (JobState.SUCCEEDED, JobState.FAILED)


class Waits:
    """All waits of one client. Any thread may call the methods, also within an event loop: none of them blocks.

    A wait ends with the job's record, with JobNotFound, or with QueueUnavailable if the server does not respond within
    the client's patience. A wait that its owner cancels is forgotten. A forked child begins without waits.
    """

    _lock: threading.Lock
    _is_woken: bool
    _waits: dict[str, set[Wait]]
    # Jobs with a wait that began since the thread's last turn, and jobs whose last wait ended since its last poll.
    _began: set[str]
    _ended: set[str]

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._listener: _Listener | None = None
        self._reset()
        reset_after_fork(self._reset_in_child)

    def start(self, job_id: str) -> Wait:
        """Return a wait for this job."""
        if not is_unicode(job_id):
            raise InvalidRequest("id", f"not valid Unicode: {ascii(job_id)[:80]}")
        wait: Wait = Future()
        with self._lock:
            self._waits.setdefault(job_id, set()).add(wait)
            self._began.add(job_id)
            if self._listener is None:
                listener = _Listener(self, self._jobs)
                listener.start()
                # Last: without a thread, nothing would end the wait.
                self._listener = listener
            elif not self._is_woken:
                self._listener.wake()
            self._is_woken = True
        wait.add_done_callback(lambda _: self._forget(job_id, wait))
        return wait

    def close(self) -> None:
        """End the thread, and all waits with QueueUnavailable."""
        with self._lock:
            listener, self._listener = self._listener, None
            waits = [wait for waits in self._waits.values() for wait in waits]
            self._waits, self._began, self._ended = {}, set(), set()
            if listener is not None:
                listener.wake()
        _fail(waits, QueueUnavailable("the client was closed during this wait; the job continues"))

    def _reset(self) -> None:
        self._lock, self._is_woken = threading.Lock(), False
        self._waits, self._began, self._ended = {}, set(), set()

    def _reset_in_child(self) -> None:
        listener, self._listener = self._listener, None
        self._reset()
        if listener is not None:
            listener.close_after_fork()

    def _forget(self, job_id: str, wait: Wait) -> None:
        with self._lock:
            waits = self._waits.get(job_id, set())
            waits.discard(wait)
            if not waits and self._waits.pop(job_id, None) is not None:
                self._ended.add(job_id)

    # Called by the listener.

    def is_served_by(self, listener: _Listener) -> bool:
        with self._lock:
            return self._listener is listener

    def take_begun(self) -> list[str]:
        """Return the jobs with a wait that began since the last call."""
        with self._lock:
            began, self._began, self._is_woken = self._began, set(), False
            return list(began)

    def take_ended(self, listener: _Listener) -> list[str]:
        """Return the jobs whose last wait ended since the last call. Without any wait, the thread is to end."""
        with self._lock:
            if self._listener is listener and not self._waits:
                self._listener = None
            ended, self._ended = self._ended, set()
            return [job_id for job_id in ended if job_id not in self._waits]

    def job_ids(self) -> list[str]:
        with self._lock:
            return list(self._waits)

    def end(self, job_id: str, result: bytes | Exception | None) -> None:
        """End all waits for a job."""
        with self._lock:
            if job_id in self._began:
                # A wait began after this result was read, perhaps after a retry. The next turn checks the job.
                return
            waits = self._waits.pop(job_id, set())
            self._ended.add(job_id)
        if isinstance(result, Exception):
            _fail(waits, result)
        else:
            for wait in waits:
                if wait.set_running_or_notify_cancel():
                    wait.set_result(result)


def _fail(waits: Iterable[Wait], error: Exception) -> None:
    for wait in waits:
        if wait.set_running_or_notify_cancel():
            # Each thread that raises an error writes its own traceback into it.
            own = copy.copy(error)
            own.__cause__ = error.__cause__
            wait.set_exception(own)


class _Listener:
    """The thread of the waits."""

    def __init__(self, waits: Waits, jobs: Jobs) -> None:
        self._waits = waits
        self._jobs = jobs
        self._announcements = jobs.announcements()
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._subscribe_at_s = 0.0
        self._poll_at_s = time.monotonic() + POLL_S

    def start(self) -> None:
        threading.Thread(target=self._run, name="mira-queue-waits", daemon=True).start()

    def wake(self) -> None:
        """Begin the next turn. The caller holds the lock of the waits: the thread has not ended."""
        # If the buffer is full, the thread wakes, too.
        with suppress(BlockingIOError):
            self._wake.send(b"\0")

    def close_after_fork(self) -> None:
        """Close the child's copies of what the parent's thread uses."""
        self._announcements.close_after_fork()
        self._wake.close()
        self._woken.close()

    def _run(self) -> None:
        while self._waits.is_served_by(self):
            try:
                self._subscribe()
                self._listen()
                if time.monotonic() >= self._poll_at_s:
                    self._poll_at_s = time.monotonic() + POLL_S
                    self._poll()
            except Exception as error:  # noqa: BLE001
                # A wait that gets no error would never end.
                for job_id in self._waits.job_ids():
                    self._waits.end(job_id, error)
        self._announcements.close()
        self._wake.close()
        self._woken.close()

    def _subscribe(self) -> None:
        """Subscribe to the jobs of new waits, and to all if there was no connection: announcements may be lost."""
        now_s = time.monotonic()
        if now_s < self._subscribe_at_s:
            return
        began = self._waits.take_begun()
        if self._announcements.is_connected:
            self._subscribe_at_s = now_s + TOGETHER_S if began else now_s
        else:
            self._subscribe_at_s = now_s + RECONNECT_S
            began = self._waits.job_ids()
            if began:
                self._announcements.connect()
        self._announcements.subscribe(began)

    def _listen(self) -> None:
        """End waits whose jobs have finished. Return when something has arrived, or when there is something to do."""
        now_s = time.monotonic()
        next_s = self._subscribe_at_s if self._subscribe_at_s > now_s else self._poll_at_s
        announced, to_check = self._announcements.wait(next_s - now_s, self._woken)
        for job_id, record in announced.items():
            self._waits.end(job_id, record)
        if to_check:
            self._end_finished(to_check)

    def _poll(self) -> None:
        self._announcements.ping()
        self._end_finished(self._waits.job_ids())
        self._announcements.unsubscribe(self._waits.take_ended(self))

    def _end_finished(self, job_ids: Sequence[str]) -> None:
        """End the waits for those of these jobs that have finished."""
        states = self._jobs.find_finished(job_ids)
        stored = [job_id for job_id, state in states.items() if state in _STORED and self._jobs.keeps_results]
        records = dict(zip(stored, self._jobs.records(stored), strict=True))
        for job_id, state in states.items():
            self._waits.end(job_id, JobNotFound(job_id) if state is None else records.get(job_id))
