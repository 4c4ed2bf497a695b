"""Counts: totals for /sim/stats, and calls per request for /sim/requests. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import orjson

from mira_queue.simulator.validation import Call


class Counters:
    """Counts since the start or the last reset. `requests` grows with the number of different requests."""

    def __init__(self, in_flight: int = 0) -> None:
        self.calls = 0
        self.answered = 0
        self.by_status: Counter[str] = Counter()
        self.by_refusal: Counter[str] = Counter()
        self.by_fault: Counter[str] = Counter()
        self.in_flight = self.max_in_flight = in_flight
        self.early = 0
        self.crossed = 0
        self.earliest_s = 0.0
        self.client_gone = 0
        self.requests: dict[str, RequestCount] = {}
        self.log: list[LoggedCall] = []

    def begin(self) -> None:
        self.calls += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def end(self, status: int | str) -> None:
        """Count a call that has ended with an HTTP status, or with a broken connection."""
        self.in_flight -= 1
        self.by_status[str(status)] += 1

    def request(self, call: Call, *, keep: bool) -> RequestCount:
        """Count a call of this request, and return the counts of the request."""
        if not keep:
            return RequestCount(call.last_user_content)
        digest = digest_of(call)
        count = self.requests.get(digest) or self.requests.setdefault(digest, RequestCount(call.last_user_content))
        count.calls += 1
        return count

    def log_call(self, came_s: float, word: str, *, keep: bool) -> LoggedCall:
        entry = LoggedCall(came_s, word)
        if keep:
            self.log.append(entry)
        return entry

    def totals(self) -> dict[str, Any]:
        return {
            name: len(value) if name == "requests" else value for name, value in vars(self).items() if name != "log"
        }

    def per_request(self) -> dict[str, Any]:
        by_body = {}
        by_content: dict[str, dict[str, int]] = {}
        for digest, count in self.requests.items():
            by_body[digest] = {"calls": count.calls, "answered": count.answered}
            same = by_content.setdefault(count.content, {"calls": 0, "answered": 0, "refused": 0})
            same["calls"] += count.calls
            same["answered"] += count.answered
            same["refused"] += count.refused
        return {"by_body": by_body, "by_content": by_content}

    def arrivals(self) -> dict[str, Any]:
        """Return when each content came, in seconds since the start, and the names of the accounts that sent it."""
        found: dict[str, dict[str, list[Any]]] = {}
        for count in self.requests.values():
            same = found.setdefault(count.content, {"came_s": [], "accounts": []})
            same["came_s"] += count.came_s
            same["accounts"] = sorted({*same["accounts"], *count.accounts})
        return found

    def recent(self, since_s: float) -> list[str]:
        """Return the contents of the requests that are in flight, or were at that time or later."""
        return [count.content for count in self.requests.values() if count.in_flight or count.left_s >= since_s]


@dataclass(slots=True)
class LoggedCall:
    """A call that reached the limits or an outage. Times are seconds since the simulator's start.

    `word` is "admitted", the limit that rejected the call, or the outage. `left_s` is the end of an admitted call.
    """

    came_s: float
    word: str
    left_s: float | None = None


@dataclass(slots=True)
class RequestCount:
    """Calls of one request: all, rate-limited (429), answered, and in flight; also their times and accounts."""

    content: str
    calls: int = 0
    answered: int = 0
    refused: int = 0
    in_flight: int = 0
    left_s: float = -1.0
    came_s: list[float] = field(default_factory=list)
    accounts: set[str] = field(default_factory=set)


def digest_of(call: Call) -> str:
    """Return the sha256 of the body as JSON with sorted keys and no spaces, in hex.

    A request is the same when it is repeated as a stream.
    """
    body = {name: value for name, value in call.body.items() if name != "stream"}
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
