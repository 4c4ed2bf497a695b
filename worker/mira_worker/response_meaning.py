"""Meaning of a response: answered, failed, rate-limited, or a fault. Pure: a response in, a value out.

docs/errors.md has the table, which is generated from this function.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson

from mira_queue.contract import errors
from mira_queue.contract.errors import InvalidResponse, JobError, ServerTimeout, ServiceFault
from mira_queue.contract.failed_answer import FAILED_ANSWER
from mira_queue.contract.outcome import Completion
from mira_queue.contract.pace import StatedWait
from mira_queue.contract.token_estimate import count
from mira_queue.contract.unicode import printable
from mira_worker.completion_body import error_in, joined_text, why_unusable
from mira_worker.error_body import ErrorFacts, facts_of, plain_text, readable
from mira_worker.event_stream import BrokenStream, assemble, is_event_stream
from mira_worker.json_body import MAX_BRACKETS, MAX_NESTING, brackets, is_deeper, parse_json
from mira_worker.redaction import Redact, redacted
from mira_worker.retry_after import stated_wait, wait_after_limit
from mira_worker.server_message import BEGINS
from mira_worker.status_table import error_kind
from mira_worker.transport import HttpResponse, NoResponse

# The body of an error is stored next to its detail, unless it is larger than a person would read.
MAX_BODY_CHARS = 64 * 1024
# Characters of a broken response in the message of its error.
MAX_SHOWN_CHARS = 1_000
MAX_REQUEST_ID_CHARS = 200
# Statuses after which the server may have done, and billed, the work. 524 is Cloudflare's 504.
_MAY_BE_BILLED = frozenset({408, 504, 524})
_REQUEST_IDS = ("x-request-id", "request-id", "x-requestid", "apim-request-id", "x-amzn-requestid", "cf-ray")
# A 403 whose text consists of these words states no reason.
_NO_REASON = re.compile(r"(?:\W|\b(?:http|error|status|403|forbidden|nginx|with an empty body)\b)*", re.IGNORECASE)
_BASE_HINT = "MIRA_API_BASE may be wrong: check the URL that it names"


@dataclass(frozen=True, slots=True)
class Failed:
    """The job has failed permanently. `usage` has the tokens that were paid for."""

    error: JobError
    usage: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RateLimited:
    """A limit of the account: no call may start before the wait has passed."""

    error: errors.RateLimited
    retry_after: StatedWait


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of the service, or a bug in the worker: the job is retried, with a limited number of attempts.

    `retry_after` is the wait that the server states; zero if it states none. `usage` has the tokens that were paid for.
    """

    error: JobError
    may_be_billed: bool
    retry_after: timedelta = timedelta(0)
    usage: Mapping[str, int] = field(default_factory=dict)


Meaning = Completion | Failed | RateLimited | Fault


def read_response(
    response: HttpResponse | NoResponse,
    now: datetime,
    redact: Redact = str,
    failed_answer: re.Pattern[str] = re.compile(FAILED_ANSWER),
) -> Meaning:
    """Return the meaning of a response's status, headers, and body. A completion has the counts of a first attempt.

    `now` is for waits that are stated as a time. `redact` is applied to everything but a completion. `failed_answer`
    matches the texts that a server sends instead of an answer.
    """
    if isinstance(response, NoResponse):
        return _cut_off(response, now, redact, failed_answer)
    if 200 <= response.status < 300:
        return _success(response, now, redact, failed_answer)
    return _error(response, response.status, parse_json(response.body), now, redact)


def _cut_off(cut: NoResponse, now: datetime, redact: Redact, failed_answer: re.Pattern[str]) -> Meaning:
    """Return the meaning of a call without a complete response. What has arrived may be enough."""
    begun = cut.begun
    if begun is not None and begun.status >= 300:
        return read_response(begun, now, redact, failed_answer)
    if begun is not None and is_event_stream(begun.headers.get("content-type", ""), begun.body):
        meaning = read_response(begun, now, redact, failed_answer)
        if not isinstance(meaning, Fault):
            return meaning
    shown = redact(plain_text(begun.body))[:MAX_SHOWN_CHARS] if begun is not None else ""
    error = type(cut.error)(f"{cut.error.detail}{BEGINS}{shown}") if shown else cut.error
    return Fault(error, cut.may_be_billed)


def _success(response: HttpResponse, now: datetime, redact: Redact, failed_answer: re.Pattern[str]) -> Meaning:
    try:
        body = _body_of(response)
    except BrokenStream as broken:
        if broken.error is None:
            return _broken(response, str(broken), broken.usage, redact)
        return _error_in_success(response, broken.error, broken.usage, now, redact)
    usage = body.get("usage") if isinstance(body, dict) else None
    if (error := error_in(body)) is not None:
        return _error_in_success(response, error, usage, now, redact)
    if why := why_unusable(body, failed_answer):
        return _broken(response, redact(why), usage, redact, body)
    choice = body["choices"][0]
    reason = choice.get("finish_reason")
    return Completion(
        text=joined_text(choice["message"].get("content")),
        finish_reason=reason if isinstance(reason, str) else None,
        usage=usage if isinstance(usage, dict) else {},
        body=body,
        latency_ms=response.latency_ms,
    )


