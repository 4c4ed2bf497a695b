"""`/v1/jobs`: single jobs with the options that OpenAI's formats cannot express."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.gateway.context import Context
from mira_producer.gateway.endpoints import endpoint
from mira_producer.gateway.http.errors import ApiError, conflict, invalid
from mira_producer.gateway.http.json_body import Body, checked, json_object
from mira_producer.gateway.http.paging import listing, page_of
from mira_producer.gateway.http.responses import json_response
from mira_producer.gateway.http.threads import in_thread
from mira_producer.gateway.jobs.project_key import key_of
from mira_producer.gateway.jobs.response_object import seconds
from mira_producer.gateway.jobs.single_jobs import Found, find, poll_headers, submit
from mira_producer.gateway.retries.identity import identity_of
from mira_producer.gateway.webhook_target import webhook_target
from mira_producer.request_fields import wrong_name
from mira_queue.contract.api_key import ApiKey, Scope
from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.job_filter import JobFilter
from mira_queue.contract.job_options import JobOptions
from mira_queue.contract.outcome import Completion, Failure
from mira_queue.contract.problem import UNKNOWN_PARAMETER
from mira_queue.contract.states import JobStatus

PATH = "/v1/jobs"
# A time: Unix seconds, or an ISO time with a zone.
Time = int | float | str


class NewJobBody(Body):
    """A job: the body of its chat request, and its options."""

    body: dict[str, Any]
    key: str = ""
    delay: float | None = None
    not_before: Time | None = None
    deadline: Time | None = None
    priority: str | None = None
    metadata: dict[str, str] | None = None
    account: str = ""
    webhook: str = ""


class ActionBody(Body):
    """Which jobs an action concerns. With `dry_run`, they are only counted."""

    state: str | None = None
    code: str | None = None
    model: str | None = None
    metadata: dict[str, str] | None = None
    since: Time | None = None
    until: Time | None = None
    dry_run: bool = False


def job_object(job: JobStatus) -> dict[str, Any]:
    """Return our object of a job. Times are Unix seconds, as in OpenAI's objects."""
    return {
        "id": job.id,
        "object": "job",
        "created_at": seconds(job.created_ms),
        "state": job.state,
        "model": job.model,
        "key": key_of(job) or None,
        "priority": job.priority,
        "metadata": dict(job.metadata),
        "account": job.account,
        "project": job.project or None,
        "attempts": job.attempts,
        "crashes": job.crashes,
        "unanswered_calls": job.unanswered_calls,
        "deadline": seconds(job.deadline_ms),
        "waiting_until": seconds(job.due_ms),
        "waiting_for": None if job.state.is_final else job.reason,
        "finished_at": seconds(job.finished_ms),
        "code": job.code or None,
    }


def _with_outcome(found: Found) -> dict[str, Any]:
    outcome = found.outcome
    return {
        **job_object(found.job),
        "completion": outcome.body if isinstance(outcome, Completion) else None,
        "error": _error_object(outcome) if isinstance(outcome, Failure) else None,
    }


def _error_object(failure: Failure) -> dict[str, Any]:
    return {
        "code": failure.code,
        "message": failure.detail,
        "status": failure.status,
        "retryable": failure.retryable,
        "request_id": failure.request_id,
    }


def _time(name: str, value: Time | None) -> datetime | None:
    if value is None:
        return None
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        raise invalid(name, "expected Unix seconds, or an ISO time such as 2030-01-31T18:00:00Z") from None


def _number_or_text(value: str | None) -> Time | None:
    return float(value) if value and value.replace(".", "", 1).isdecimal() else value


def _check_names(found: dict[str, Any], model: type[Body]) -> None:
    """Reject a misspelled option with the right name."""
    for name in found:
        if name not in model.model_fields and (reason := wrong_name(name)):
            raise invalid(name[:200], reason, UNKNOWN_PARAMETER)


