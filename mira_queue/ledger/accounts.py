"""Accounts and their workers, as people and dashboards see them, read in few round trips.

The scripts of the pacer write the state of an account. Each worker reports itself at every rescue step, and removes its
entry when it stops.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from mira_queue.contract import names
from mira_queue.contract.errors import AccountConflict
from mira_queue.contract.pace import Estimate
from mira_queue.ledger.script_runner import ScriptRunner, decode, in_ms


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of an account since its record began. The fields of its hash have the same names, in this order."""

    sent: int = 0
    rate_limited: int = 0
    openings_limit: int = 0  # of the circuit breaker, when it was closed or due for a probe
    openings_faults: int = 0
    estimate_changes: int = 0


# A worker that has not reported itself for two intervals and this long has crashed.
REPORT_MARGIN = timedelta(seconds=2)
_FIELDS = ["base", "estimate", "reason", "open_until", "probe", "message", "call_ms", *Counts.__dataclass_fields__]


@dataclass(frozen=True, slots=True)
class PaceView:
    """State of an account, for people.

    `breaker` is why the circuit breaker is open or half-open: 'limit' or 'faults'. It is empty if it is closed.
    `open_for` is how long it stays open. `next_in` is the time until the first process that waits requests a permit
    again: if a rate limit makes them wait, the next call starts then. It is zero if no process waits. `message` is what
    the server said last when it rejected a call or failed. `workers` counts the live worker processes that serve the
    account. `call_ms` is how long its calls take, or 0 before the first one.
    """

    account: str
    base: str
    estimate: Estimate
    breaker: str
    open_for: timedelta
    in_flight: int
    waiting: int
    now_ms: int
    next_in: timedelta = timedelta(0)
    counts: Counts = Counts()
    message: str = ""
    workers: int = 0
    call_ms: int = 0


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker process and the account that it calls; `name` is PID@HOST."""

    account: str
    name: str


class Accounts(ScriptRunner):
    """Operations on accounts, and reports of their workers."""

    def report_alive(self, account: str, base: str, interval: timedelta) -> None:
        """Record that this process serves the account, and its base URL if none is known.

        The process reports again after `interval`.
        """
        key = names.pace_key(account)
        now_ms = self._now_ms()
        pipeline: Any = self._client.pipeline()
        pipeline.hsetnx(key, "base", base)
        pipeline.ttl(key)
        for entries, entry, score_ms, expired_ms, ttl in (
            (names.ACCOUNTS, account, now_ms, now_ms - in_ms(names.ACCOUNT_TTL), names.ACCOUNT_TTL),
            (names.WORKERS, _entry(account), now_ms + in_ms(2 * interval + REPORT_MARGIN), now_ms, names.WORKERS_TTL),
        ):
            pipeline.zadd(entries, {entry: score_ms}).zremrangebyscore(entries, "-inf", expired_ms).expire(entries, ttl)
        _, ttl_s, *_ = pipeline.execute()
        self._keep(key, ttl_s)

    def _keep(self, key: str, ttl_s: float) -> None:
        """Let the account's hash live for ACCOUNT_TTL. A circuit breaker that is open for longer has a longer TTL."""
        if ttl_s < names.ACCOUNT_TTL.total_seconds():
            self._client.expire(key, names.ACCOUNT_TTL)

    def report_stopped(self, account: str) -> None:
        """Remove this process's entry: it takes no more jobs."""
        self._client.zrem(names.WORKERS, _entry(account))

    def live_workers(self) -> list[LiveWorker]:
        """Return the workers of this queue that are alive. One that was killed is listed for a few seconds more."""
        found: Any = self._client.zrange(names.WORKERS, self._now_ms(), "+inf", byscore=True)
        return [_live_worker(entry) for entry in found]

    def accounts(self) -> list[str]:
        """Return the accounts that have had a job or a worker within ACCOUNT_TTL."""
        found: Any = self._client.zrange(names.ACCOUNTS, 0, -1)
        return sorted(decode(account) for account in found)

    def pace_view(self, account: str) -> PaceView:
        return self.pace_views([account])[0]

    def pace_views(self, accounts: Collection[str], now_ms: int | None = None) -> list[PaceView]:
        """Return the state of several accounts in one round trip, and one more without `now_ms`."""
        now_ms = self._now_ms() if now_ms is None else now_ms
        pipeline = self._client.pipeline(transaction=False)
        for account in accounts:
            pipeline.hmget(names.pace_key(account), _FIELDS)
            pipeline.zcount(names.in_flight_key(account), now_ms, "+inf")
            pipeline.zrangebyscore(names.turn_ends_key(account), now_ms, "+inf", withscores=True)
        pipeline.zrange(names.WORKERS, now_ms, "+inf", byscore=True)
        *found, live = pipeline.execute()
        serving = Counter(worker.account for worker in map(_live_worker, live))
        answers = iter(found)
        return [
            _view(account, now_ms, next(answers), next(answers), next(answers), serving[account])
            for account in accounts
        ]

    def record_account(self, account: str, base: str) -> None:
        """Record an account that gets jobs. Raises AccountConflict if the queue knows it with another base URL."""
        key = names.pace_key(account)
        pipeline: Any = self._client.pipeline()
        pipeline.hsetnx(key, "base", base)
        pipeline.hget(key, "base").ttl(key)
        pipeline.zadd(names.ACCOUNTS, {account: self._now_ms()}).expire(names.ACCOUNTS, names.ACCOUNT_TTL)
        _, recorded, ttl_s, *_ = pipeline.execute()
        self._keep(key, ttl_s)
        if decode(recorded) != base:
            raise AccountConflict(account, base, decode(recorded))

    def set_base(self, account: str, base: str) -> None:
        """Replace the account's base URL: from now on, its jobs are sent there."""
        key = names.pace_key(account)
        self._client.hset(key, "base", base)
        self._keep(key, self._client.ttl(key))

    def forget_account(self, account: str) -> None:
        """Delete the estimate of the account's limits. A circuit breaker stays open: see `probe_now`."""
        self._client.hdel(names.pace_key(account), "estimate", "rate", "window_ms", "max_in_flight")
        self._client.hincrby(names.pace_key(account), "version", 1)
        self._client.expire(names.pace_key(account), names.ACCOUNT_TTL)


def _live_worker(entry: bytes) -> LiveWorker:
    return LiveWorker(*decode(entry).split(":", 1))


def _view(
    account: str,
    now_ms: int,
    fields: Sequence[bytes | None],
    in_flight: int,
    turn_ends: Sequence[tuple[bytes, float]],
    workers: int,
) -> PaceView:
    base, estimate, reason, open_until, probe, message, call_ms, *counts = fields
    ends = [end_ms for _, end_ms in turn_ends]
    first_ms = int(min(ends)) - now_ms - in_ms(names.TURN) if ends else 0
    return PaceView(
        account,
        decode(base or b""),
        Estimate.from_json(estimate or b""),
        decode(reason or b"") if probe else "",
        timedelta(milliseconds=max(0, int(open_until or 0) - now_ms)),
        in_flight,
        len(ends),
        now_ms,
        timedelta(milliseconds=max(0, first_ms)),
        Counts(*(int(count or 0) for count in counts)),
        decode(message or b""),
        workers,
        int(call_ms or 0),
    )


def process_name() -> str:
    """Return the name of this process among all workers: PID@HOST."""
    return f"{os.getpid()}@{socket.gethostname()}"


def _entry(account: str) -> str:
    return f"{account}:{process_name()}"