def _body_of(response: HttpResponse) -> Any:
    """Return the JSON of a response, or of the whole stream. Raise BrokenStream."""
    if not is_event_stream(response.headers.get("content-type", ""), response.body):
        return parse_json(response.body)
    if brackets(response.body) > MAX_BRACKETS:
        raise BrokenStream("the stream contains too many objects and lists")
    try:
        body = assemble(response.body)
    except RecursionError as error:
        raise BrokenStream("the stream contains JSON that is nested too deeply") from error
    if is_deeper(body, MAX_NESTING):
        raise BrokenStream("the stream contains JSON that is nested too deeply")
    return body


def _error_in_success(response: HttpResponse, parsed: Any, usage: Any, now: datetime, redact: Redact) -> Meaning:
    """Return the meaning of an error in a 200. Its code counts as the status."""
    if is_deeper(parsed, MAX_NESTING):
        return _broken(response, "the response contains JSON that is nested too deeply", usage, redact)
    meaning = _error(response, response.status, parsed, now, redact, _paid(usage))
    if isinstance(meaning, Fault) and isinstance(meaning.error, InvalidResponse):
        has_error = isinstance(parsed, dict) and parsed.get("error")
        said = readable(response.status, b"", redacted(parsed, redact))[:MAX_SHOWN_CHARS]
        why = f"the response reports an error: {said}" if has_error else "the response contains no chat completion"
        return _broken(response, why, usage, redact, parsed)
    return meaning


def _error(
    response: HttpResponse,
    status: int,
    parsed: Any,
    now: datetime,
    redact: Redact,
    usage: Mapping[str, int] | None = None,
) -> Meaning:
    """Return the meaning of an error response."""
    parsed = redacted(parsed, redact)
    facts = facts_of(parsed)
    kind = error_kind(status, facts)
    detail = readable(response.status, response.body, parsed, redact)
    if kind is errors.ModelNotInPlan and _NO_REASON.fullmatch(detail[:MAX_SHOWN_CHARS]):
        kind = errors.Forbidden
    error = kind(
        _with_hint(detail, response, facts, kind),
        facts.status or status if status < 300 else status,
        body=_small(parsed),
        request_id=request_id(response, facts),
    )
    usage = usage or {}
    if isinstance(error, errors.RateLimited):
        return RateLimited(error, wait_after_limit(response.headers, facts.parts, now))
    if isinstance(error, ServiceFault):
        wait = stated_wait(response.headers, facts.parts, now)
        billed = status in _MAY_BE_BILLED or isinstance(error, ServerTimeout) or status < 300
        return Fault(error, billed and not usage, wait.wait if wait else timedelta(0), usage)
    return Failed(error, usage)


def _with_hint(detail: str, response: HttpResponse, facts: ErrorFacts, kind: type[JobError]) -> str:
    """Return the server's message, with the setting to check if it is one."""
    if kind is errors.Redirected:
        target = response.headers.get("location", "nowhere")
        return f"the server redirects to {target[:200]}; redirects are not followed: set MIRA_API_BASE to the final URL"
    is_path = kind is errors.NotFound or (kind is errors.RequestRejected and response.status == 405)
    if kind is errors.Forbidden or (is_path and not facts.codes):
        return f"{detail[:MAX_SHOWN_CHARS]}; {_BASE_HINT}"
    return detail


def _broken(response: HttpResponse, why: str, usage: Any, redact: Redact, body: Any = None) -> Fault:
    shown = redact(plain_text(response.body))[:MAX_SHOWN_CHARS]
    paid = _paid(usage)
    error = InvalidResponse(
        f"{why}{BEGINS}{shown}" if shown else f"{why}; it is empty",
        response.status,
        body=_small(redacted(body, redact)),
        request_id=request_id(response, ErrorFacts()),
    )
    # A server that states the usage has billed exactly that.
    return Fault(error, not paid, usage=paid)


def _paid(usage: Any) -> dict[str, int]:
    """Return the tokens in the `usage` of a response, which may hold anything."""
    names = ("prompt_tokens", "completion_tokens")
    found = {name: count(usage.get(name)) for name in names} if isinstance(usage, dict) else {}
    return found if any(found.values()) else {}


def request_id(response: HttpResponse, facts: ErrorFacts) -> str | None:
    """Return the server's name for the call, from its headers or its error, or None."""
    found = [response.headers.get(name) for name in _REQUEST_IDS]
    found += [part["request_id"] for part in facts.parts if isinstance(part.get("request_id"), str)]
    named = next(filter(None, found), None)
    return printable(named)[:MAX_REQUEST_ID_CHARS] if named else None


def _small(parsed: Any) -> Any:
    return parsed if parsed is not None and len(orjson.dumps(parsed)) <= MAX_BODY_CHARS else None
