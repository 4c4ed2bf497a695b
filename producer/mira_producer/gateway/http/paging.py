"""Pages of lists. Ids sort in the order of their objects, so the next page needs no object of the last one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from starlette.requests import Request

from mira_producer.gateway.http.errors import invalid
from mira_producer.gateway.http.objects import Listing
from mira_producer.gateway.http.whole_number import whole_number

T = TypeVar("T")
ObjectT = TypeVar("ObjectT", bound=Mapping[str, Any])
MAX_LIMIT = 100
DEFAULT_LIMIT = 20


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: at most `limit` objects after the one with the id `after`. `order` desc: the newest first."""

    after: str = ""
    limit: int = DEFAULT_LIMIT
    order: Literal["asc", "desc"] = "desc"


def page_of(request: Request, *, max_limit: int = MAX_LIMIT, default_limit: int = DEFAULT_LIMIT) -> Page:
    """Return the page that a request names. Raises ApiError."""
    query = request.query_params
    limit = whole_number("limit", query.get("limit", str(default_limit)), 1, max_limit)
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise invalid("order", f"expected asc or desc, got {order[:40]!r}")
    return Page(query.get("after", ""), limit, "asc" if order == "asc" else "desc")


def cut(items: Sequence[T], page: Page, place_of: Callable[[T], Any], after: Any = None) -> tuple[list[T], bool]:
    """Return the items of a page, and whether there are more.

    `place_of` returns an item's place in the order, and `after` is the place after which the page begins, or None. No
    item needs to be there: it may have been deleted since the last page.
    """
    backward = page.order == "desc"
    ordered = sorted(items, key=place_of, reverse=backward)
    if after is not None:
        ordered = [item for item in ordered if (place_of(item) < after if backward else place_of(item) > after)]
    return ordered[: page.limit], len(ordered) > page.limit


def listing(objects: Sequence[ObjectT], *, has_more: bool) -> Listing[ObjectT]:
    """Return OpenAI's list object."""
    return {
        "object": "list",
        "data": list(objects),
        "first_id": objects[0]["id"] if objects else None,
        "last_id": objects[-1]["id"] if objects else None,
        "has_more": has_more,
    }
