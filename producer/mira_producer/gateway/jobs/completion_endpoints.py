"""`/v1/chat/completions`: one job as OpenAI's chat completion, which the request waits for unless it prefers not to."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.gateway.context import Context
from mira_producer.gateway.description.described import EVENTS, Described, Parameter
from mira_producer.gateway.endpoints import endpoint
from mira_producer.gateway.http.errors import ApiError, translated
from mira_producer.gateway.http.json_body import json_object
from mira_producer.gateway.http.responses import json_response
from mira_producer.gateway.jobs.chat_objects import CompletionObject, CreateCompletion
from mira_producer.gateway.jobs.chunk_feed import ChunkFeed
from mira_producer.gateway.jobs.event_stream import EventStream, data_event
from mira_producer.gateway.jobs.job_ids import completion_id, job_of_completion
from mira_producer.gateway.jobs.response_object import mira_object
from mira_producer.gateway.jobs.response_request import priority_of
from mira_producer.gateway.jobs.single_jobs import (
    Found,
    cancel_unstarted,
    find,
    poll_headers,
    published_chunks,
    submit,
    wait,
)
from mira_producer.gateway.jobs.streamed_completion import StreamedCompletion
from mira_producer.gateway.jobs.waiting_response import WaitingResponse
from mira_producer.gateway.retries.identity import identity_of
from mira_producer.gateway.webhook_target import take_webhook
from mira_queue.contract.api_key import ApiKey
from mira_queue.contract.errors import JobError, ResultTimeout
from mira_queue.contract.job_options import JobOptions
from mira_queue.contract.metadata import checked_metadata
from mira_queue.contract.outcome import Failure, Outcome

KIND = "chat.completion"
PATH = "/v1/chat/completions"
CREATE = Described(
    "create_chat_completion",
    "Complete a chat: a job that the request waits for, unless it prefers not to.",
    CompletionObject,
    CreateCompletion,
    headers=(
        Parameter("Prefer", "`respond-async`: respond before there is an answer. `wait=N`: wait for N seconds first."),
    ),
    media=EVENTS,
    statuses={202: "Accepted: there is no answer yet"},
    errors=("4XX", "5XX"),
    polled=True,
)
RETRIEVE = Described(
    "retrieve_chat_completion",
    "Return a chat completion.",
    CompletionObject,
    statuses={202: "There is no answer yet"},
    errors=("4XX", "5XX"),
    polled=True,
)
_WAIT = re.compile(r'wait\s*=\s*"?(\d{1,6})"?')


@dataclass(frozen=True, slots=True)
class Preference:
    """The Prefer header of RFC 7240: whether to respond before the job has finished, and how long to wait first."""

    is_async: bool = False
    wait_s: int = 0


def preference_of(headers: list[str]) -> Preference:
    """Return what the values of Prefer headers ask for. Unknown preferences are ignored. Pure."""
    wanted = [part.partition(";")[0].strip().lower() for value in headers for part in value.split(",")]
    waits = [int(found[1]) for part in wanted if (found := _WAIT.fullmatch(part))]
    # A client that names only a time does not want to wait for longer.
    return Preference("respond-async" in wanted or bool(waits), waits[0] if waits else 0)


def completion_object(found: Found) -> dict[str, Any]:
    """Return the completion of a job, with the id under which it can be retrieved; without choices if it is open."""
    if found.outcome is not None:
        return {**_body_of(found.outcome), "id": completion_id(found.job.id)}
    return {
        "id": completion_id(found.job.id),
        "object": KIND,
        "created": found.job.created_ms // 1000,
        "model": found.job.model,
        "choices": [],
        "mira": mira_object(found.job),
    }


def _body_of(outcome: Outcome) -> Mapping[str, Any]:
    """Raises the JobError of a failed job."""
    if isinstance(outcome, Failure):
        raise outcome.to_error()
    return outcome.body


class _Completions:
    """Handlers of the endpoints."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._feed = ChunkFeed(context.queue.ledger.read_chunks)

    async def create(self, request: Request, key: ApiKey) -> Response:
        body = await json_object(request)
        webhook = await take_webhook(self._context, key, body)
        options = JobOptions(
            priority=priority_of(body), metadata=checked_metadata(body.get("metadata")), webhook=webhook
        )
        preference = preference_of(request.headers.getlist("prefer"))
        job_id = await submit(
            self._context,
            key,
            body,
            identity_of(request),
            options=options,
            view={"kind": KIND},
            is_announced=preference.is_async,
        )

        async def cancel() -> None:
            await cancel_unstarted(self._context, request, job_id)

        async def answer() -> Mapping[str, Any]:
            return {**_body_of(await wait(self._context, job_id)), "id": completion_id(job_id)}

        if preference.is_async:
            return await self._preferred(key, job_id, preference)
        if not body.get("stream"):
            return WaitingResponse(answer, cancel)
        options_of_stream = body.get("stream_options")
        wants_usage = isinstance(options_of_stream, dict) and options_of_stream.get("include_usage") is True
        stream = EventStream(
            self._events(request, job_id, StreamedCompletion(completion_id(job_id), include_usage=wants_usage))
        )
        await stream.begin(request.receive)
        return stream

    async def retrieve(self, request: Request, key: ApiKey) -> Response:
        an_id = request.path_params["id"]
        found = await find(self._context, key, job_of_completion(an_id), "chat completion", an_id, kind=KIND)
        return self._show(found)

    async def _preferred(self, key: ApiKey, job_id: str, preference: Preference) -> Response:
        """Wait as long as the client does, and then name the place where the completion will be."""
        an_id = completion_id(job_id)
        if preference.wait_s:
            with suppress(ResultTimeout):
                await wait(self._context, job_id, preference.wait_s)
        found = await find(self._context, key, job_id, "chat completion", an_id, kind=KIND)
        return self._show(found, {"location": f"{PATH}/{an_id}", "preference-applied": "respond-async"})

    async def _events(self, request: Request, job_id: str, stream: StreamedCompletion) -> AsyncIterator[bytes]:
        """Yield the chunks of an answer while they arrive, and what is missing of the outcome.

        If the client disconnects, the job is cancelled, unless its call is in flight. Raises the JobError of a job that
        has failed before anything was sent.
        """
        is_started = False
        try:
            async for epoch, chunk in published_chunks(self._context, self._feed, job_id):
                if data := stream.add(epoch, chunk):
                    is_started = True
                    yield data_event(data)
            outcome = await wait(self._context, job_id)
        except (asyncio.CancelledError, GeneratorExit):
            await cancel_unstarted(self._context, request, job_id)
            raise
        try:
            if isinstance(outcome, Failure):
                raise outcome.to_error()
            for data in stream.rest(outcome):
                yield data_event(data)
        except (ApiError, JobError) as error:
            if not is_started:
                raise
            found = error if isinstance(error, ApiError) else translated(error)
            assert found is not None
            yield data_event(orjson.dumps(found.to_object()))

    def _show(self, found: Found, headers: Mapping[str, str] | None = None) -> Response:
        status = 200 if found.job.state.is_final else 202
        return json_response(completion_object(found), status, {**poll_headers(found), **(headers or {})})


def routes(context: Context) -> list[BaseRoute]:
    handlers = _Completions(context)
    return [
        endpoint(context, "POST", PATH, handlers.create, CREATE),
        endpoint(context, "GET", f"{PATH}/{{id}}", handlers.retrieve, RETRIEVE),
    ]
