"""The durable record of every job: one method for each atomic verb, each a script of the same name in `scripts/`.

Every verb may be repeated after a lost answer and does its work once; that is what makes retrying connections safe.
A lease is held under an epoch: whoever comes with an old epoch changes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any, Literal, cast

import orjson
import redis
from redis.commands.core import Script
from redis.exceptions import NoScriptError

from mira_queue.contract import names
from mira_queue.contract.errors import IdempotencyConflict, JobCancelled, JobNotFound
from mira_queue.contract.names import Lane
from mira_queue.contract.outcome import Completion, Failure, Outcome, celery_record
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.states import JobState, JobStatus
from mira_queue.ledger.connection import translated_errors

VERBS = (
    "accept", "claim", "begin", "extend", "settle", "finish", "defer", "give_back",
    "rescue", "resend", "cancel", "retry", "forget", "close_gate", "free_probe",
)  # fmt: skip


PermitVerdict = Literal["go", "probe", "wait", "lost"]


@dataclass(frozen=True, slots=True)
class NewJob:
    """What `accept` is asked: a request, and if wanted an idempotency key and the group that collects its end."""

    request: ChatRequest
    id: str
    key: str = ""
    group: str = ""


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
class SettledLease:
    """A claimed job whose outcome was decided by a worker that died before the result backend had it."""

    lease: Lease
    outcome: bytes


@dataclass(frozen=True, slots=True)
class NothingToDo:
    """Why a message asks for nothing; `wait_ms` is set when it came before its job was due."""

    why: Literal["leased", "final", "missing", "early"]
    wait_ms: int = 0


@dataclass(frozen=True, slots=True)
class Permit:
    """The gate's answer: go (perhaps as the probe), wait so long, or the lease is lost."""

    verdict: PermitVerdict
    wait_ms: int = 0


def new_job_id() -> str:
    return str(uuid.uuid4())


