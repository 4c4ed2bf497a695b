"""`expires_after`: when a file expires, as its creator wants."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mira_producer.gateway.http.json_body import Body, Whole

MIN_TTL_S, MAX_TTL_S = 3_600, 2_592_000


class ExpiresAfter(Body):
    """Time after the creation of the file."""

    anchor: Literal["created_at"]
    seconds: Annotated[Whole, Field(ge=MIN_TTL_S, le=MAX_TTL_S)]