class _Jobs:
    """Handlers of the endpoints."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def create(self, request: Request, key: ApiKey) -> Response:
        found = await json_object(request)
        _check_names(found, NewJobBody)
        wanted = checked(NewJobBody, found)
        if wanted.account and key.account not in ("", wanted.account) and key.scope is not Scope.ADMIN:
            raise ApiError(
                403, f"account: this API key is for {key.account}", code="account_not_allowed", param="account"
            )
        options = JobOptions.checked(
            datetime.now(UTC),
            delay=wanted.delay,
            not_before=_time("not_before", wanted.not_before),
            deadline=_time("deadline", wanted.deadline),
            priority=wanted.priority,
            metadata=wanted.metadata,
            webhook=await webhook_target(self._context, key, wanted.webhook),
        )
        try:
            job_id = await submit(
                self._context,
                key,
                wanted.body,
                identity_of(request),
                options=options,
                account=wanted.account,
                idempotency_key=wanted.key,
                is_announced=True,
            )
        except InvalidRequest as error:
            raise invalid(f"body.{error.field}", error.reason, error.code) from None
        return self._show(await self._found(key, job_id))

    async def retrieve(self, request: Request, key: ApiKey) -> Response:
        return self._show(await self._found(key, request.path_params["id"]))

    async def list_jobs(self, request: Request, key: ApiKey) -> Response:
        page = page_of(request)
        if page.order == "asc":
            raise invalid("order", "jobs are listed with the newest first: expected desc")
        query = request.query_params
        wanted = JobFilter.checked(
            state=query.get("state"),
            code=query.get("code"),
            model=query.get("model"),
            metadata=_metadata_of(request),
            since=_time("since", _number_or_text(query.get("since"))),
            until=_time("until", _number_or_text(query.get("until"))),
            project=_project_of(key),
        )
        after = page.after
        if after:
            # An id of another project must not be told from one that does not exist.
            await self._found(key, after)
        found = await in_thread(self._context.queue.ledger.listed, wanted, after=after, limit=page.limit + 1)
        shown = [job_object(job) for job in found[: page.limit]]
        return json_response(listing(shown, has_more=len(found) > page.limit))

    async def cancel(self, request: Request, key: ApiKey) -> Response:
        found = await self._found(key, request.path_params["id"])
        if not await in_thread(self._context.queue.ledger.cancel, found.job.id):
            raise conflict(f"job {found.job.id} has already finished: it is {found.job.state}", "invalid_state")
        return self._show(await self._found(key, found.job.id))

    async def retry(self, request: Request, key: ApiKey) -> Response:
        found = await self._found(key, request.path_params["id"])
        if not await in_thread(self._context.queue.retry_job, found.job.id):
            raise conflict(f"job {found.job.id} has not failed: it is {found.job.state}", "invalid_state")
        return self._show(await self._found(key, found.job.id))

    async def cancel_all(self, request: Request, key: ApiKey) -> Response:
        return await self._act(request, key, "cancel")

    async def retry_all(self, request: Request, key: ApiKey) -> Response:
        return await self._act(request, key, "retry")

    async def _act(self, request: Request, key: ApiKey, verb: str) -> Response:
        wanted = checked(ActionBody, await json_object(request))
        if wanted.metadata == {}:
            # A caller whose variable is empty would act on all jobs.
            raise invalid("metadata", "expected at least one pair: leave the parameter out to match all jobs")
        queue = self._context.queue
        count, act = (
            (queue.count_cancellable, queue.cancel_matching)
            if verb == "cancel"
            else (queue.count_retryable, queue.retry_matching)
        )
        jobs = JobFilter.checked(
            state=wanted.state,
            code=wanted.code,
            model=wanted.model,
            metadata=wanted.metadata,
            since=_time("since", wanted.since),
            until=_time("until", wanted.until),
            project=_project_of(key),
        )
        found = await in_thread(count if wanted.dry_run else act, jobs)
        return json_response({"object": f"job.{verb}", "count": found, "dry_run": wanted.dry_run})

    async def _found(self, key: ApiKey, job_id: str) -> Found:
        return await find(self._context, key, job_id, "job", job_id)

    def _show(self, found: Found) -> Response:
        return json_response(_with_outcome(found), headers=poll_headers(found))


def _project_of(key: ApiKey) -> str:
    """Return the project whose jobs the key lists. An admin lists those of all projects."""
    return "" if key.scope is Scope.ADMIN else key.project


def _metadata_of(request: Request) -> dict[str, str] | None:
    """Return the pairs of `metadata[tenant]=7`."""
    pairs = {
        name[len("metadata[") : -1]: value
        for name, value in request.query_params.items()
        if name.startswith("metadata[") and name.endswith("]")
    }
    return pairs or None


def routes(context: Context) -> list[BaseRoute]:
    handlers = _Jobs(context)
    return [
        endpoint(context, "POST", PATH, handlers.create),
        endpoint(context, "GET", PATH, handlers.list_jobs),
        endpoint(context, "POST", f"{PATH}/cancel", handlers.cancel_all),
        endpoint(context, "POST", f"{PATH}/retry", handlers.retry_all),
        endpoint(context, "GET", f"{PATH}/{{id}}", handlers.retrieve),
        endpoint(context, "POST", f"{PATH}/{{id}}/cancel", handlers.cancel),
        endpoint(context, "POST", f"{PATH}/{{id}}/retry", handlers.retry),
    ]
