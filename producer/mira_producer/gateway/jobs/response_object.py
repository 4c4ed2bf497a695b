"""OpenAI's response object of a job. Pure.

Source: https://platform.openai.com/docs/api-reference/responses/object
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from mira_producer.gateway.jobs.job_ids import response_id
from mira_producer.gateway.jobs.usage_object import UsageObject
from mira_queue.contract.outcome import Completion, Failure, Outcome
from mira_queue.contract.states import JobState, JobStatus
from mira_queue.contract.webhook import INCOMPLETE_REASONS

_STATUSES = {
    JobState.QUEUED: "queued",
    JobState.WAITING: "queued",
    JobState.RUNNING: "in_progress",
    JobState.SUCCEEDED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
}


def is_stored(job: JobStatus) -> bool:
    """Return True if the response is to be stored after its client has received it."""
    return bool(_view(job).get("store", True))


def response_object(job: JobStatus, outcome: Outcome | None) -> dict[str, Any]:
    """Return the object. `outcome` is that of a job that has finished."""
    view = _view(job)
    completion = outcome if isinstance(outcome, Completion) else None
    reason = INCOMPLETE_REASONS.get(completion.finish_reason or "") if completion else None
    failure = outcome if isinstance(outcome, Failure) and job.state is JobState.FAILED else None
    return {
        "id": response_id(job.id),
        "object": "response",
        "created_at": job.created_ms // 1000,
        "status": "incomplete" if reason else _STATUSES[job.state],
        "background": view.get("background", True),
        "completed_at": job.finished_ms // 1000 if job.finished_ms and job.state is JobState.SUCCEEDED else None,
        "error": {"code": failure.code, "message": failure.detail} if failure else None,
        "incomplete_details": {"reason": reason} if reason else None,
        "instructions": view.get("instructions"),
        "max_output_tokens": view.get("max_output_tokens"),
        "metadata": dict(job.metadata),
        "model": _text(completion.body.get("model") if completion else None) or job.model,
        "output": output_items(job.id, completion.body) if completion else [],
        "parallel_tool_calls": view.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "reasoning": None,
        "service_tier": view.get("service_tier", "default"),
        "store": view.get("store", True),
        "temperature": view.get("temperature"),
        "text": view.get("text") or {"format": {"type": "text"}},
        "tool_choice": view.get("tool_choice", "auto"),
        "tools": view.get("tools", []),
        "top_p": view.get("top_p"),
        "truncation": "disabled",
        "usage": usage_object(completion.usage) if completion else None,
        "mira": mira_object(job),
    }


def _view(job: JobStatus) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(job.view) if job.view else {}
    return found


def mira_object(job: JobStatus) -> dict[str, Any]:
    """Return our own fields: the job, why it waits and until when, and what was spent in vain."""
    return {
        "job": job.id,
        "state": job.state,
        "waiting_for": None if job.state.is_final else job.reason,
        "waiting_until": seconds(job.due_ms),
        "attempts": job.attempts,
        "unanswered_calls": job.unanswered_calls,
    }


def seconds(unix_ms: int | None) -> int | None:
    """Return a time as OpenAI's objects have it."""
    return None if unix_ms is None else unix_ms // 1000


def usage_object(usage: Mapping[str, Any]) -> UsageObject | None:
    """Return the usage of a response; None if the server did not count."""
    if not usage:
        return None
    return {
        "input_tokens": usage.get("prompt_tokens") or 0,
        "input_tokens_details": {"cached_tokens": _detail(usage, "prompt_tokens_details", "cached_tokens")},
        "output_tokens": usage.get("completion_tokens") or 0,
        "output_tokens_details": {"reasoning_tokens": _detail(usage, "completion_tokens_details", "reasoning_tokens")},
        "total_tokens": usage.get("total_tokens") or 0,
    }


def message_id(job_id: str) -> str:
    """Return the id of the message in the output of a job."""
    return f"msg_{job_id.replace('-', '')}"


def output_items(job_id: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the items of the output: a message with the text or the refusal, and one for each call of a function."""
    choice = _first(body.get("choices"))
    message = choice.get("message")
    message = message if isinstance(message, Mapping) else {}
    status = "incomplete" if choice.get("finish_reason") in INCOMPLETE_REASONS else "completed"
    name = job_id.replace("-", "")
    content: list[dict[str, Any]] = []
    calls = message.get("tool_calls")
    calls = [call for call in calls if isinstance(call, Mapping)] if isinstance(calls, list) else []
    text = _content_text(message.get("content"))
    refusal = message.get("refusal")
    if text or not (calls or refusal):
        content.append({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
    if isinstance(refusal, str) and refusal:
        content.append({"type": "refusal", "refusal": refusal})
    items: list[dict[str, Any]] = []
    if content:
        items.append(
            {"type": "message", "id": message_id(job_id), "role": "assistant", "status": status, "content": content}
        )
    for place, call in enumerate(calls):
        function = call.get("function")
        function = function if isinstance(function, Mapping) else {}
        items.append(
            {
                "type": "function_call",
                "id": f"fc_{name}_{place}",
                "call_id": _text(call.get("id")) or f"call_{name}_{place}",
                "name": _text(function.get("name")),
                "arguments": _text(function.get("arguments")),
                "status": "completed",
            }
        )
    return items


def _first(choices: Any) -> Mapping[str, Any]:
    found = choices[0] if isinstance(choices, list) and choices else None
    return found if isinstance(found, Mapping) else {}


def _content_text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, Mapping))
    return _text(content)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _detail(usage: Mapping[str, Any], name: str, field: str) -> int:
    details = usage.get(name)
    found = details.get(field) if isinstance(details, Mapping) else None
    return found if isinstance(found, int) else 0
