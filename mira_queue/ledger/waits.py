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

# The result is the job's record in the ledger. It is None if the outcome has to be read: the job was cancelled, or another
# result backend has the outcome.
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
    # Jobs with a wait that began, or whose last wait ended, since the thread's last turn.
    _changed: set[str]

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
            self._changed.add(job_id)
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
            self._waits, self._changed = {}, set()
            if listener is not None:
                listener.wake()
        _fail(waits, QueueUnavailable("the client was closed during this wait; the job continues"))

    def _reset(self) -> None:
        self._lock, self._is_woken = threading.Lock(), False
        self._waits, self._changed = {}, set()

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
                self._changed.add(job_id)

    # Called by the listener.

    def take_changes(self, listener: _Listener, *, may_end: bool) -> tuple[list[str], list[str]] | None:
        """Return the jobs whose waits began and those whose waits ended since the last call. None ends the thread."""
        with self._lock:
            if self._listener is listener and may_end and not self._waits:
                self._listener = None
            if self._listener is not listener:
                return None
            changed, self._changed, self._is_woken = self._changed, set(), False
            began = [job_id for job_id in changed if job_id in self._waits]
            return began, [job_id for job_id in changed if job_id not in self._waits]

    def job_ids(self) -> list[str]:
        with self._lock:
            return list(self._waits)

    def end(self, job_id: str, result: bytes | Exception | None) -> None:
        """End all waits for a job."""
        with self._lock:
            if job_id in self._changed:
                # A wait began after this result was read, perhaps after a retry of the job. The next turn checks it.
                return
            waits = self._waits.pop(job_id, set())
            self._changed.add(job_id)
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
        self._woken.setblocking(False)
        self._connect_at_s = 0.0
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
        is_due = False
        while (changes := self._waits.take_changes(self, may_end=is_due)) is not None:
            try:
                found = self._listen(*changes)
                is_due = time.monotonic() >= self._poll_at_s
                if is_due:
                    self._poll_at_s = time.monotonic() + POLL_S
                    self._announcements.ping()
                    found = self._waits.job_ids()
                self._end_finished(found)
            except Exception as error:  # noqa: BLE001
                # A wait that gets no error would never end.
                for job_id in self._waits.job_ids():
                    self._waits.end(job_id, error)
        self._announcements.close()
        self._wake.close()
        self._woken.close()

    def _listen(self, began: Sequence[str], ended: Sequence[str]) -> list[str]:
        """Return the jobs to check, as soon as there are any, or none when it is time for another turn."""
        announcements = self._announcements
        if not announcements.is_connected and time.monotonic() >= self._connect_at_s:
            self._connect_at_s = time.monotonic() + RECONNECT_S
            # Announcements may be lost: as after a new subscription, each job is checked.
            began, ended = self._waits.job_ids(), ()
            if began:
                announcements.connect()
        announcements.subscribe(began)
        announcements.unsubscribe(ended)
        next_s = self._poll_at_s if announcements.is_connected else min(self._poll_at_s, self._connect_at_s)
        found = announcements.wait(next_s - time.monotonic(), self._woken)
        with suppress(BlockingIOError):
            self._woken.recv(4096)
        return found

    def _end_finished(self, job_ids: Sequence[str]) -> None:
        """End the waits for those of these jobs that have finished."""
        states = self._jobs.find_finished(job_ids)
        stored = [job_id for job_id, state in states.items() if state in _STORED and self._jobs.keeps_results]
        records = dict(zip(stored, self._jobs.records(stored), strict=True))
        for job_id, state in states.items():
            self._waits.end(job_id, JobNotFound(job_id) if state is None else records.get(job_id))
