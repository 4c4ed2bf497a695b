"""The rescuers' part of the ledger: who is stranded, and who moves them on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson

from mira_queue.contract import names
from mira_queue.contract.names import Lane
from mira_queue.ledger.connection import translated_errors
from mira_queue.ledger.records import Lease
from mira_queue.ledger.script_runner import ScriptRunner, decode, in_ms


class Rescue(ScriptRunner):
    """Verbs of rescuers."""

    def expired_leases(self, most: int) -> list[str]:
        """Jobs whose worker is gone, the longest gone first."""
        with translated_errors():
            return [
                decode(item)
                for item in self._client.zrange(names.LEASED, "-inf", self._now_ms(), byscore=True, offset=0, num=most)
            ]

    def wait_until_writable(self) -> None:
        """Return when the server takes writes, within the client's patience."""
        with translated_errors():
            self._client.set(names.WRITE_CHECK, "1", px=1)

    def overdue(self, most: int) -> list[str]:
        """Jobs whose wait is over and for which no message came."""
        with translated_errors():
            return [
                decode(item)
                for item in self._client.zrange(names.WAITING, "-inf", self._now_ms(), byscore=True, offset=0, num=most)
            ]

    def lost_before_ms(self, lane: Lane, head: str | None, slack: timedelta) -> int:
        """Queued jobs sent before this time (server's ms) have no message any more.

        A lane is first in, first out: what was sent before its `head` (the job whose message is next; None: the lane
        is empty) has been taken out. `slack` covers messages taken a moment ago, and those that overtook each other.
        Returns 0 (nothing is known to be lost) when the head's message is a repeated one.
        """
        with translated_errors():
            reference_ms: float | None = self._now_ms()
            if head is not None:
                reference_ms = self._client.zscore(names.queued_key(lane), head)
        return 0 if reference_ms is None else max(0, int(reference_ms) - in_ms(slack))

    def queued_before(self, lane: Lane, before_ms: int, most: int) -> list[str]:
        with translated_errors():
            found: Any = self._client.zrange(
                names.queued_key(lane), "-inf", f"({before_ms}", byscore=True, offset=0, num=most
            )
        return [decode(item) for item in found]

    def head(self, lane: Lane) -> str | None:
        """The job whose message is next in Celery's own list; None: no message; '': one that is not ours."""
        with translated_errors():
            raw: Any = self._client.lindex(names.messages_key(lane), -1)
        return None if raw is None else _message_id(raw)

    def rescue(self, job_id: str, max_crashes: int, lease: timedelta) -> Lease | bool:
        """Take a job from a worker that is gone. True: it is queued again, send its message in the first lane.

        False: somebody else took it. A Lease: it has killed its worker for the last time; finish it as poison.
        """
        answer = self._run(
            "jobs/rescue",
            [names.job_key(job_id), names.LEASED, names.queued_key(Lane.FIRST)],
            [job_id, max_crashes, in_ms(lease)],
        )
        match [decode(answer[0]), *answer[1:]]:
            case ["poison", epoch, attempts, crashes, unanswered, key, group]:
                return Lease(job_id, epoch, b"", attempts, crashes, unanswered, decode(key), decode(group))
            case ["queued"]:
                return True
        return False

    def resend(self, job_id: str, found_in: Lane = Lane.FIRST, lost_before_ms: int = 0) -> bool:
        """True: the job is queued and needs a new message, and it is the caller who sends it, in the first lane."""
        return bool(
            self._run(
                "jobs/resend",
                [
                    names.job_key(job_id),
                    names.queued_key(found_in),
                    names.WAITING,
                    names.queued_key(Lane.FIRST),
                ],
                [job_id, lost_before_ms],
            )
        )


def _message_id(raw: bytes) -> str:
    try:
        return str(orjson.loads(raw)["headers"]["id"])
    except (ValueError, KeyError, TypeError):
        return ""
