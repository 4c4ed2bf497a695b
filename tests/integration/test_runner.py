"""One job in one thread, without Celery: what is left behind where something fails that nobody foresaw."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
import pytest
import redis
import structlog
from mira_worker.leases import HeldLeases
from mira_worker.pacing.pacer import Pacer
from mira_worker.runner import Done, JobRunner, ResultStore, SendAgain
from mira_worker.transport import HttpResponse, OnStream, Transport

from mira_queue.contract import names
from mira_queue.contract.errors import InternalError, QueueUnavailable
from mira_queue.contract.outcome import Completion, Outcome
from mira_queue.contract.settings import Settings
from mira_queue.ledger.ledger import Ledger
from mira_queue.runtime.crash_points import CrashPoints
from tests.support.ledger_steps import LIFE, MANY, accepted

ACCOUNT = "an-account"


SECRET = "the prompt and the key"


class Broken(Exception):
    """A defect of ours, or of a library."""


class BrokenTransport:
    """Fails as nobody foresaw. Its message quotes what no log may contain."""

    def post(self, body: bytes, on_stream: OnStream | None = None) -> HttpResponse:
        raise Broken(SECRET)

    def redact(self, text: str) -> str:
        return text


class Answering(BrokenTransport):
    def post(self, body: bytes, on_stream: OnStream | None = None) -> HttpResponse:
        return HttpResponse(200, {}, orjson.dumps(BODY), 1)


class BrokenStore:
    """A result backend elsewhere that is down."""

    def __init__(self) -> None:
        self.tried: list[Outcome] = []

    def store(self, job_id: str, outcome: Outcome) -> None:
        self.tried.append(outcome)
        raise Broken(SECRET)

    def pack(self, outcome: Outcome) -> bytes:
        return orjson.dumps(outcome.to_dict())

    def unpack(self, packed: bytes) -> Outcome:
        return Completion(**orjson.loads(packed))


BODY = {"choices": [{"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}


@pytest.fixture
def ledger(redis_client: redis.Redis) -> Iterator[Ledger]:
    yield Ledger(redis_client, result_ttl=LIFE)
    redis_client.delete(*redis_client.keys(f"*{ACCOUNT}*"))


@dataclass
class Parts:
    """A runner, and what it works on."""

    ledger: Ledger
    leases: HeldLeases
    pacer: Pacer
    runner: JobRunner


@pytest.fixture
def make(ledger: Ledger, settings: Settings) -> Callable[..., Parts]:
    def make(transport: Transport, results: ResultStore | None = None, **options: Any) -> Parts:
        log, stopping = structlog.get_logger(), threading.Event()
        pacer = Pacer(ledger, ACCOUNT, MANY, probe_lease=timedelta(seconds=5), stopping=stopping, log=log)
        leases = HeldLeases(ledger, timedelta(minutes=1), log)
        changed = settings.model_copy(update=options)
        runner = JobRunner(changed, ledger, pacer, "", leases, transport, results, stopping, log, CrashPoints(""))
        return Parts(ledger, leases, pacer, runner)

    return make


def field(client: redis.Redis, job_id: str, name: str) -> str:
    return (client.hget(names.job_key(job_id), name) or b"").decode()  # type: ignore[union-attr]


def test_an_exception_fails_the_attempt_and_gives_its_slot_back(
    make: Callable[..., Parts], redis_client: redis.Redis
) -> None:
    parts = make(BrokenTransport())
    job_id = accepted(parts.ledger)

    outcome = parts.runner.run(job_id)
    parts.pacer.line.renew_permits()

    assert isinstance(outcome, SendAgain)
    assert isinstance(outcome.error, InternalError)
    assert [field(redis_client, job_id, name) for name in ("state", "attempts", "unanswered", "crashes")] == [
        "waiting", "1", "1", "",
    ]  # fmt: skip
    assert redis_client.zcard(names.in_flight_key(ACCOUNT)) == 0
    assert parts.leases.held() == []


def test_exceptions_are_bounded_by_the_attempts_and_are_no_crashes(
    make: Callable[..., Parts], redis_client: redis.Redis
) -> None:
    parts = make(BrokenTransport(), max_attempts=1, max_crashes=1)
    job_id = accepted(parts.ledger)

    parts.runner.run(job_id)

    assert [field(redis_client, job_id, name) for name in ("state", "reason", "crashes")] == [
        "failed", "internal_error", "",
    ]  # fmt: skip
    assert parts.ledger.rescue(ACCOUNT, job_id, 1, timedelta(minutes=1)) is None


def test_the_log_has_the_traceback_and_not_the_message(make: Callable[..., Parts]) -> None:
    with structlog.testing.capture_logs() as lines:
        parts = make(BrokenTransport())
        parts.runner.run(accepted(parts.ledger))

    [line] = [line for line in lines if line["event"] == "internal_error"]
    assert line["error"] == "Broken"
    assert "in post" in line["traceback"]
    assert SECRET not in repr(lines)


def test_a_job_whose_failed_attempt_cannot_be_recorded_is_held_and_given_back_later(
    make: Callable[..., Parts], redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = make(BrokenTransport())
    job_id = accepted(parts.ledger)

    def unavailable(*_: object, **__: object) -> bool:
        raise QueueUnavailable("no")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "defer", unavailable)
        assert isinstance(parts.runner.run(job_id), Done)
    # If its lease expired, that would count as a crash.
    assert [lease.job_id for lease in parts.leases.held()] == [job_id]

    assert parts.runner.release_interrupted() == [job_id]
    assert parts.leases.held() == []
    assert [field(redis_client, job_id, name) for name in ("state", "unanswered", "crashes")] == ["queued", "1", ""]
    assert parts.runner.release_interrupted() == []


def test_an_outcome_that_is_decided_is_not_undone_when_it_cannot_be_stored(
    make: Callable[..., Parts], redis_client: redis.Redis
) -> None:
    store = BrokenStore()
    parts = make(Answering(), store, max_attempts=1)
    job_id = accepted(parts.ledger)

    assert isinstance(parts.runner.run(job_id), Done)

    decided = orjson.loads(field(redis_client, job_id, "outcome"))
    assert (decided["text"], decided["body"]) == ("Hi", BODY)
    assert [type(outcome) for outcome in store.tried] == [Completion]
