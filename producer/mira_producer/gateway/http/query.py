"""Query of a list. A filter that is misspelled must not list everything."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request

from mira_producer.gateway.description.described import Parameter
from mira_producer.gateway.description.pages import AFTER, ORDER
from mira_producer.gateway.http.errors import invalid
from mira_queue.contract.problem import UNKNOWN_PARAMETER


def check_query(request: Request, known: Sequence[Parameter]) -> None:
    """Raise ApiError (400) for a parameter that a list does not have. Other endpoints ignore unknown parameters."""
    if AFTER not in known:
        return
    # Each list accepts its own order by this name.
    names = dict.fromkeys([*(each.name for each in known), ORDER.name])
    maps = {each.name for each in known if each.style}
    for given in request.query_params:
        name, bracket, _ = given.partition("[")
        if name not in names or bool(bracket) != (name in maps):
            raise invalid(given[:200], f"unknown parameter: expected {', '.join(names)}", UNKNOWN_PARAMETER)
