"""Single jobs behind OpenAI's objects: submit one, find it for its project, and wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from starlette.requests import Request

from mira_producer.async_client import AsyncJob
from mira_producer.gateway.context import Context
from mira_producer.gateway.http.errors import invalid, not_found
from mira_producer.gateway.http.threads import in_thread
from mira_producer.gateway.jobs.chunk_feed import ChunkFeed
from mira_producer.gateway.jobs.field_names import check_field_names
from mira_producer.gateway.jobs.project_key import project_key
from mira_producer.gateway.key_limits import explained, limits_of, price_of
from mira_producer.gateway.retries.identity import withdraw_identity
from mira_producer.request_check import check_of
from mira_queue.contract.api_key import ApiKey
from mira_queue.contract.errors import JobNotFound
from mira_queue.contract.job_options import NO_OPTIONS, JobOptions
from mira_queue.contract.outcome import Outcome
from mira_queue.contract.states import JobStatus
from mira_queue.ledger.records import NewJob

_FLAGS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Found:
    """A job, and its outcome if it has finished. Until then, a client should ask again after `poll_after_s`."""

    job: JobStatus
    outcome: Outcome | None
    poll_after_s: float = 0.0


async def submit(
    context: Context,
    key: ApiKey,
    body: Mapping[str, Any],
    identity: str,
    *,
    options: JobOptions = NO_OPTIONS,
    account: str = "",
    idempotency_key: str = "",
    view: Mapping[str, Any] | None = None,
    is_announced: bool = False,
) -> str:
    """Accept a job of the key's project, and return its id. Raises the errors of MiraQueue.enqueue.

    Repeating it with the same identity of a request returns the same job. If it is announced, the webhook endpoints of
    the project receive the event of its end.
    """
    check_field_names(body)

    def accept() -> str:
        owner = context.queue.accounts.named(account or key.account or None)
        checked = check_of(context.settings, owner)(body)
        job = NewJob.single(
            checked,
            project_key(key.project, idempotency_key),
            options=options,
            project=key.project,
            view=orjson.dumps(view).decode() if view else "",
            is_announced=is_announced,
        )
        price = price_of(key, context.price_table.prices(), checked, body)
        # A repeated request finds its job, whatever the limits are by now.
        wanted = replace(job, id=identity, limits=limits_of(key), price=price)
        with explained(key, lambda: context.queue.ledger.usage_of(key.project)):
            return context.queue.accept([wanted], owner)[0].id

    return await in_thread(accept)


async def find(context: Context, key: ApiKey, job_id: str, what: str, an_id: str, *, kind: str = "") -> Found:
    """Return a job that the key sees. Raises ApiError (404), also for a job behind another `kind` of object."""

    def read() -> Found:
        job = context.queue.ledger.status(job_id)
        if not key.sees(job.project) or (kind and kind_of(job) != kind):
            raise JobNotFound(job_id)
        if job.state.is_final:
            return Found(job, context.queue.outcome_now(job_id))
        return Found(job, None, context.forecast.poll_after_s(job))

    try:
        if not job_id:
            raise JobNotFound(an_id)
        return await in_thread(read)
    except JobNotFound:
        raise not_found(what, an_id) from None


def kind_of(job: JobStatus) -> str:
    """Return the kind of OpenAI's object that a job was created as, or an empty string."""
    return str(orjson.loads(job.view).get("kind", "")) if job.view else ""


async def wait(context: Context, job_id: str, timeout_s: float | None = None) -> Outcome:
    """Return the outcome of a job as soon as it has finished. Raises ResultTimeout."""
    return await AsyncJob(context.queue.job(job_id)).outcome(timeout_s)


async def published_chunks(context: Context, feed: ChunkFeed, job_id: str) -> AsyncIterator[tuple[str, bytes]]:
    """Yield the chunks of a streamed answer as they are published, until the job has finished."""
    subscription = feed.subscribe(job_id)
    ended = asyncio.ensure_future(wait(context, job_id))
    try:
        while not ended.done():
            arrived = asyncio.ensure_future(subscription.take())
            try:
                await asyncio.wait({arrived, ended}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                arrived.cancel()
            for chunk in subscription.take_now() if not arrived.done() else arrived.result():
                yield chunk
        # The last chunks were published before the job finished.
        await feed.read_rest(subscription)
        for chunk in subscription.take_now():
            yield chunk
    finally:
        feed.unsubscribe(subscription)
        ended.cancel()


async def cancel_unstarted(context: Context, request: Request, job_id: str) -> bool:
    """Cancel a job whose request is not waited for any more, unless its call is in flight: that is paid for.

    Return True if it was cancelled.
    """
    is_cancelled = await in_thread(context.queue.ledger.cancel, job_id, only_unstarted=True)
    if is_cancelled:
        withdraw_identity(request)
    return is_cancelled


def poll_headers(found: Found) -> dict[str, str]:
    return {"openai-poll-after-ms": str(round(1000 * found.poll_after_s))} if found.poll_after_s else {}


def flag_of(request: Request, name: str) -> bool:
    """Return a parameter of the query that is true or false; by default false. Raises ApiError."""
    text = request.query_params.get(name, "false").lower()
    if text not in _FLAGS:
        raise invalid(name, f"expected true or false, got {text[:40]!r}")
    return _FLAGS[text]
