"""Objects that several resources have. A type checker compares them with what handlers return; the API's description
has them, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeVar

from typing_extensions import TypedDict

T = TypeVar("T", bound=Mapping[str, Any])


class Listing(TypedDict, Generic[T]):
    """A page of a list. The next one begins after `last_id`, if `has_more`."""

    object: Literal["list"]
    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(TypedDict):
    """An object that was deleted."""

    id: str
    object: str
    deleted: Literal[True]


class ErrorDetail(TypedDict):
    """An error. `code` is for programs, `message` for people. `param` names the wrong parameter."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorObject(TypedDict):
    """Body of every error."""

    error: ErrorDetail
