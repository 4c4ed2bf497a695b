"""`/v1/jobs`: single jobs with the options that OpenAI's formats cannot express."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from typing_extensions import TypedDict

from mira_producer.gateway.context import Context
from mira_producer.gateway.description.described import Described, Parameter
from mira_producer.gateway.description.pages import AFTER, limit
from mira_producer.gateway.endpoints import endpoint
from mira_producer.gateway.http.errors import ApiError, conflict, invalid, not_found
from mira_producer.gateway.http.json_body import Body, Empty, checked, json_body, json_object
from mira_producer.gateway.http.objects import Listing
from mira_producer.gateway.http.paging import listing, page_of
from mira_producer.gateway.http.responses import json_response
from mira_producer.gateway.http.threads import in_thread
from mira_producer.gateway.jobs.chat_objects import ChatBody
from mira_producer.gateway.jobs.field_names import wrong_name
from mira_producer.gateway.jobs.job_object import FinishedJobObject, JobObject, job_object, with_outcome
from mira_producer.gateway.jobs.single_jobs import Found, find, poll_headers, submit
from mira_producer.gateway.key_limits import explained, limits_of
from mira_producer.gateway.retries.identity import identity_of
from mira_producer.gateway.webhook_target import webhook_target
from mira_queue.contract.api_key import ApiKey, Scope
from mira_queue.contract.errors import InvalidRequest, JobNotFound
from mira_queue.contract.job_filter import JobFilter
from mira_queue.contract.job_options import MAX_DELAY, JobOptions, Priority
from mira_queue.contract.metadata import Metadata
from mira_queue.contract.problem import UNKNOWN_PARAMETER
from mira_queue.contract.project_limits import NO_LIMITS, ProjectLimits
from mira_queue.contract.states import JobState
from mira_queue.contract.webhook import digest_of_identity
from mira_queue.ledger.listed_jobs import Place

PATH = "/v1/jobs"
# A time: Unix seconds, or an ISO time with a zone.
Time = int | float | str


def _checked_object(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    return value


class NewJobBody(Body):
    """A job: the body of its chat request, and its options."""

    # The same check as of any other job follows. It costs less, and its errors are the same.
    body: Annotated[dict[str, Any], PlainValidator(_checked_object, json_schema_input_type=ChatBody)]
    key: str = ""
    delay: Annotated[float, Field(ge=0, le=MAX_DELAY.total_seconds())] | None = None
    not_before: Time | None = None
    deadline: Time | None = None
    priority: Priority | None = None
    metadata: Metadata | None = None
    account: str = ""
    webhook: str = ""


class ActionBody(Body):
    """Which jobs an action concerns. With `dry_run`, they are only counted.

    An empty value is an error: a caller whose variable is empty would act on all jobs.
    """

    state: JobState | None = None
    code: Annotated[str, Field(min_length=1)] | None = None
    model: Annotated[str, Field(min_length=1)] | None = None
    metadata: Annotated[Metadata, Field(min_length=1)] | None = None
    since: Time | None = None
    until: Time | None = None
    dry_run: bool = False


class ActionResult(TypedDict):
    """How many jobs an action concerned."""

    object: str
    count: int
    dry_run: bool


CREATE = Described("create_job", "Accept a job.", FinishedJobObject, NewJobBody, errors=(404,), polled=True)
RETRIEVE = Described("retrieve_job", "Return a job, with its outcome.", FinishedJobObject, polled=True)
LIST = Described(
    "list_jobs",
    "List recent jobs, the newest first.",
    Listing[JobObject],
    query=(
        AFTER,
        limit(),
        Parameter("state", "Only jobs in this state.", {"enum": list(JobState)}),
        Parameter("model", "Only jobs for this model.", {"type": "string", "minLength": 1}),
        Parameter("until", "Only jobs that were accepted before then, in the form of `since`."),
        Parameter("code", "Only jobs that have failed with this code.", {"type": "string", "minLength": 1}),
        Parameter("since", "Only jobs that were accepted since then: Unix seconds, or an ISO time with a zone."),
        Parameter(
            "metadata",
            "Only jobs with these pairs: `metadata[tenant]=7`.",
            TypeAdapter(Metadata).json_schema(),
            style="deepObject",
        ),
    ),
    errors=(404,),
)
CANCEL = Described("cancel_job", "Cancel a job.", FinishedJobObject, Empty, errors=(409,))
RETRY = Described("retry_job", "Run a failed job again.", FinishedJobObject, Empty, errors=(409,))
CANCEL_ALL = Described("cancel_jobs", "Cancel all jobs that match.", ActionResult, ActionBody)
RETRY_ALL = Described("retry_jobs", "Run all failed jobs that match again.", ActionResult, ActionBody)


def _time(name: str, value: Time | None) -> datetime | None:
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        found = None
    if found is None or found.tzinfo is None:
        raise invalid(name, "expected Unix seconds, or an ISO time with a zone, such as 2030-01-31T18:00:00Z")
    return found


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
        after = await in_thread(self._place_of, key, page.after) if page.after else None
        found = await in_thread(self._context.queue.ledger.listed_after, wanted, after, page.limit + 1)
        shown = [job_object(job) for job in found[: page.limit]]
        return json_response(listing(shown, has_more=len(found) > page.limit))

    async def cancel(self, request: Request, key: ApiKey) -> Response:
        await json_body(request, Empty)
        found = await self._found(key, request.path_params["id"])
        if not await in_thread(self._context.queue.ledger.cancel, found.job.id):
            raise conflict(f"job {found.job.id} has already finished: it is {found.job.state}", "invalid_state")
        return self._show(await self._found(key, found.job.id))

    async def retry(self, request: Request, key: ApiKey) -> Response:
        await json_body(request, Empty)
        found = await self._found(key, request.path_params["id"])
        if not await in_thread(self._retry, key, found.job.id):
            raise conflict(f"job {found.job.id} has not failed: it is {found.job.state}", "invalid_state")
        return self._show(await self._found(key, found.job.id))

    async def cancel_all(self, request: Request, key: ApiKey) -> Response:
        return await self._act(request, key, "cancel")

    async def retry_all(self, request: Request, key: ApiKey) -> Response:
        return await self._act(request, key, "retry")

    async def _act(self, request: Request, key: ApiKey, verb: Literal["cancel", "retry"]) -> Response:
        wanted = checked(ActionBody, await json_object(request))
        queue = self._context.queue
        count = queue.count_cancellable if verb == "cancel" else queue.count_retryable
        jobs = JobFilter.checked(
            state=wanted.state,
            code=wanted.code,
            model=wanted.model,
            metadata=wanted.metadata,
            since=_time("since", wanted.since),
            until=_time("until", wanted.until),
            project=_project_of(key),
        )

        def act() -> int:
            if wanted.dry_run:
                return count(jobs)
            if verb == "cancel":
                return queue.cancel_matching(jobs)
            with explained(key, lambda: queue.ledger.usage_of(key.project)):
                return queue.retry_matching(jobs, _limits_of_retry(key))

        found = await in_thread(act)
        return json_response(ActionResult(object=f"job.{verb}", count=found, dry_run=wanted.dry_run))

    def _place_of(self, key: ApiKey, job_id: str) -> Place:
        """Return the place after which a page begins, also if the job was deleted. Raises ApiError."""
        ledger = self._context.queue.ledger
        with suppress(JobNotFound):
            job = ledger.status(job_id)
            # An id of another project must not be told from one that does not exist.
            if key.sees(job.project):
                return job.created_ms, job_id
        deleted = ledger.deleted(digest_of_identity(job_id))
        if deleted is None or not key.sees(deleted.project):
            raise not_found("job", job_id, "after")
        return deleted.created, job_id

    def _retry(self, key: ApiKey, job_id: str) -> bool:
        queue = self._context.queue
        with explained(key, lambda: queue.ledger.usage_of(key.project)):
            return queue.retry_job(job_id, _limits_of_retry(key))

    async def _found(self, key: ApiKey, job_id: str) -> Found:
        return await find(self._context, key, job_id, "job", job_id)

    def _show(self, found: Found) -> Response:
        return json_response(with_outcome(found), headers=poll_headers(found))


def _project_of(key: ApiKey) -> str:
    """Return the project whose jobs the key lists. An admin lists those of all projects."""
    return "" if key.scope is Scope.ADMIN else key.project


def _limits_of_retry(key: ApiKey) -> ProjectLimits:
    # An admin also retries the jobs of other projects, which its limits do not concern.
    return NO_LIMITS if key.scope is Scope.ADMIN else limits_of(key)


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
        endpoint(context, "POST", PATH, handlers.create, CREATE),
        endpoint(context, "GET", PATH, handlers.list_jobs, LIST),
        endpoint(context, "POST", f"{PATH}/cancel", handlers.cancel_all, CANCEL_ALL),
        endpoint(context, "POST", f"{PATH}/retry", handlers.retry_all, RETRY_ALL),
        endpoint(context, "GET", f"{PATH}/{{id}}", handlers.retrieve, RETRIEVE),
        endpoint(context, "POST", f"{PATH}/{{id}}/cancel", handlers.cancel, CANCEL),
        endpoint(context, "POST", f"{PATH}/{{id}}/retry", handlers.retry, RETRY),
    ]
