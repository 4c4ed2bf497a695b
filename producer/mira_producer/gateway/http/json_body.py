"""JSON bodies: read within a limit, and checked against a model."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from starlette.requests import Request

from mira_producer.gateway.http.errors import ApiError, invalid
from mira_producer.gateway.http.limits import body_pieces
from mira_queue.contract.problem import MISSING_PARAMETER, UNKNOWN_PARAMETER

# More than any chat request that the API accepts.
MAX_JSON_BYTES = 16 * 1024 * 1024
INVALID_JSON = "invalid_json"
# orjson writes 254 levels, but reads 1,024. The objects around a part of a body, such as an event, have at most these.
_LEVELS_AROUND = 16
_CODES = {"missing": MISSING_PARAMETER, "extra_forbidden": UNKNOWN_PARAMETER}
_REASONS = {"missing": "this parameter is required", "extra_forbidden": "no such parameter"}


# What every language can read from JSON, and write again.
MAX_WHOLE = 2**53 - 1


def whole(value: Any) -> Any:
    """Return a whole number that was written as 24.0 as 24. JSON does not tell the two apart."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, Field(le=MAX_WHOLE)]


class Body(BaseModel):
    """Base class of request bodies. A misspelled parameter is an error, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        return whole(value)


class Empty(Body):
    """A body without parameters."""


BodyT = TypeVar("BodyT", bound=Body)


async def json_bytes(request: Request, max_bytes: int = MAX_JSON_BYTES) -> bytes:
    """Return the complete body. An empty one is an empty object: SDKs send none with a JSON content type."""
    return b"".join([piece async for piece in body_pieces(request, max_bytes)]) or b"{}"


async def json_object(request: Request, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Return the body as an object. Raises ApiError."""
    try:
        found = orjson.loads(await json_bytes(request, max_bytes))
    except orjson.JSONDecodeError as error:
        raise invalid(None, f"the body is not JSON: {error}", INVALID_JSON) from None
    if not isinstance(found, dict):
        raise invalid(None, "the body is not a JSON object", INVALID_JSON)
    _check_depth(found)
    return found


async def json_body(request: Request, model: type[BodyT]) -> BodyT:
    """Return the body as a model. Raises ApiError, which names the first wrong parameter."""
    return checked(model, await json_object(request))


def checked(model: type[BodyT], found: dict[str, Any]) -> BodyT:
    try:
        # Back to JSON, whose mode of checking knows no tuples and enums. Bodies with a model are small.
        return model.model_validate_json(orjson.dumps(found))
    except ValidationError as error:
        raise _first(error) from None


def _check_depth(found: Any) -> None:
    """Raise ApiError for a body that could be read, but not written again."""
    for _ in range(_LEVELS_AROUND):
        found = [found]
    try:
        orjson.dumps(found)
    except orjson.JSONEncodeError:
        raise invalid(None, "the body has too many levels of objects and arrays", INVALID_JSON) from None


def _first(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False, include_input=False)[0]
    kind = first["type"]
    reason = _REASONS.get(kind) or str(first["msg"]).removeprefix("Value error, ")
    return invalid(param_of(first["loc"]) or None, reason, _CODES.get(kind, "invalid_value"))


def param_of(path: tuple[int | str, ...]) -> str:
    """Return the path of a parameter as OpenAI writes it: `tools[0].function`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
