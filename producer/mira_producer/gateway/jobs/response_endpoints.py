"""`/v1/responses`: one job as OpenAI's response, in the background or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.gateway.context import Context
from mira_producer.gateway.description.described import EVENTS, Described, Parameter
from mira_producer.gateway.endpoints import endpoint
from mira_producer.gateway.http.json_body import Empty, json_body, json_object
from mira_producer.gateway.http.objects import Deleted
from mira_producer.gateway.http.responses import json_response
from mira_producer.gateway.http.threads import in_thread
from mira_producer.gateway.http.whole_number import whole_number
from mira_producer.gateway.jobs.chunk_feed import ChunkFeed
from mira_producer.gateway.jobs.event_stream import EventStream, named_event
from mira_producer.gateway.jobs.job_ids import job_of_response, response_id
from mira_producer.gateway.jobs.response_events import ResponseEvents
from mira_producer.gateway.jobs.response_object import is_stored, response_object
from mira_producer.gateway.jobs.response_request import parse_response_request
from mira_producer.gateway.jobs.response_schemas import CreateResponse, ResponseObject
from mira_producer.gateway.jobs.single_jobs import (
    Found,
    cancel_unstarted,
    find,
    flag_of,
    poll_headers,
    published_chunks,
    submit,
    wait,
)
from mira_producer.gateway.jobs.waiting_response import WaitingResponse
from mira_producer.gateway.retries.identity import identity_of
from mira_producer.gateway.webhook_target import take_webhook
from mira_queue.contract.api_key import ApiKey
from mira_queue.contract.job_options import JobOptions
from mira_queue.contract.outcome import Failure
from mira_queue.contract.states import JobStatus
from mira_queue.contract.webhook import digest_of_identity

KIND = "response"
MAX_EVENT = 999_999_999
OnDisconnect = Callable[[], Awaitable[None]] | None
CREATE = Described(
    "create_response",
    "Create a response: a job that the request waits for, unless it is in the background.",
    ResponseObject,
    CreateResponse,
    media=EVENTS,
    errors=("4XX", "5XX"),
    polled=True,
)
RETRIEVE = Described(
    "retrieve_response",
    "Return a response, or its events.",
    ResponseObject,
    query=(
        Parameter("stream", "Return the events.", {"type": "boolean"}),
        Parameter(
            "starting_after",
            "Return only the events after this number.",
            {"type": "integer", "minimum": 0, "maximum": MAX_EVENT},
        ),
    ),
    media=EVENTS,
    polled=True,
)
CANCEL = Described("cancel_response", "Cancel a response.", ResponseObject, Empty, polled=True)
DELETE = Described("delete_response", "Cancel and delete a response.", Deleted)


class _Responses:
    """Handlers of the endpoints."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._feed = ChunkFeed(context.queue.ledger.read_chunks)

    async def create(self, request: Request, key: ApiKey) -> Response:
        given = await json_object(request)
        webhook = await take_webhook(self._context, key, given)
        wanted = parse_response_request(given)
        options = JobOptions(priority=wanted.priority, metadata=wanted.metadata, webhook=webhook)
        view = {"kind": KIND, **wanted.view}
        job_id = await submit(
            self._context,
            key,
            wanted.body,
            identity_of(request),
            options=options,
            view=view,
            is_announced=wanted.is_background,
        )

        async def cancel() -> None:
            # A call in flight is stored in any case: the client's retry gets it.
            if await cancel_unstarted(self._context, request, job_id):
                await self._forget_unless_stored((await self._found(key, response_id(job_id))).job)

        async def answer() -> Mapping[str, Any]:
            return await self._ended(key, job_id)

        if wanted.is_streamed:
            found = await self._found(key, response_id(job_id))
            events = self._events(key, found, -1, None if wanted.is_background else cancel)
            return EventStream(events)
        if wanted.is_background:
            return self._show(await self._found(key, response_id(job_id)))
        return WaitingResponse(answer, cancel)

    async def retrieve(self, request: Request, key: ApiKey) -> Response:
        is_streamed = flag_of(request, "stream")
        given = request.query_params.get("starting_after")
        after = -1 if given is None else whole_number("starting_after", given, 0, MAX_EVENT)
        found = await self._found(key, request.path_params["id"])
        if not is_streamed:
            return self._show(found)
        return EventStream(self._events(key, found, after, None))

    async def cancel(self, request: Request, key: ApiKey) -> Response:
        await json_body(request, Empty)
        found = await self._found(key, request.path_params["id"])
        await in_thread(self._context.queue.ledger.cancel, found.job.id)
        return self._show(await self._found(key, request.path_params["id"]))

    async def delete(self, request: Request, key: ApiKey) -> Response:
        an_id = request.path_params["id"]
        found = await self._found(key, an_id)

        def delete() -> None:
            ledger, job = self._context.queue.ledger, found.job
            ledger.set_deleted(digest_of_identity(job.id), job.project, job.created_ms)
            ledger.cancel(job.id)
            ledger.forget(job.id)

        await in_thread(delete)
        return json_response(Deleted(id=an_id, object="response", deleted=True))

    async def _found(self, key: ApiKey, an_id: str) -> Found:
        return await find(self._context, key, job_of_response(an_id), "response", an_id, kind=KIND)

    async def _ended(self, key: ApiKey, job_id: str) -> Mapping[str, Any]:
        """Wait for a job, and return its response. Raises the error of a failed one."""
        outcome = await wait(self._context, job_id)
        found = await self._found(key, response_id(job_id))
        await self._forget_unless_stored(found.job)
        if isinstance(outcome, Failure):
            raise outcome.to_error()
        return response_object(found.job, found.outcome)

    async def _forget_unless_stored(self, job: JobStatus) -> None:
        """Delete a job that has finished and whose response is not to be stored."""
        if not is_stored(job):
            await in_thread(self._context.queue.ledger.forget, job.id)

    async def _events(self, key: ApiKey, found: Found, after: int, on_disconnect: OnDisconnect) -> AsyncIterator[bytes]:
        """Yield the events that follow the one with the number `after`."""
        events = ResponseEvents(found.job, after)
        job_id = found.job.id
        try:
            for event in events.first():
                yield named_event(event)
            async for epoch, chunk in published_chunks(self._context, self._feed, job_id):
                for event in events.add(epoch, chunk):
                    yield named_event(event)
            outcome = await wait(self._context, job_id)
        except (asyncio.CancelledError, GeneratorExit):
            if on_disconnect is not None:
                await on_disconnect()
            raise
        found = await self._found(key, response_id(job_id))
        await self._forget_unless_stored(found.job)
        for event in events.rest(found.job, outcome):
            yield named_event(event)

    def _show(self, found: Found) -> Response:
        return json_response(response_object(found.job, found.outcome), headers=poll_headers(found))


def routes(context: Context) -> list[BaseRoute]:
    handlers = _Responses(context)
    return [
        endpoint(context, "POST", "/v1/responses", handlers.create, CREATE),
        endpoint(context, "GET", "/v1/responses/{id}", handlers.retrieve, RETRIEVE),
        endpoint(context, "POST", "/v1/responses/{id}/cancel", handlers.cancel, CANCEL),
        endpoint(context, "DELETE", "/v1/responses/{id}", handlers.delete, DELETE),
    ]
