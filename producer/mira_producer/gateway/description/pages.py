"""Parameters of the query of a list."""

from __future__ import annotations

from mira_producer.gateway.description.described import Parameter
from mira_producer.gateway.http.paging import DEFAULT_LIMIT, MAX_LIMIT

AFTER = Parameter("after", "The page begins after the object with this id.")
ORDER = Parameter("order", "desc: the newest first.", {"enum": ["asc", "desc"], "default": "desc"})


def limit(most: int = MAX_LIMIT, default: int = DEFAULT_LIMIT) -> Parameter:
    return Parameter(
        "limit", "Maximum number of objects.", {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    )


PAGE = (AFTER, limit(), ORDER)
