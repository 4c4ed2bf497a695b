"""Names of request fields: catch options that are not fields, and misspelled fields, before they reach the API."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from mira_queue.contract.errors import InvalidRequest

# Source: https://platform.openai.com/docs/api-reference/chat/create; the last line: fields of other servers that
# resemble one of these.
KNOWN_FIELDS = frozenset(
    """audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages
    metadata modalities model n parallel_tool_calls prediction presence_penalty prompt_cache_key reasoning_effort
    response_format safety_identifier seed service_tier stop store stream stream_options temperature tool_choice tools
    top_logprobs top_p user verbosity web_search_options
    models
    """.split()  # noqa: SIM905
)
# A field this similar to a known one is a misspelling: `temprature` (0.95), `max_token` (0.95); `top_k` (0.8) is not.
SIMILARITY = 0.85
MAX_NAMES = 1000

_UNCHECKED = "extra_body=... (on the command line: --request FILE) sends any field unchecked"
_LATER = "to run a job later, pass delay=... or not_before=... to enqueue (on the command line: --delay TIME)"
_DEADLINE = (
    "for a job that must start before a time, pass deadline=... to enqueue (on the command line: --deadline TIME)"
)
_RETRY = "mira-queue retries by itself; MIRA_MAX_ATTEMPTS and MIRA_BACKOFF_BASE are its settings"
_TIMEOUT = (
    "set MIRA_REQUEST_TIMEOUT for the call, pass deadline=... to enqueue for its start, or wait for a limited time: "
    "job.result(timeout=...)"
)
_KEY = "mira-queue assigns the id; to enqueue a job only once, pass key=..."
_SETTING = "pass it to MiraQueue(api_key=..., api_base=...), or set MIRA_API_KEY and MIRA_API_BASE"
_NOT_A_FIELD = {
    **dict.fromkeys(("countdown", "delay", "eta", "not_before"), _LATER),
    **dict.fromkeys(("max_retries", "retries", "retry", "retry_policy"), _RETRY),
    **dict.fromkeys(("soft_time_limit", "time_limit", "timeout"), _TIMEOUT),
    **dict.fromkeys(("id", "idempotency_key", "job_id", "task_id"), _KEY),
    **dict.fromkeys(("api_base", "api_key", "base_url"), _SETTING),
    **dict.fromkeys(("deadline", "expires"), _DEADLINE),
    "priority": 'pass priority="high", "normal", or "low" to enqueue (on the command line: --priority)',
    **dict.fromkeys(
        ("queue", "routing_key"),
        "a job goes to the queue of its account: pass account=... or priority=... to enqueue (on the command line: "
        "--account, --priority)",
    ),
    "ignore_result": "the outcome is stored for MIRA_RESULT_TTL",
    "link": "wait for the job with job.result(), or poll job.status()",
    "link_error": "wait for the job with job.outcome(), or poll job.status()",
    **dict.fromkeys(("headers", "extra_headers"), "the headers of a call cannot be changed"),
}


def check_field_names(names: Iterable[str]) -> None:
    """Raise InvalidRequest for a name that is an option of a task queue or a client, or a misspelled field.

    Names that resemble nothing known pass: the API may gain fields at any time.
    """
    for name in names:
        if reason := wrong_name(name):
            hint = "" if name in _NOT_A_FIELD else f" {_UNCHECKED}"
            raise InvalidRequest(name, f"{reason}{hint}")


def wrong_name(name: str) -> str:
    """Return what is wrong with the name of a field, or an empty string."""
    if is_option(name):
        return f"not a field of a chat request: {_NOT_A_FIELD[name]}"
    close = similar_field(name)
    return f"unknown field; did you mean {close}?" if close else ""


def is_option(name: str) -> bool:
    """Return True if a name is that of an option of a task queue or a client, and of no field."""
    return name in _NOT_A_FIELD and name not in KNOWN_FIELDS


def similar_field(name: str) -> str:
    """Return the known field that a name misspells, or an empty string."""
    close = [] if name in KNOWN_FIELDS else get_close_matches(name, KNOWN_FIELDS, 1, SIMILARITY)
    return close[0] if close else ""


class WrongNames:
    """Wrong names of fields in a file: the first line of each name. The fields are sent, because an API may know them.

    After MAX_NAMES names, which no honest file has, no more are looked at.
    """

    def __init__(self) -> None:
        self.found: list[tuple[int, str, str]] = []
        self._seen: set[str] = set()

    def add(self, number: int, names: Iterable[str]) -> None:
        """Look at the names of a line's fields that are not known."""
        for name in names:
            if name in self._seen or len(self._seen) >= MAX_NAMES:
                continue
            self._seen.add(name)
            if reason := wrong_name(name):
                self.found.append((number, name, reason))

    def lines(self) -> list[str]:
        """Return a warning for each name."""
        return [f"line {number}, {name[:60]}: {reason} (sent as it is)" for number, name, reason in self.found]
