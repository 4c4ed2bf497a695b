"""Bodies of requests about batches."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from mira_producer.gateway.files.expiry import ExpiresAfter
from mira_producer.gateway.http.json_body import Body, Whole
from mira_queue.contract.batch import ENDPOINT, OnAccountError
from mira_queue.contract.metadata import Metadata
from mira_queue.contract.webhook import MAX_URL

MIN_WINDOW, MAX_WINDOW = timedelta(hours=1), timedelta(days=30)
_WINDOW = re.compile(r"(\d{1,4})(h|d)")
# The windows in these bounds, as a pattern of the API's description.
_WINDOWS = r"^(([1-9][0-9]?|[1-6][0-9]{2}|7[01][0-9]|720)h|([1-9]|[12][0-9]|30)d)$"


def window_of(text: str) -> timedelta:
    """Return a completion window. Raises ValueError."""
    found = _WINDOW.fullmatch(text)
    window = timedelta(hours=int(found[1]) * (24 if found[2] == "d" else 1)) if found else timedelta(0)
    if not MIN_WINDOW <= window <= MAX_WINDOW:
        raise ValueError(f"expected 1h to 30d, such as 24h, got {text[:40]!r}")
    return window


def _checked_window(text: str) -> str:
    window_of(text)
    return text


def _checked_endpoint(text: str) -> str:
    if text != ENDPOINT:
        raise ValueError(f"expected {ENDPOINT}, got {text[:80]!r}")
    return text


class OwnOptions(Body):
    """Options that OpenAI does not have: those of `mira-queue submit`."""

    on_account_error: OnAccountError = "pause"
    dedupe: bool = False
    ordered: bool = False
    max_requests: Annotated[Whole, Field(ge=0)] = 0
    max_tokens: Annotated[Whole, Field(ge=0)] = 0
    max_cost: Annotated[str, Field(max_length=40)] = ""
    webhook: Annotated[str, Field(max_length=MAX_URL)] = ""


class CreateBatch(Body):
    """Body of `POST /v1/batches`."""

    input_file_id: Annotated[str, Field(max_length=200)]
    endpoint: Annotated[str, AfterValidator(_checked_endpoint), WithJsonSchema({"const": ENDPOINT})]
    completion_window: Annotated[
        str, AfterValidator(_checked_window), WithJsonSchema({"type": "string", "pattern": _WINDOWS})
    ]
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None
    mira: OwnOptions = OwnOptions()


class ResumeBatch(Body):
    """Body of `POST /v1/batches/{id}/resume`. A limit that is given replaces the old one; 0 and "" remove it."""

    max_requests: Annotated[Whole, Field(ge=0)] | None = None
    max_tokens: Annotated[Whole, Field(ge=0)] | None = None
    max_cost: Annotated[str, Field(max_length=40)] | None = None
    changed: Literal["rerun", "keep"] | None = None


class RetryBatch(Body):
    """Body of `POST /v1/batches/{id}/retry`: the statuses or codes of the lines that run again; empty: all."""

    statuses: Annotated[list[Annotated[str, Field(max_length=80)]], Field(max_length=100)] = Field(default_factory=list)
