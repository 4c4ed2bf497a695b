"""Which fault a call meets: told by a directive in its messages, or drawn by chance. Pure.

A directive stands anywhere in the text of a message:

    [[sim:KIND]]              every call of this request meets KIND
    [[sim:KINDxN]]            its first N calls do, later ones go on to the next directive, or are answered
    [[sim:KIND name=value]]   with a parameter (below)
    [[sim:slow=SECONDS]]      every call of this request takes so much longer, whatever it meets

Several are a script, read from the first message to the last: `[[sim:503x2]] [[sim:429x1 retry-after=0.2]]` is two
503, one 429, then an answer. Calls that the limits refuse use up no step of the script.

Kinds:
    400 ... 599               that status in Mira's own form; 429 is the rate limit
    rate quota concurrency busy   the four kinds of 429, each with its text and its Retry-After
    htmlNNN textNNN emptyNNN openaiNNN   status NNN (200 too) with such a body: html502, text500, empty503, html200
    moderation                422, its detail JSON in a string
    emptyobject notjson       200 with {}, 200 with something that is not JSON
    truncate                  200, cut in the middle of the body (streaming: before [DONE])
    reset close               no answer: connection reset, connection closed
    redirect                  307 to another host (to=HOST:PORT)
    huge                      200 with a body of bytes=N
    drip                      200 with a body that never ends, a byte now and then
    hang                      no answer until the client gives up
    earlyhints                interim responses (100, 102, 103), then the answer, late=SECONDS later
    ok                        answered (to let a step of a script pass)
Parameters: retry-after=TEXT (sent as it is; `missing`: none; `date:SECONDS`: as an HTTP date), to=HOST:PORT, bytes=N,
late=SECONDS.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

MARK = "[[sim:"
REFUSALS = ("rate", "quota", "concurrency", "busy")
SHAPES = ("html", "text", "empty", "openai")
BROKEN = (
    "moderation",
    "emptyobject",
    "notjson",
    "truncate",
    "reset",
    "close",
    "redirect",
    "huge",
    "drip",
    "hang",
    "earlyhints",
    "ok",
)
PARAMETERS = ("retry-after", "to", "bytes", "late")

_DIRECTIVE = re.compile(r"\[\[sim:([^\]]*)\]\]")
_STEP = re.compile(r"(?P<kind>[a-z0-9]+?)(?:x(?P<times>[1-9]\d*))?")
_STATUS = re.compile(r"(?P<shape>html|text|empty|openai|)(?P<status>[2-5]\d\d)")

Shape = Literal["detail", "html", "text", "empty", "openai"]
_NO_PARAMETERS: Mapping[str, str] = MappingProxyType({})


class FaultError(ValueError):
    """A directive or the name of a fault cannot be read; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What a call meets, `name` as the user wrote it: either `status` with `shape`, or one of BROKEN or REFUSALS."""

    name: str
    status: int | None = None
    shape: Shape = "detail"
    special: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Script:
    """The directives of one request: steps, each for so many calls (None: all that come), and extra latency."""

    steps: tuple[tuple[Fault, int | None], ...] = ()
    slow_s: float = 0.0

    def step(self, call: int) -> Fault | None:
        """The fault of this request's call number `call`, from 0."""
        for fault, times in self.steps:
            if times is None or call < times:
                return fault
            call -= times
        return None


def parse_kind(name: str, parameters: Mapping[str, str] = _NO_PARAMETERS) -> Fault:
    """The fault of that name, or a FaultError."""
    if name in REFUSALS or name in BROKEN:
        return Fault(name, special=name, parameters=parameters)
    match = _STATUS.fullmatch(name)
    if match:
        status, shape = int(match["status"]), match["shape"]
        if status == 429 and not shape:
            return Fault(name, special="rate", parameters=parameters)
        if status >= 400 or (shape and status == 200):
            return Fault(name, status=status, shape=_shape(shape), parameters=parameters)
    raise FaultError(
        f"{name!r} is no fault; there are 400 to 599, {', '.join(REFUSALS + BROKEN)}, "
        f"and a shape ({', '.join(SHAPES)}) before a status, as in html502"
    )


def _shape(name: str) -> Shape:
    match name:
        case "html" | "text" | "empty" | "openai":
            return name
    return "detail"


def parse_script(texts: Iterable[str]) -> Script:
    """The directives in these texts, in their order, or a FaultError."""
    steps: list[tuple[Fault, int | None]] = []
    slow_s = 0.0
    for text in texts:
        if text.count(MARK) != len(found := _DIRECTIVE.findall(text)):
            raise FaultError("a directive has no end: [[sim:KIND]]")
        for inside in found:
            head, *rest = inside.split() or [""]
            if head.startswith("slow="):
                slow_s += _seconds(head.removeprefix("slow="))
                continue
            match = _STEP.fullmatch(head)
            if match is None:
                raise FaultError(f"{head!r} is no directive: [[sim:KIND]], [[sim:KINDxN]] or [[sim:slow=SECONDS]]")
            times = int(match["times"]) if match["times"] else None
            steps.append((parse_kind(match["kind"], _parameters(rest)), times))
    return Script(tuple(steps), slow_s)


def _parameters(words: list[str]) -> Mapping[str, str]:
    parameters = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in PARAMETERS or not equals:
            raise FaultError(f"{word!r} is no parameter: {', '.join(PARAMETERS)}, each as name=value")
        if name == "bytes" and not (value.isascii() and value.isdigit()):
            raise FaultError(f"bytes={value}: a whole number was expected")
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
        raise FaultError(f"{text!r}: a number of seconds was expected")
    return seconds


class Chance:
    """Draws faults with the configured probabilities from a seeded source."""

    def __init__(self, rates: Mapping[str, float], source: random.Random) -> None:
        self._faults = [(parse_kind(name), rate) for name, rate in rates.items() if rate > 0]
        self._source = source

    def draw(self) -> Fault | None:
        if not self._faults:
            return None
        point = self._source.random()
        for fault, rate in self._faults:
            if point < rate:
                return fault
            point -= rate
        return None
