"""`/v1/chat/completions`: one job as OpenAI's chat completion, which the request waits for unless it prefers not to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.gateway.context import Context
from mira_producer.gateway.endpoints import endpoint
from mira_producer.gateway.identity import identity_of
from mira_producer.gateway.job_ids import completion_id, job_of_completion
from mira_producer.gateway.json_body import json_object
from mira_producer.gateway.response_object import mira_object
from mira_producer.gateway.response_request import priority_of, unsupported
from mira_producer.gateway.responses import json_response
from mira_producer.gateway.single_jobs import Found, cancel_unstarted, find, poll_headers, submit, wait
from mira_producer.gateway.waiting_response import WaitingResponse
from mira_queue.contract.api_key import ApiKey
from mira_queue.contract.errors import ResultTimeout
from mira_queue.contract.job_options import JobOptions
from mira_queue.contract.metadata import checked_metadata
from mira_queue.contract.outcome import Failure, Outcome

KIND = "chat.completion"
PATH = "/v1/chat/completions"
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

    async def create(self, request: Request, key: ApiKey) -> Response:
        body = await json_object(request)
        if body.get("stream"):
            raise unsupported("stream", "this version of the gateway does not stream chat completions")
        options = JobOptions(priority=priority_of(body), metadata=checked_metadata(body.get("metadata")))
        preference = preference_of(request.headers.getlist("prefer"))
        job_id = await submit(self._context, key, body, identity_of(request), options=options, view={"kind": KIND})

        async def cancel() -> None:
            await cancel_unstarted(self._context, job_id)

        async def answer() -> Mapping[str, Any]:
            return {**_body_of(await wait(self._context, job_id)), "id": completion_id(job_id)}

        return (
            await self._preferred(key, job_id, preference) if preference.is_async else WaitingResponse(answer, cancel)
        )

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

    def _show(self, found: Found, headers: Mapping[str, str] | None = None) -> Response:
        status = 200 if found.job.state.is_final else 202
        return json_response(completion_object(found), status, {**poll_headers(found), **(headers or {})})


def routes(context: Context) -> list[BaseRoute]:
    handlers = _Completions(context)
    return [
        endpoint(context, "POST", PATH, handlers.create),
        endpoint(context, "GET", f"{PATH}/{{id}}", handlers.retrieve),
    ]
