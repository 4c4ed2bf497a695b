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
from mira_queue.contract.pace import Belief, Told
from mira_queue.ledger.connection import translated_errors
from mira_queue.ledger.records import Lease
from mira_queue.ledger.script_runner import LedgerPart, in_ms, text

Verdict = Literal["go", "probe", "wait", "lost"]
# Why calls wait: the gate, somebody's probe, a learned limit, a told one, a header's word, other processes' turn.
Reason = Literal["", "closed", "probe", "flights", "rate", "told", "tokens", "header", "spacing", "turn"]
# Jobs that met a fault are a row as long as one follows the other within this time.
ROW_OF_FAULTS = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Permit:
    """The pacer's answer for one job. The numbers are set when a call may leave: see begin.lua."""

    verdict: Verdict
    in_window: int = 0
    flying: int = 0
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """The account as an ask for permits has met it."""

    version: int
    reason: Reason
    wait_ms: int
    at_ceiling: int
    peak_flying: int
    peak_sent: int
    quiet_ms: int
    rate_bound_ms: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class Landed:
    """A call that came back, not refused. `room`: calls that a header left, until `room_ms` from now."""

    member: str
    permit: Permit
    tokens: int = 0
    room: int | None = None
    room_ms: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the record says of a refused call; see refuse.lua. The call itself is in `in_window` and `flying`."""

    version: int
    belief: Belief
    in_window: int
    flying: int
    peak_flying: int
    call_ms: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class FaultRow:
    """A fault beside those of its neighbours: see fault.lua."""

    jobs: int
    flying: int
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


class PaceVerbs(LedgerPart):
    """Verbs of the pacer. `now_ms` is for tests with a clock of their own; the clock is the server's."""

    def begin(
        self,
        account: str,
        process: str,
        jobs: Sequence[tuple[Lease, int]],
        landed: Sequence[Landed] = (),
        *,
        told: Told,
        call_lease: timedelta,
        probe_lease: timedelta,
        ask_again: timedelta,
        counts: float = 1.0,
        now_ms: int | None = None,
    ) -> tuple[Pace, list[Permit]]:
        """Ask for calls of these jobs (each with the tokens it may use); in the same round trip, others are back.

        `counts`: what a call counts for in the turns of the account's processes; below 1: more turns than others.
        A permit that says go, or probe, means that an answer is owed and that a crash may have been billed.
        """
        calls: list[tuple[str, Sequence[str], Sequence[Any]]] = []
        if landed:
            calls.append(("land", *self._landing(account, landed, now_ms)))
        calls.append(
            (
                "begin",
                [
                    names.pace_key(account),
                    names.sent_key(account),
                    names.tokens_key(account),
                    names.flying_key(account),
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
                    told.rate,
                    told.window_ms,
                    told.in_flight,
                    told.tokens,
                    told.tokens_window_ms,
                    counts,
                    *(value for lease, tokens in jobs for value in (lease.job_id, lease.epoch, tokens)),
                ],
            )
        )
        account_says, verdicts = self._run_in_order(calls)[-1]
        version, reason, *numbers = account_says
        permits = [Permit(cast(Verdict, text(verdict[0])), *verdict[1:]) for verdict in verdicts]
        return Pace(int(version), cast(Reason, text(reason)), *numbers), permits

    def land(self, account: str, landed: Sequence[Landed]) -> bool:
        """Calls are back, and not refused. True: one of them was the probe, and the gate is open."""
        return bool(self._run("land", *self._landing(account, landed)))

    def refuse(
        self, account: str, call: str, permit: Permit, retry_after: timedelta, now_ms: int | None = None
    ) -> Refusal:
        """A call was refused; what does the record say of it?"""
        version, belief, *numbers = self._run(
            "refuse",
            [names.pace_key(account), names.sent_key(account), names.flying_key(account)],
            [call, permit.at_ms, in_ms(retry_after), "" if now_ms is None else now_ms],
        )
        return Refusal(int(version), Belief.from_json(belief), *numbers)

    def fault(self, account: str, lease: Lease, permit: Permit) -> FaultRow:
        """A call met a fault of the service, or of its own."""
        jobs, flying, trips, *flags = self._run(
            "fault",
            [
                names.pace_key(account),
                names.flying_key(account),
                names.turns_key(account),
                names.faults_key(account),
            ],
            [call_name(lease), lease.job_id, permit.at_ms, in_ms(ROW_OF_FAULTS), names.wake_channel(account)],
        )
        return FaultRow(jobs, flying, trips, *map(bool, flags))

    def close_gate(
        self, account: str, wait: timedelta, reason: Literal["limit", "faults"] = "limit", now_ms: int | None = None
    ) -> timedelta:
        """Nothing leaves for this account before `wait` has passed; returns how long the gate stays closed."""
        closed_ms = self._run(
            "close", [names.pace_key(account)], ["" if now_ms is None else now_ms, in_ms(wait), reason]
        )
        return timedelta(milliseconds=closed_ms)

    def call_gone(self, account: str, job_id: str, epoch: int | None = None) -> bool:
        """The job's call will bring no answer. True: it was the probe; the next call goes in its place.

        `epoch` is the call's, when it is not the job's present one.
        """
        keys = [names.job_key(job_id), names.pace_key(account), names.flying_key(account)]
        return bool(self._run("gone", keys, [job_id, "" if epoch is None else epoch]))

    def may_still_go(self, account: str, call: str) -> bool:
        """A call that was let go, and was held up: True unless the gate was closed meanwhile."""
        with translated_errors():
            probe = cast("bytes | None", self._client.hget(names.pace_key(account), "probe"))
        return probe is None or text(probe) == call

    def keep_flying(self, account: str, calls: Iterable[str], call_lease: timedelta) -> None:
        """These calls are still under way."""
        self._run("keep_flying", [names.flying_key(account)], [in_ms(call_lease), *calls])

    def belief(self, account: str) -> tuple[int, Belief]:
        """What is believed, and the version that `believe` asks for."""
        with translated_errors():
            version, belief = cast(
                "list[bytes | None]", self._client.hmget(names.pace_key(account), ["version", "belief"])
            )
        return int(version or 0), Belief.from_json(belief or b"")

    def believe(self, account: str, version: int, belief: Belief) -> int:
        """Write a belief down; returns its version. 0: somebody has written since `version`; read it again."""
        rate, in_flight = belief.rate, belief.in_flight
        return int(
            self._run(
                "believe",
                [names.pace_key(account)],
                [
                    version,
                    belief.to_json(),
                    rate.let_through if rate else "",
                    rate.retry_after_ms + belief.margin_ms if rate else 0,
                    in_flight.let_through if in_flight else belief.start,
                ],
            )
        )

    def wakes(self, account: str, process: str) -> Wakes:
        """What other processes call out to this one when it may go."""
        return Wakes(self._client, names.wake_channel(account, process))

    def _landing(
        self, account: str, landed: Sequence[Landed], now_ms: int | None = None
    ) -> tuple[list[str], list[Any]]:
        keys = [
            names.pace_key(account),
            names.sent_key(account),
            names.flying_key(account),
            names.turns_key(account),
            names.faults_key(account),
        ]
        calls = [
            value
            for call in landed
            for value in (
                call.member,
                call.permit.at_ms,
                call.permit.flying,
                call.permit.in_window,
                call.tokens,
                "" if call.room is None else call.room,
                call.room_ms,
            )
        ]
        return keys, ["" if now_ms is None else now_ms, names.wake_channel(account), *calls]