class Ledger:
    """The jobs on one server.

    `result_ttl` is the life of a finished job; with `keeps_results` outcomes are stored by `finish` itself, where
    Celery's Redis backend looks for them, else the caller stores them elsewhere between `settle` and `finish`.
    Every method raises QueueUnavailable when the server does not answer within the client's patience.
    """

    def __init__(self, client: redis.Redis, *, result_ttl: timedelta, keeps_results: bool = True) -> None:
        self._client = client
        self._life_ms = int(result_ttl.total_seconds() * 1000)
        self.keeps_results = keeps_results
        folder = files("mira_queue.ledger") / "scripts"
        self._scripts: dict[str, Script] = {
            verb: client.register_script((folder / f"{verb}.lua").read_text(encoding="utf-8")) for verb in VERBS
        }

    # --- producers ---

    def accept(self, jobs: Sequence[NewJob]) -> list[Accepted]:
        """Accept jobs, in one round trip; when this returns they are kept.

        Raises IdempotencyConflict for the first key that belongs to another request; the other jobs are accepted.
        """
        calls = [
            (
                [
                    names.job_key(job.id),
                    names.request_key(job.id),
                    names.idempotency_key(job.key),
                    names.queued_key(Lane.NORMAL),
                ],
                [job.id, job.request.body, job.request.digest, job.key, job.group],
            )
            for job in jobs
        ]
        answers = [(_text(verdict), _text(job_id)) for verdict, job_id in self._run_many("accept", calls)]
        for job, (verdict, job_id) in zip(jobs, answers, strict=True):
            if verdict == "conflict":
                raise IdempotencyConflict(job.key, job_id)
        return [Accepted(job_id, verdict == "accepted") for verdict, job_id in answers]

    def status(self, job_id: str) -> JobStatus:
        """Raises JobNotFound."""
        return self.statuses([job_id])[0]

    def statuses(self, job_ids: Sequence[str]) -> list[JobStatus]:
        """In one round trip, in order. Raises JobNotFound for the first that is not there."""
        with translated_errors():
            pipeline = self._client.pipeline(transaction=False)
            for job_id in job_ids:
                pipeline.hgetall(names.job_key(job_id))
            found = pipeline.execute()
        return [_status(job_id, raw) for job_id, raw in zip(job_ids, found, strict=True)]

    def cancel(self, job_id: str, *, only_idle: bool = False) -> bool:
        """True: it is cancelled, by this call or an earlier one. False: it had ended before. Raises JobNotFound.

        With `only_idle` a running job is left to end by itself (False).
        """
        status = self.status(job_id)
        failure = cancelled(status)
        record = celery_record(job_id, failure, datetime.now(UTC)) if self.keeps_results else b""
        done, state = self._run(
            "cancel",
            [
                names.job_key(job_id),
                names.request_key(job_id),
                names.LEASED,
                names.WAITING,
                *(names.queued_key(lane) for lane in Lane),
                names.idempotency_key(self._field(job_id, "key")),
                names.result_key(job_id),
                names.finished_key(self._field(job_id, "group")),
            ],
            [job_id, record, self._life_ms, "idle" if only_idle else ""],
        )
        if _text(state) == "missing":
            raise JobNotFound(job_id)
        return bool(done)

    def retry(self, job_id: str) -> tuple[bool, str]:
        """Queue a failed job again. (False, its state) when it has not failed. Raises JobNotFound."""
        key = self._field(job_id, "key")
        done, state = self._run(
            "retry",
            [
                names.job_key(job_id),
                names.request_key(job_id),
                names.queued_key(Lane.NORMAL),
                names.idempotency_key(key),
                names.result_key(job_id),
            ],
            [job_id, uuid.uuid4().hex],
        )
        if _text(state) == "missing":
            raise JobNotFound(job_id)
        return bool(done), _text(state)

    def forget(self, jobs: Iterable[tuple[str, str]]) -> None:
        """Drop finished jobs, given as (id, idempotency key); open ones stay."""
        self._run_many(
            "forget",
            [
                (
                    [
                        names.job_key(job_id),
                        names.request_key(job_id),
                        names.idempotency_key(key),
                        names.result_key(job_id),
                    ],
                    [],
                )
                for job_id, key in jobs
            ],
        )

    def finished(self, group: str, timeout_s: float, most: int = 1000) -> list[str]:
        """Ids of jobs of the group that have ended since the last call, at most `most`; waits up to `timeout_s`."""
        with translated_errors():
            first = self._client.blpop([names.finished_key(group)], timeout=timeout_s)
            if first is None:
                return []
            rest = self._client.lpop(names.finished_key(group), most - 1) if most > 1 else None
        return [_text(first[1]), *(_text(item) for item in rest or [])]

    def drop_group(self, group: str) -> None:
        with translated_errors():
            self._client.delete(names.finished_key(group))

    def wait_for_end(self, job_id: str, timeout_s: float) -> None:
        """Return when the job has ended, or after `timeout_s`; Celery announces results on the same channel."""
        with translated_errors(), self._client.pubsub() as channel:  # type: ignore[no-untyped-call]
            channel.subscribe(names.result_key(job_id))
            # The subscription is in force once it is confirmed: what ends later is heard, what ended before is seen.
            channel.get_message(timeout=timeout_s)
            if not self.status(job_id).state.is_final:
                channel.get_message(timeout=timeout_s)

    # --- workers ---

    def claim(self, job_id: str, lease: timedelta) -> Lease | SettledLease | NothingToDo:
        """The right to run a job, for one caller at a time."""
        answer = self._run(
            "claim",
            [
                names.job_key(job_id),
                names.request_key(job_id),
                names.LEASED,
                names.WAITING,
                *(names.queued_key(lane) for lane in Lane),
            ],
            [job_id, _ms(lease), uuid.uuid4().hex],
        )
        match [_text(answer[0]), *answer[1:]]:
            case ["run", epoch, body, attempts, crashes, unanswered, key, group]:
                return Lease(job_id, epoch, body, attempts, crashes, unanswered, _text(key), _text(group))
            case ["store", epoch, outcome, key, group]:
                return SettledLease(Lease(job_id, epoch, b"", key=_text(key), group=_text(group)), outcome)
            case ["early", wait_ms]:
                return NothingToDo("early", wait_ms)
            case [("leased" | "final" | "missing") as why]:
                return NothingToDo(why)
        raise AssertionError(f"claim answered {answer!r}")

    def begin(self, lease: Lease, account: str, *, probe_lease: timedelta, probe_poll: timedelta) -> Permit:
        """Ask the account's gate for a call; when it says go, an answer is owed and a crash may have been billed."""
        verdict, wait_ms = self._run(
            "begin",
            [names.job_key(lease.job_id), names.gate_key(account), names.probe_key(account)],
            [lease.epoch, _ms(probe_lease), _ms(probe_poll)],
        )
        return Permit(cast(PermitVerdict, _text(verdict)), wait_ms)

    def close_gate(self, account: str, wait: timedelta) -> timedelta:
        """Nothing leaves for this account before `wait` has passed; returns how long the gate stays closed."""
        closed_ms = self._run(
            "close_gate", [names.gate_key(account), names.probe_key(account)], [_ms(wait), _ms(timedelta(minutes=1))]
        )
        return timedelta(milliseconds=closed_ms)

    def probe_answered(self, account: str) -> None:
        """The probe came back unrefused: everybody may go."""
        with translated_errors():
            self._client.delete(names.probe_key(account))

    def free_probe(self, account: str, job_id: str) -> bool:
        """True: this job's call was the probe, and will bring no answer; the next call goes in its place."""
        return bool(self._run("free_probe", [names.probe_key(account)], [names.job_key(job_id)]))

    def gate_wait(self, account: str) -> timedelta:
        """How long the gate stays closed; zero when it is open."""
        with translated_errors():
            return timedelta(milliseconds=max(0, int(self._client.pttl(names.gate_key(account)))))

    def extend(self, leases: Iterable[Lease], lease: timedelta) -> list[bool]:
        """Extend leases in one round trip; False for each that is lost."""
        answers = self._run_many(
            "extend",
            [([names.job_key(held.job_id), names.LEASED], [held.job_id, held.epoch, _ms(lease)]) for held in leases],
        )
        return [bool(answer) for answer in answers]

    def settle(self, lease: Lease, outcome: bytes) -> bool:
        """Decide the outcome before a result backend elsewhere gets it. False: the lease was lost, store nothing."""
        return bool(self._run("settle", [names.job_key(lease.job_id)], [lease.epoch, outcome]))

    def finish(self, lease: Lease, outcome: Outcome) -> bool:
        """Store the outcome, once. False: the lease was lost, and nothing was stored."""
        done = isinstance(outcome, Completion)
        record = celery_record(lease.job_id, outcome, datetime.now(UTC)) if self.keeps_results else b""
        answer = self._run(
            "finish",
            [
                names.job_key(lease.job_id),
                names.request_key(lease.job_id),
                names.LEASED,
                names.idempotency_key(lease.key),
                names.result_key(lease.job_id),
                names.finished_key(lease.group),
            ],
            [
                lease.job_id,
                lease.epoch,
                JobState.SUCCEEDED if done else JobState.FAILED,
                record,
                self._life_ms,
                lease.key,
                lease.group,
                outcome.attempts,
                outcome.unanswered_calls,
                "" if isinstance(outcome, Completion) else outcome.code,
            ],
        )
        return bool(answer)

    def defer(
        self, lease: Lease, wait: timedelta, lost_after: timedelta, *, attempts: int, unanswered_calls: int, reason: str
    ) -> bool:
        """Let the job wait, without a lease. False: the lease was lost.

        `lost_after` its time the message that the caller sends for it counts as lost; zero: there will be none.
        """
        answer = self._run(
            "defer",
            [names.job_key(lease.job_id), names.LEASED, names.WAITING],
            [lease.job_id, lease.epoch, _ms(wait), _ms(lost_after), attempts, unanswered_calls, reason],
        )
        return bool(answer)

    def give_back(self, lease: Lease) -> bool:
        """Return the job unharmed; the caller sends its message, in the first lane. False: the lease was lost."""
        return bool(
            self._run(
                "give_back",
                [names.job_key(lease.job_id), names.LEASED, names.queued_key(Lane.FIRST)],
                [lease.job_id, lease.epoch],
            )
        )

    # --- rescue ---

    def expired_leases(self, most: int) -> list[str]:
        """Jobs whose worker is gone, the longest gone first."""
        with translated_errors():
            return [
                _text(item)
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
                _text(item)
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
        return 0 if reference_ms is None else max(0, int(reference_ms) - _ms(slack))

    def queued_before(self, lane: Lane, before_ms: int, most: int) -> list[str]:
        with translated_errors():
            found: Any = self._client.zrange(
                names.queued_key(lane), "-inf", f"({before_ms}", byscore=True, offset=0, num=most
            )
        return [_text(item) for item in found]

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
            "rescue",
            [names.job_key(job_id), names.LEASED, names.queued_key(Lane.FIRST)],
            [job_id, max_crashes, _ms(lease)],
        )
        match [_text(answer[0]), *answer[1:]]:
            case ["poison", epoch, attempts, crashes, unanswered, key, group]:
                return Lease(job_id, epoch, b"", attempts, crashes, unanswered, _text(key), _text(group))
            case ["queued"]:
                return True
        return False

    def resend(self, job_id: str, found_in: Lane = Lane.FIRST, lost_before_ms: int = 0) -> bool:
        """True: the job is queued and needs a new message, and it is the caller who sends it, in the first lane."""
        return bool(
            self._run(
                "resend",
                [
                    names.job_key(job_id),
                    names.queued_key(found_in),
                    names.WAITING,
                    names.queued_key(Lane.FIRST),
                ],
                [job_id, lost_before_ms],
            )
        )

    # --- inside ---

    def _field(self, job_id: str, field: str) -> str:
        with translated_errors():
            value: Any = self._client.hget(names.job_key(job_id), field)
        return _text(value) if value is not None else ""

    def _now_ms(self) -> int:
        seconds, micros = self._client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def _run(self, verb: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        with translated_errors():
            return self._scripts[verb](keys=keys, args=args)

    def _run_many(self, verb: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        if not calls:
            return []
        with translated_errors():
            try:
                return self._pipelined(self._scripts[verb], calls)
            except NoScriptError:
                # The server was started anew between the look for the script and its use.
                return self._pipelined(self._scripts[verb], calls)

    def _pipelined(self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for keys, args in calls:
            script(keys=keys, args=args, client=pipeline)
        return pipeline.execute()


def cancelled(status: JobStatus) -> Failure:
    """The outcome of a cancelled job."""
    detail = "cancelled by its owner"
    if status.state is JobState.RUNNING:
        detail += "; a call was in flight and may be billed"
    return Failure.from_error(JobCancelled(detail, None, status.attempts, status.unanswered_calls))


def _status(job_id: str, raw: dict[bytes, bytes]) -> JobStatus:
    if not raw:
        raise JobNotFound(job_id)
    entry = {_text(name): _text(value) for name, value in raw.items()}
    return JobStatus(
        id=job_id,
        state=JobState(entry["state"]),
        created_ms=int(entry["created_ms"]),
        attempts=int(entry.get("attempts", 0)),
        crashes=int(entry.get("crashes", 0)),
        unanswered_calls=int(entry.get("unanswered", 0)),
        due_ms=int(entry["due_ms"]) if "due_ms" in entry else None,
        finished_ms=int(entry["finished_ms"]) if "finished_ms" in entry else None,
        reason=entry.get("reason") or None,
    )


def _message_id(raw: bytes) -> str:
    try:
        return str(orjson.loads(raw)["headers"]["id"])
    except (ValueError, KeyError, TypeError):
        return ""


def _ms(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
