"""Steps of a job's life on a bare ledger, for tests that look at one verb."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import redis

from mira_queue.contract.errors import BadRequest
from mira_queue.contract.outcome import Completion, Failure, Outcome
from mira_queue.contract.pace import ConfiguredLimits, PaceState, Permit, ReleasedPermit
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.request_limits import MIRA_LIMITS
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.pace import call_name
from mira_queue.ledger.records import Lease, NewJob, new_job_id

LONG = timedelta(hours=1)
# A lease, or a wait, that has passed the moment it is given: no test needs to wait for one.
PASSED = timedelta(0)
LIFE = timedelta(hours=2)
# Who is told so much need not wait for the pacer to learn.
MANY = ConfiguredLimits(in_flight=1000)
COMPLETION = Completion("Hi", "stop", {"total_tokens": 3}, {"id": "chatcmpl-1"}, attempts=1)
FAILURE = Failure.from_error(BadRequest("no such model", 400, attempts=1))


def request(text: str = "Hello") -> ChatRequest:
    return ChatRequest.checked({"messages": [{"role": "user", "content": text}]}, model="mira", limits=MIRA_LIMITS)


def new_job(key: str = "", group: str = "", text: str = "Hello") -> NewJob:
    return NewJob(request(text), new_job_id(), key, group)


def accepted(ledger: Ledger, key: str = "", group: str = "") -> str:
    """A queued job."""
    return ledger.accept([new_job(key, group)])[0].id


def claimed(ledger: Ledger, job_id: str, lease: timedelta = LONG) -> Lease:
    held = ledger.claim(job_id, lease)
    assert isinstance(held, Lease), held
    return held


def running(ledger: Ledger, key: str = "", group: str = "", lease: timedelta = LONG) -> Lease:
    """A job that is being run."""
    return claimed(ledger, accepted(ledger, key, group), lease)


def begun(ledger: Ledger, lease: timedelta = LONG, key: str = "", group: str = "") -> Lease:
    """A job whose call is under way."""
    held = running(ledger, key, group, lease)
    assert begin(ledger, held) == "go"
    return held


def ask(
    ledger: Ledger,
    *leases: Lease,
    account: str = "an-account",
    process: str = "a process",
    released: Sequence[ReleasedPermit] = (),
    configured: ConfiguredLimits = MANY,
    now_ms: int | None = None,
) -> tuple[PaceState, list[Permit]]:
    """Ask the pacer for calls of these jobs."""
    return ledger.acquire_permits(
        account,
        process,
        [(lease, 0) for lease in leases],
        released,
        configured=configured,
        call_lease=LONG,
        probe_lease=LONG,
        ask_again=timedelta(milliseconds=5),
        now_ms=now_ms,
    )


def begin(ledger: Ledger, lease: Lease, account: str = "an-account") -> str:
    """Ask for one call, and again while a new account's calls leave one by one."""
    while True:
        pace, (permit,) = ask(ledger, lease, account=account)
        if pace.reason != "spacing":
            return permit.verdict


def confirmed(ledger: Ledger, lease: Lease, account: str = "an-account") -> str:
    """The verdict on a call that was held up after it had acquired its permit."""
    return ledger.confirm_permit(account, lease, Permit("go")).verdict


def land(ledger: Ledger, lease: Lease, account: str = "an-account") -> bool:
    """The call is back; True: it was the probe."""
    return ledger.release_permits(account, [ReleasedPermit(call_name(lease), Permit("go"))])


def defer(ledger: Ledger, lease: Lease, wait: timedelta = LONG, lost_after: timedelta = PASSED) -> bool:
    return ledger.defer(lease, wait, lost_after, attempts=2, unanswered_calls=1, reason="rate_limited (429): later")


def snapshot(client: redis.Redis) -> dict[str, Any]:
    """Return every key with its value and whether it expires."""
    reads: dict[Any, Callable[[Any], Any]] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        # Another worker has deleted the key meanwhile.
        b"none": lambda key: None,
    }
    found = {
        key.decode(): (reads[client.type(key)](key), client.pttl(key) >= 0) for key in client.scan_iter(count=1000)
    }
    return {key: read for key, read in found.items() if read[0] is not None}


def ended(ledger: Ledger, outcome: Outcome, key: str = "", group: str = "") -> str:
    held = running(ledger, key, group)
    assert ledger.finish(held, outcome)
    return held.job_id


def waiting(ledger: Ledger) -> str:
    """Return a job that waits for a long time."""
    held = begun(ledger)
    assert defer(ledger, held)
    return held.job_id


def life_ms(client: redis.Redis, key: str) -> int:
    return int(client.pttl(key))
