"""The filter of the list of jobs, as its form and its URL have it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Self

from starlette.datastructures import ImmutableMultiDict

from mira_producer.time_text import parse_time
from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.job_filter import JobFilter
from mira_queue.contract.metadata import MAX_METADATA
from mira_queue.contract.states import JobState

OPEN = "open"
STATES = (OPEN, *JobState)
MAX_CHARS = 600


@dataclass(frozen=True, slots=True)
class FilterForm:
    """The texts of the form. `state` is OPEN or a JobState, and `metadata` has pairs such as tenant=7."""

    state: str = ""
    code: str = ""
    model: str = ""
    project: str = ""
    since: str = ""
    until: str = ""
    metadata: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: ImmutableMultiDict[str, str]) -> Self:
        """Return the filter in the query of a URL, or in a form."""
        texts = {
            each.name: given.get(each.name, "").strip()[:MAX_CHARS] for each in fields(cls) if each.name != "metadata"
        }
        pairs = [text for each in given.getlist("metadata") if (text := each.strip()[:MAX_CHARS])]
        return cls(**texts, metadata=tuple(pairs[: MAX_METADATA + 1]))

    @property
    def query(self) -> dict[str, Any]:
        """The filter as the query of a URL, without the parts that are empty."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name))}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The same as the fields of a form."""
        return [
            (name, text)
            for name, value in self.query.items()
            for text in (value if isinstance(value, tuple) else (value,))
        ]

    @property
    def only_open(self) -> bool:
        return self.state == OPEN

    def wanted(self, project: str, now: datetime) -> JobFilter:
        """Return the filter for a user of this project; an empty one may choose. Raises InvalidRequest."""
        return JobFilter.checked(
            state=None if self.only_open else self.state or None,
            code=self.code or None,
            model=self.model or None,
            metadata=_metadata(self.metadata),
            since=_time("since", self.since, now),
            until=_time("until", self.until, now),
            project=project or self.project,
        )

    def fixed(self, now: datetime) -> Self:
        """Return the filter with absolute times, for jobs that were accepted before `now`. Raises InvalidRequest."""
        until = _time("until", self.until, now) or now
        since = _time("since", self.since, now)
        return replace(self, since=since.isoformat() if since else "", until=min(until, now).isoformat())


# Fields of the query.
FIELDS = frozenset(each.name for each in fields(FilterForm))


def _metadata(pairs: tuple[str, ...]) -> Mapping[str, str]:
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise InvalidRequest("metadata", f"expected a pair such as tenant=7, got {pair[:80]!a}")
        found[key.strip()] = value.strip()
    return found


def _time(name: str, text: str, now: datetime) -> datetime | None:
    try:
        return parse_time(text, now, is_past=True, zone=UTC) if text else None
    except ValueError as error:
        raise InvalidRequest(name, str(error)) from None
