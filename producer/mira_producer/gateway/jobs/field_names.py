"""Names that are no fields of a chat request, with what a client of the HTTP API sends in their place. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from mira_producer.request_fields import is_option, similar_field
from mira_queue.contract.errors import InvalidRequest

_LATER = "POST /v1/jobs takes delay (seconds) and not_before (a time)"
_TIMEOUT = "POST /v1/jobs takes deadline, the time before which the call has to start"
_ONCE = "send the header Idempotency-Key; POST /v1/jobs also takes key"
_PRIORITY = "send service_tier (flex, priority); POST /v1/jobs takes priority (high, normal, low)"
_INSTEAD = {
    **dict.fromkeys(("countdown", "delay", "eta", "not_before"), _LATER),
    **dict.fromkeys(("deadline", "expires", "soft_time_limit", "time_limit", "timeout"), _TIMEOUT),
    **dict.fromkeys(("id", "idempotency_key", "job_id", "task_id"), _ONCE),
    **dict.fromkeys(("priority", "queue", "routing_key"), _PRIORITY),
    **dict.fromkeys(("max_retries", "retries", "retry", "retry_policy"), "the gateway retries automatically"),
    **dict.fromkeys(("link", "link_error"), "send mira.webhook, or webhook to POST /v1/jobs"),
}


def wrong_name(name: str) -> str:
    """Return what is wrong with the name of a field, or an empty string. Unknown names pass: the API may know them."""
    if is_option(name):
        instead = _INSTEAD.get(name)
        return "not a field of a chat request" + (f": {instead}" if instead else "")
    close = similar_field(name)
    return f"unknown field; did you mean {close}?" if close else ""


def check_field_names(names: Iterable[str]) -> None:
    """Raise InvalidRequest for a name that is an option of a task queue or a client, or a misspelled field."""
    for name in names:
        if reason := wrong_name(name):
            raise InvalidRequest(name, reason)
