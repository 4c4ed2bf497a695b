"""Ids of a job in OpenAI's objects. A response and a chat completion have the id of their job in another form."""

from __future__ import annotations

import re

_RESPONSE, _COMPLETION = "resp_", "chatcmpl-"
_HEX = re.compile(r"([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})")


def response_id(job_id: str) -> str:
    return _RESPONSE + job_id.replace("-", "")


def completion_id(job_id: str) -> str:
    return _COMPLETION + job_id.replace("-", "")


def job_of(an_id: str, prefix: str) -> str:
    """Return the job's id, or an empty string if the id has another form."""
    found = _HEX.fullmatch(an_id.removeprefix(prefix)) if an_id.startswith(prefix) else None
    return "-".join(found.groups()) if found else ""


def job_of_response(an_id: str) -> str:
    return job_of(an_id, _RESPONSE)


def job_of_completion(an_id: str) -> str:
    return job_of(an_id, _COMPLETION)
