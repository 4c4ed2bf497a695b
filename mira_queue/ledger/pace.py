"""The pacer's part of the ledger: calls of an account begin and come back, and what they teach is kept.

Nothing here decides; numbers are counted and handed out, and a belief about limits is kept for whoever learns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, cast

import redis
from redis.client import PubSub

from mira_queue.contract import names
from mira_queue.contract.pace import ConfiguredLimits, Estimate
from mira_queue.ledger.connection import translated_errors
from mira_queue.ledger.records import Lease
from mira_queue.ledger.script_runner import ScriptRunner, decode, in_ms

Verdict = Literal["go", "probe", "wait", "lost"]
# Why calls wait: the gate, somebody's probe, a learned limit, a told one, a header's word, other processes' turn.
Reason = Literal["", "closed", "probe", "in_flight", "rate", "configured", "tokens", "header", "spacing", "turn"]
# Jobs that met a fault are a row as long as one follows the other within this time.
ROW_OF_FAULTS = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Permit:
    """The pacer's answer for one job. The numbers are set when a call may leave: see begin.lua."""

    verdict: Verdict
    in_window: int = 0
    in_flight: int = 0
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class PaceState:
    """The account as an ask for permits has met it."""

    version: int
    reason: Reason
    wait_ms: int
    at_ceiling: int
    peak_in_flight: int
    peak_sent: int
    quiet_ms: int
    rate_bound_ms: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class ReleasedPermit:
    """A call that came back, not refused. `room`: calls that a header left, until `room_ms` from now."""

    member: str
    permit: Permit
    tokens: int = 0
    room: int | None = None
    room_ms: int = 0


@dataclass(frozen=True, slots=True)
class RateLimitHit:
    """What the record says of a refused call; see refuse.lua. The call itself is in `in_window` and `flying`."""

    version: int
    estimate: Estimate
    in_window: int
    in_flight: int
    peak_in_flight: int
    call_ms: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class FaultStreak:
    """A fault beside those of its neighbours: see fault.lua."""

    jobs: int
    in_flight: int
    trips: int
    was_probe: bool
    is_old: bool
    opened: bool = False


def call_name(lease: Lease) -> str:
    """A call under its lease, as the pacer's records name it."""
    return f"{lease.job_id}:{lease.epoch}"


class Wakes:
    """Listens on a channel; connects, and connects again, by itself."""

    def __init__(self, client: redis.Redis, channel: str) -> None:
        self._pubsub: PubSub = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._channel = channel

    def wait(self, timeout: timedelta) -> bool:
        """True: somebody called. False: nobody did for so long."""
        with translated_errors():
            if not self._pubsub.subscribed:
                self._pubsub.subscribe(self._channel)
            return self._pubsub.get_message(timeout=timeout.total_seconds()) is not None

    def close(self) -> None:
        self._pubsub.close()


