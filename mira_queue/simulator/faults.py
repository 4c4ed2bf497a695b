"""Faults of the simulated API: requested by a directive in a message, or drawn at random. Pure.

A directive can be anywhere in the text of a message:

    [[sim:KIND]]              every call of this request gets the fault KIND
    [[sim:KINDxN]]            its first N calls get KIND; later calls get the next directive, or an answer
    [[sim:KIND name=value]]   with a parameter (see below)
    [[sim:slow=SECONDS]]      every call of this request takes this much longer

Several directives are a script, in the order of the text. `[[sim:503x2]] [[sim:429x1 retry-after=0.2]]` gives two 503,
one 429, then an answer. Calls that a limit rejects do not advance the script.

Kinds:
    400 ... 599               this status in Mira's own form (late=SECONDS: after this time); 429 is the rate limit
    rate quota concurrency busy   the four kinds of 429, each with its message and its Retry-After
    htmlNNN textNNN emptyNNN openaiNNN   status NNN (or 200) with such a body: html502, text500, empty503, html200
    moderation                422, its detail JSON in a string
    modelerror modelbreak modelempty   200 of Mira's backend when the model fails, stops partway, or says nothing
    emptyobject notjson       200 with {}, 200 with a body that is not JSON
    truncate                  200, the body cut in the middle (streaming: before [DONE])
    reset close               no response: the connection is reset, or closed
    redirect                  307 to another host (to=HOST:PORT)
    huge                      200 with a large body (bytes=N)
    drip                      200 with a body that never ends, one byte at a time
    hang                      no response until the client disconnects
    earlyhints                interim responses (100, 102, 103), then the answer after late=SECONDS
    ok                        an answer (to skip a step of a script)
Parameters: retry-after=TEXT (sent unchanged; `missing`: no header; `date:SECONDS`: as an HTTP date), to=HOST:PORT,
bytes=N, late=SECONDS.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType
from typing import Literal, cast

MARK = "[[sim:"
LIMITS = ("rate", "quota", "concurrency", "busy")
BROKEN = ("truncate", "reset", "close", "huge", "drip", "hang")
MODEL = ("modelerror", "modelbreak", "modelempty")
SPECIAL = ("moderation", *MODEL, "emptyobject", "notjson", "redirect", *BROKEN, "earlyhints", "ok")
PARAMETERS = ("retry-after", "to", "bytes", "late")

_DIRECTIVE = re.compile(r"\[\[sim:([^\]]*)\]\]")
_STEP = re.compile(r"(?P<kind>[a-z0-9]+?)(?:x(?P<times>[1-9]\d*))?")
_STATUS = re.compile(r"(?P<shape>html|text|empty|openai|)(?P<status>[2-5]\d\d)")
_NO_PARAMETERS: Mapping[str, str] = MappingProxyType({})

Shape = Literal["detail", "html", "text", "empty", "openai"]


class FaultError(ValueError):
    """A directive or the name of a fault is not valid. The message says what is expected."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, `name` as the user wrote it: either `status` with `shape`, or one of SPECIAL or LIMITS."""

    name: str
    status: int | None = None
    shape: Shape = "detail"
    special: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Script:
    """Directives of one request: steps, each for a number of calls (None: for all), and extra latency."""

    steps: tuple[tuple[Fault, int | None], ...] = ()
    slow_s: float = 0.0

    def step(self, call: int) -> Fault | None:
        """Return the fault of call number `call` of this request, counted from 0."""
        for fault, times in self.steps:
            if times is None or call < times:
                return fault
            call -= times
        return None


def parse_kind(name: str, parameters: Mapping[str, str] = _NO_PARAMETERS) -> Fault:
    """Return the fault of this name. Raise FaultError if there is none."""
    if name in LIMITS or name in SPECIAL:
        return Fault(name, special=name, parameters=parameters)
    if name == "429":
        return Fault(name, special="rate", parameters=parameters)
    if match := _STATUS.fullmatch(name):
        status, shape = int(match["status"]), match["shape"]
        if status >= 400 or (shape and status == 200):
            return Fault(name, status=status, shape=cast("Shape", shape or "detail"), parameters=parameters)
    raise FaultError(
        f"{name!r} is not a fault: expected 400 to 599, {', '.join(LIMITS + SPECIAL)}, "
        "or a status after html, text, empty or openai, such as html502"
    )


def parse_script(texts: Iterable[str]) -> Script:
    """Return the directives in these texts, in their order. Raise FaultError if one is not valid."""
    steps: list[tuple[Fault, int | None]] = []
    slow_s = 0.0
    for text in texts:
        if text.count(MARK) != len(found := _DIRECTIVE.findall(text)):
            raise FaultError("a directive does not end: expected [[sim:KIND]]")
        for inside in found:
            head, *rest = inside.split() or [""]
            if head.startswith("slow="):
                slow_s += _seconds(head.removeprefix("slow="))
                continue
            match = _STEP.fullmatch(head)
            if match is None:
                raise FaultError(f"{head!r}: expected [[sim:KIND]], [[sim:KINDxN]] or [[sim:slow=SECONDS]]")
            times = int(match["times"]) if match["times"] else None
            steps.append((parse_kind(match["kind"], _parameters(rest)), times))
    return Script(tuple(steps), slow_s)


def _parameters(words: list[str]) -> Mapping[str, str]:
    parameters = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in PARAMETERS or not equals:
            raise FaultError(f"{word!r} is not a parameter: expected {', '.join(PARAMETERS)}, as name=value")
        if name == "bytes" and not (value.isascii() and value.isdigit()):
            raise FaultError(f"bytes={value}: expected a whole number")
        if name == "late":
            _seconds(value)
        if name == "retry-after" and value.startswith("date:"):
            _seconds(value.removeprefix("date:"))
        parameters[name] = value
    return parameters


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise FaultError(f"{text!r}: expected a number of seconds")
    return seconds


class RandomFaults:
    """Draws faults at random, with the configured probabilities."""

    def __init__(self, probabilities: Mapping[str, float], source: random.Random) -> None:
        self._faults = [*map(parse_kind, probabilities), None]
        self._weights = [*accumulate(probabilities.values()), 1.0]
        self._source = source

    def draw(self) -> Fault | None:
        return self._source.choices(self._faults, cum_weights=self._weights)[0] if len(self._faults) > 1 else None
