"""What the ledger is asked and what it answers, as values."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from mira_queue.contract.names import Lane
from mira_queue.contract.request import ChatRequest


@dataclass(frozen=True, slots=True)
class NewJob:
    """What `accept` is asked: a request, and if wanted an idempotency key and the group that collects its end.

    `lane` is where its message will go.
    """

    request: ChatRequest
    id: str
    key: str = ""
    group: str = ""
    lane: Lane = Lane.NORMAL


@dataclass(frozen=True, slots=True)
class Accepted:
    """The job that stands for a request; `is_new` is False when the idempotency key already had one."""

    id: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class Lease:
    """A claimed job: the right to call and to store its outcome, as long as the lease is extended in time."""

    job_id: str
    epoch: int
    body: bytes
    attempts: int = 0
    crashes: int = 0
    unanswered_calls: int = 0
    key: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class DecidedLease:
    """A claimed job whose outcome was decided by a worker that died before the result backend had it."""

    lease: Lease
    outcome: bytes


@dataclass(frozen=True, slots=True)
class NothingToDo:
    """Why a message asks for nothing; `wait_ms` is set when it came before its job was due."""

    why: Literal["leased", "final", "missing", "early"]
    wait_ms: int = 0


def new_job_id() -> str:
    return new_job_ids(1)[0]


def new_job_ids(number: int) -> list[str]:
    """Random UUIDs. Thousands a second: the library's own ask the system for each, and cost three times as much."""
    drawn = os.urandom(16 * number).hex()
    return [_uuid4(drawn[start : start + 32]) for start in range(0, len(drawn), 32)]


def _uuid4(drawn: str) -> str:
    """Version and variant stand in two of the digits."""
    variant = "89ab"[int(drawn[16], 16) & 3]
    return f"{drawn[:8]}-{drawn[8:12]}-4{drawn[13:16]}-{variant}{drawn[17:20]}-{drawn[20:]}"
