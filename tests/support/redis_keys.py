"""Keys that no test may leave behind: without an owner in mira_queue/contract/names.py, or without an end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis

from mira_queue.contract import names
from mira_queue.contract.batch import Batch
from mira_queue.contract.states import JobState

# Celery's transport owns these, as long as the queue exists: bindings, the queue, what workers hold unacknowledged,
# and the mailbox of `celery inspect`.
CELERYS = ("_kombu.", names.QUEUE, names.BULK_QUEUE, "unacked", "celery.pidbox", "/0.celery.pidbox", "celeryev")
# The bindings are known to running workers and producers, which would not write them again.
KEPT = "_kombu."

_STATE_OF_ENTRY = {"leased": JobState.RUNNING, "waiting": JobState.WAITING}


def clear(client: redis.Redis) -> None:
    """Drop every key but the bindings of the queue."""
    keys = [key for key in client.scan_iter(count=1000) if not key.decode().startswith(KEPT)]
    if keys:
        client.delete(*keys)


def leaked(client: redis.Redis) -> list[str]:
    """One line for each key that should not be there."""
    return [f"{key}: {why}" for key in sorted(_all(client)) if (why := _leak(client, key))]


def _all(client: redis.Redis) -> Iterator[str]:
    return (key.decode() for key in client.scan_iter(count=1000))


def _leak(client: redis.Redis, key: str) -> str | None:
    """Why this key is a leak; None when it is none."""
    if key.startswith(CELERYS) or "reply.celery.pidbox" in key:
        return None
    match key.split(":", 2):
        case ["mira", "job" | "request" | "timeline", job_id]:
            return _without_end(client, key, job_id)
        case ["mira", "key", _]:
            holder: Any = client.get(key)
            return _without_end(client, key, holder.decode().partition(":")[2]) if holder else None
        case ["mira", "queued", _]:
            return _strange_entries(client, key, JobState.QUEUED)
        case ["mira", "leased" | "waiting" as kind, _]:
            return _strange_entries(client, key, _STATE_OF_ENTRY[kind])
        case ["mira", "deadlines", _]:
            late: list[Any] = client.zrange(key, 0, -1)
            over = [job_id for job_id in late if (state := _state(client, job_id.decode())) is None or state.is_final]
            return f"deadlines of jobs that have ended: {over}" if over else None
        case ["mira", "listed", kind] if kind.startswith("open"):
            entries: list[Any] = client.zrange(key, 0, -1)
            states = [_state(client, job_id.decode()) for job_id in entries]
            return (
                None if all(state and not state.is_final for state in states) else f"jobs that are not open: {states}"
            )
        case ["mira", "listed", _]:
            return _without_end(client, key, None)
        case ["mira", "batch", batch_id]:
            batch: Any = client.hget(key, "batch")
            ended = batch is not None and Batch.from_json(batch).status.is_final
            return _without_end(client, key, None) if ended or client.zscore(names.BATCHES, batch_id) is None else None
        case ["mira", "api-keys" | "batches" | "page-secret" | "schema", *_]:
            return None
        case ["mira", "webhook-endpoints", _]:
            return None
        case ["mira", "usage", project]:
            return _wrong_usage(client, key, project)
        case ["mira", "dead-deliveries" | "deliveries" | "receiver-pause" | "deleted", _]:
            return _without_end(client, key, None)
        case ["mira", "delivery", _]:
            is_settled = client.hexists(key, "died_ms") or client.hexists(key, "delivered_ms")
            return _without_end(client, key, None) if is_settled else "a delivery that is neither made nor dead"
        case ["mira", "all-deliveries" | "accounts" | "workers" | "holds" | "clock" | "gateways"]:
            return _without_end(client, key, None)
        case [
            "mira",
            "finished"
            | "chunks"
            | "pace"
            | "sent"
            | "tokens"
            | "in-flight"
            | "turns"
            | "turn-ends"
            | "faults"
            | "rejections"
            | "activity"
            | "call-times"
            | "limits",
            _,
        ]:
            return _without_end(client, key, None)
        case ["mira", "requests" | "http-key" | "job-action", _]:
            return _without_end(client, key, None)
        case _ if key.startswith("celery-task-meta-"):
            return _without_end(client, key, None)
    return "no owner in mira_queue/contract/names.py"


def _state(client: redis.Redis, job_id: str) -> JobState | None:
    state: Any = client.hget(names.job_key(job_id), "state")
    return JobState(state.decode()) if state else None


def _without_end(client: redis.Redis, key: str, job_id: str | None) -> str | None:
    # -1: the key does not expire; -2: the key has expired meanwhile.
    if client.pttl(key) != -1:
        return None
    state = _state(client, job_id) if job_id else None
    if state is not None and not state.is_final:
        return None
    return f"never expires, and its job is {state or 'not there'}"


def _wrong_usage(client: redis.Redis, key: str, project: str) -> str | None:
    """Check that the open jobs of a project are those that count for its limits."""
    jobs, lines = (int(value or 0) for value in client.hmget(key, "jobs", "lines"))
    listed = client.zcard(names.listed_key(names.OPEN, project))
    if jobs != listed:
        return f"counts {jobs} open jobs of {listed}"
    return None if jobs + lines else _without_end(client, key, None)


def _strange_entries(client: redis.Redis, key: str, state: JobState) -> str | None:
    entries: list[Any] = client.zrange(key, 0, -1)
    strange = [
        f"{job_id.decode()} is {found or 'not there'}"
        for job_id in entries
        if (found := _state(client, job_id.decode())) is not state
    ]
    return f"entries of jobs that are not {state}: {', '.join(strange)}" if strange else None
