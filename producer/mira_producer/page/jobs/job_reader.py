"""One job as the page shows it: everything that is known of it, in a few round trips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from mira_producer.client import MiraQueue
from mira_producer.cost.prices import Prices
from mira_producer.cost.usage import Usage, lost_usage, usage_of_answer
from mira_producer.engine.wait_reason import message_text, reason_of
from mira_producer.gateway.jobs.job_ids import completion_id, response_id
from mira_producer.gateway.jobs.project_key import key_of
from mira_producer.gateway.jobs.single_jobs import kind_of
from mira_producer.page.visitor import Audience
from mira_queue.contract.batch import Batch
from mira_queue.contract.errors import JobNotFound
from mira_queue.contract.outcome import Completion, Outcome
from mira_queue.contract.states import JobState, JobStatus
from mira_queue.contract.timeline import TimelineEvent
from mira_queue.contract.webhook import ENDPOINTS_ONLY, is_endpoint_id
from mira_queue.ledger.job_details import JobDetails

# Characters of an answer, or of a message of the request, on the page. The download has all.
MAX_SHOWN = 20_000


@dataclass(frozen=True, slots=True)
class Wait:
    """Why an open job has not finished, until when at least (Unix milliseconds), and what the server said."""

    text: str = ""
    until_ms: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class JobPage:
    """A job as the page shows it. `usage` is that of its outcome. `batch` is that of a line of a file."""

    job: JobStatus
    details: JobDetails
    timeline: Sequence[TimelineEvent]
    outcome: Outcome | None
    usage: Usage
    wait: Wait
    batch: Batch | None

    @property
    def key(self) -> str:
        """The idempotency key as its creator gave it. That of a line of a file has no meaning for people."""
        return "" if self.details.group else key_of(self.job)

    @property
    def openai_id(self) -> str:
        """The ID of the object of OpenAI's API that the job was created as, or an empty string."""
        of = {"response": response_id, "chat.completion": completion_id}.get(kind_of(self.job))
        return of(self.job.id) if of else ""

    @property
    def webhook(self) -> str:
        """The host of the job's own webhook, or the ID of an endpoint: a URL may contain a secret."""
        target = self.details.webhook
        if target == ENDPOINTS_ONLY:
            return ""
        return target if is_endpoint_id(target) else urlsplit(target).hostname or ""

    @property
    def is_cancellable(self) -> bool:
        return not self.job.state.is_final and not self.details.group

    @property
    def is_retryable(self) -> bool:
        return self.job.state is JobState.FAILED and not self.details.group

    @property
    def answer(self) -> str:
        """The text of the answer, or its message as JSON if it has no text."""
        if not isinstance(self.outcome, Completion):
            return ""
        return self.outcome.text or _message_of(self.outcome.body)


def read_job(queue: MiraQueue, audience: Audience, job_id: str, prices: Prices, *, with_request: bool) -> JobPage:
    """Return a job that these users see. Raises JobNotFound."""
    ledger = queue.ledger
    details = ledger.details(job_id, with_request=with_request)
    job = details.status
    batch = _batch_of(queue, details)
    if not audience.sees(batch.origin.project if batch else job.project):
        raise JobNotFound(job_id)
    outcome = queue.outcome_now(job_id) if job.state.is_final else None
    usage = lost_usage(job.lost_usage)
    if isinstance(outcome, Completion):
        usage += usage_of_answer(outcome.usage)
    model = str(outcome.body.get("model")) if isinstance(outcome, Completion) else ""
    wait = Wait() if job.state.is_final else _wait_of(queue, job)
    return JobPage(job, details, ledger.timeline(job_id), outcome, usage.priced(prices, model, job.model), wait, batch)


def messages_of(request: bytes) -> list[tuple[str, str]]:
    """Return the role and the content of each message of a request, and then its other fields as JSON."""
    body: dict[str, Any] = orjson.loads(request)
    messages = [each for each in body.pop("messages", []) if isinstance(each, dict)]
    found = [(str(each.get("role", "")), _text_of(each)) for each in messages]
    return [*found, ("other fields", _json(body))]


def _text_of(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str) and message.keys() <= {"role", "content"}:
        return content
    return _json({name: value for name, value in message.items() if name != "role"})


def _message_of(body: Any) -> str:
    try:
        return _json(body["choices"][0]["message"])
    except (KeyError, IndexError, TypeError):
        return _json(body)


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _batch_of(queue: MiraQueue, details: JobDetails) -> Batch | None:
    if not details.group:
        return None
    return next((batch for batch in queue.ledger.batches() if batch.group == details.group), None)


def _wait_of(queue: MiraQueue, job: JobStatus) -> Wait:
    if job.state is JobState.WAITING:
        return Wait(job.reason or "", job.due_ms)
    view = queue.ledger.pace_view(job.account)
    if not view.workers:
        return Wait(queue.no_worker(job.account))
    reason = reason_of(view, 1, configured=queue.settings.configured_limits)
    if reason.kind == "worker":
        # It starts at this moment.
        return Wait()
    until_ms = view.now_ms + reason.wait.total_seconds() * 1000 if reason.wait else None
    return Wait(reason.words, until_ms, message_text(reason))