class Pacing(ScriptRunner):
    """Verbs of the pacer. `now_ms` is for tests with a clock of their own; the clock is the server's."""

    def acquire_permits(
        self,
        account: str,
        process: str,
        jobs: Sequence[tuple[Lease, int]],
        landed: Sequence[ReleasedPermit] = (),
        *,
        configured: ConfiguredLimits,
        call_lease: timedelta,
        probe_lease: timedelta,
        ask_again: timedelta,
        counts: float = 1.0,
        now_ms: int | None = None,
    ) -> tuple[PaceState, list[Permit]]:
        """Ask for calls of these jobs (each with the tokens it may use); in the same round trip, others are back.

        `counts`: what a call counts for in the turns of the account's processes; below 1: more turns than others.
        A permit that says go, or probe, means that an answer is owed and that a crash may have been billed.
        """
        calls: list[tuple[str, Sequence[str], Sequence[Any]]] = []
        if landed:
            calls.append(("pace/release", *self._landing(account, landed, now_ms)))
        calls.append(
            (
                "pace/acquire",
                [
                    names.pace_key(account),
                    names.sent_key(account),
                    names.tokens_key(account),
                    names.in_flight_key(account),
                    names.turns_key(account),
                    names.turn_ends_key(account),
                    *(names.job_key(lease.job_id) for lease, _ in jobs),
                ],
                [
                    "" if now_ms is None else now_ms,
                    process,
                    names.wake_channel(account),
                    in_ms(call_lease),
                    in_ms(probe_lease),
                    in_ms(ask_again),
                    configured.rate,
                    configured.window_ms,
                    configured.in_flight,
                    configured.tokens,
                    configured.tokens_window_ms,
                    counts,
                    *(value for lease, tokens in jobs for value in (lease.job_id, lease.epoch, tokens)),
                ],
            )
        )
        account_says, verdicts = self._run_in_order(calls)[-1]
        version, reason, *numbers = account_says
        permits = [Permit(cast(Verdict, decode(verdict[0])), *verdict[1:]) for verdict in verdicts]
        return PaceState(int(version), cast(Reason, decode(reason)), *numbers), permits

    def release_permits(self, account: str, landed: Sequence[ReleasedPermit]) -> bool:
        """Calls are back, and not refused. True: one of them was the probe, and the gate is open."""
        return bool(self._run("pace/release", *self._landing(account, landed)))

    def record_rate_limit(
        self, account: str, call: str, permit: Permit, retry_after: timedelta, now_ms: int | None = None
    ) -> RateLimitHit:
        """A call was refused; what does the record say of it?"""
        version, estimate, *numbers = self._run(
            "pace/record_rate_limit",
            [names.pace_key(account), names.sent_key(account), names.in_flight_key(account)],
            [call, permit.at_ms, in_ms(retry_after), "" if now_ms is None else now_ms],
        )
        return RateLimitHit(int(version), Estimate.from_json(estimate), *numbers)

    def record_fault(self, account: str, lease: Lease, permit: Permit) -> FaultStreak:
        """A call met a fault of the service, or of its own."""
        jobs, in_flight, trips, *flags = self._run(
            "pace/record_fault",
            [
                names.pace_key(account),
                names.in_flight_key(account),
                names.turns_key(account),
                names.faults_key(account),
            ],
            [call_name(lease), lease.job_id, permit.at_ms, in_ms(ROW_OF_FAULTS), names.wake_channel(account)],
        )
        return FaultStreak(jobs, in_flight, trips, *map(bool, flags))

    def open_breaker(
        self, account: str, wait: timedelta, reason: Literal["limit", "faults"] = "limit", now_ms: int | None = None
    ) -> timedelta:
        """Nothing leaves for this account before `wait` has passed; returns how long the gate stays closed."""
        closed_ms = self._run(
            "pace/open_breaker", [names.pace_key(account)], ["" if now_ms is None else now_ms, in_ms(wait), reason]
        )
        return timedelta(milliseconds=closed_ms)

    def abandon_permit(self, account: str, job_id: str, epoch: int | None = None) -> bool:
        """The job's call will bring no answer. True: it was the probe; the next call goes in its place.

        `epoch` is the call's, when it is not the job's present one.
        """
        keys = [names.job_key(job_id), names.pace_key(account), names.in_flight_key(account)]
        return bool(self._run("pace/abandon", keys, [job_id, "" if epoch is None else epoch]))

    def may_still_start(self, account: str, call: str) -> bool:
        """A call that was let go, and was held up: True unless the gate was closed meanwhile."""
        with translated_errors():
            probe = cast("bytes | None", self._client.hget(names.pace_key(account), "probe"))
        return probe is None or decode(probe) == call

    def renew_permits(self, account: str, calls: Iterable[str], call_lease: timedelta) -> None:
        """These calls are still under way."""
        self._run("pace/renew", [names.in_flight_key(account)], [in_ms(call_lease), *calls])

    def estimate(self, account: str) -> tuple[int, Estimate]:
        """What is believed, and the version that `believe` asks for."""
        with translated_errors():
            version, estimate = cast(
                "list[bytes | None]", self._client.hmget(names.pace_key(account), ["version", "estimate"])
            )
        return int(version or 0), Estimate.from_json(estimate or b"")

    def store_estimate(self, account: str, version: int, estimate: Estimate) -> int:
        """Write a belief down; returns its version. 0: somebody has written since `version`; read it again."""
        rate, in_flight = estimate.rate, estimate.in_flight
        return int(
            self._run(
                "pace/store_estimate",
                [names.pace_key(account)],
                [
                    version,
                    estimate.to_json(),
                    rate.allowed if rate else "",
                    rate.retry_after_ms + estimate.margin_ms if rate else 0,
                    in_flight.allowed if in_flight else estimate.start,
                ],
            )
        )

    def wakes(self, account: str, process: str) -> Wakes:
        """What other processes call out to this one when it may go."""
        return Wakes(self._client, names.wake_channel(account, process))

    def _landing(
        self, account: str, landed: Sequence[ReleasedPermit], now_ms: int | None = None
    ) -> tuple[list[str], list[Any]]:
        keys = [
            names.pace_key(account),
            names.sent_key(account),
            names.in_flight_key(account),
            names.turns_key(account),
            names.faults_key(account),
        ]
        calls = [
            value
            for call in landed
            for value in (
                call.member,
                call.permit.at_ms,
                call.permit.in_flight,
                call.permit.in_window,
                call.tokens,
                "" if call.room is None else call.room,
                call.room_ms,
            )
        ]
        return keys, ["" if now_ms is None else now_ms, names.wake_channel(account), *calls]
