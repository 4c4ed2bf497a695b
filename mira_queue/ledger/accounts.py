"""The accounts as people and dashboards see them: read in few round trips; the pacer's verbs write what is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from mira_queue.contract import names
from mira_queue.contract.pace import Estimate
from mira_queue.ledger.connection import translated_errors
from mira_queue.ledger.script_runner import ScriptRunner, decode, in_ms

# So long after it was to ask again, a process that waits counts as gone; begin.lua has the same number.
TURN_MS = 500
# So long after its last worker, or call, an account is known; the scripts have the same number.
KNOWN_FOR = timedelta(days=7)
# A worker says that it lives at every look for stranded jobs, every 5 s unless told otherwise.
AT_WORK = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Counts:
    """What has been counted of an account since its record began; fields of its hash, in this order."""

    sent: int = 0
    rate_limited: int = 0
    openings_limit: int = 0  # the gate was closed, having been open or due for a probe
    openings_faults: int = 0
    estimate_changes: int = 0  # changes of what is believed of its limits


VIEWED = ["base", "estimate", "reason", "open_until", "probe", *Counts.__dataclass_fields__]


@dataclass(frozen=True, slots=True)
class PaceView:
    """An account for people to look at. `gate`: '', 'limit' or 'faults'; `closed` is how long it stays closed.

    `next_in` is how long until the first of the processes that wait asks again: where a rate holds them, the next call
    leaves then. Zero: none waits, or one is about to ask.
    """

    account: str
    base: str
    estimate: Estimate
    gate: str
    closed: timedelta
    in_flight: int
    waiting: int
    now_ms: int
    next_in: timedelta = timedelta(0)
    counts: Counts = Counts()


class Accounts(ScriptRunner):
    """For people, and for who names an account to them."""

    def name_account(self, account: str, base: str) -> None:
        """A worker of this account lives: note its base URL, for people to read, and keep it among `accounts`."""
        key = names.pace_key(account)
        with translated_errors():
            now_ms = self._now_ms()
            pipeline: Any = self._client.pipeline()
            pipeline.hset(key, "base", base).ttl(key)
            pipeline.zadd(names.ACCOUNTS, {account: now_ms})
            pipeline.zremrangebyscore(names.ACCOUNTS, "-inf", now_ms - in_ms(KNOWN_FOR))
            pipeline.expire(names.ACCOUNTS, KNOWN_FOR)
            _, ttl_s, *_ = pipeline.execute()
            # Never shortened: a gate that is closed for longer has given it more.
            if ttl_s < KNOWN_FOR.total_seconds():
                self._client.expire(key, KNOWN_FOR)

    def accounts(self) -> list[str]:
        """Accounts that have had a worker within the week; a list, since a search for their keys looks at all keys."""
        with translated_errors():
            found: Any = self._client.zrange(names.ACCOUNTS, 0, -1)
        return sorted(decode(account) for account in found)

    def bases_at_work(self) -> set[str]:
        """Base URLs that workers of this queue call, or called until some seconds ago."""
        with translated_errors():
            since_ms = self._now_ms() - in_ms(AT_WORK)
            found: Any = self._client.zrange(names.ACCOUNTS, since_ms, "+inf", byscore=True)
            bases: list[Any] = [self._client.hget(names.pace_key(decode(account)), "base") for account in found]
        return {decode(base) for base in bases if base}

    def pace_view(self, account: str) -> PaceView:
        """The account now."""
        with translated_errors():
            now_ms = self._now_ms()
        return self.pace_views([account], now_ms)[0]

    def pace_views(self, accounts: Sequence[str], now_ms: int) -> list[PaceView]:
        """Several accounts, in one round trip."""
        with translated_errors():
            pipeline = self._client.pipeline(transaction=False)
            for account in accounts:
                pipeline.hmget(names.pace_key(account), VIEWED)
                pipeline.zcount(names.in_flight_key(account), now_ms, "+inf")
                pipeline.zrangebyscore(names.turn_ends_key(account), now_ms, "+inf", withscores=True)
            answers = iter(pipeline.execute())
        return [_view(account, now_ms, next(answers), next(answers), next(answers)) for account in accounts]

    def gate_wait(self, account: str) -> timedelta:
        """How long the gate stays closed; zero when it is open."""
        return self.pace_view(account).closed

    def forget_account(self, account: str) -> None:
        """Forget what is believed of its limits. A gate that is closed stays closed: that was the server's word."""
        with translated_errors():
            self._client.hdel(names.pace_key(account), "estimate", "rate", "window_ms", "max_in_flight")
            self._client.hincrby(names.pace_key(account), "version", 1)
            self._client.expire(names.pace_key(account), KNOWN_FOR)


def _view(
    account: str, now_ms: int, fields: Sequence[bytes | None], in_flight: int, turn_ends: Sequence[tuple[bytes, float]]
) -> PaceView:
    base, estimate, reason, closed_until, probe, *counts = fields
    ends = [end_ms for _, end_ms in turn_ends]
    return PaceView(
        account,
        decode(base or b""),
        Estimate.from_json(estimate or b""),
        decode(reason or b"") if probe else "",
        timedelta(milliseconds=max(0, int(closed_until or 0) - now_ms)),
        in_flight,
        len(ends),
        now_ms,
        timedelta(milliseconds=max(0, int(min(ends)) - now_ms - TURN_MS)) if ends else timedelta(0),
        Counts(*(int(count or 0) for count in counts)),
    )
