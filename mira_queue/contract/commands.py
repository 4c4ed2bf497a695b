"""Commands to a batch: frozen values that its owner writes to the ledger, and that its supervisor carries out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import orjson

from mira_queue.contract.batch import OnChanged


@dataclass(frozen=True, slots=True)
class Pause:
    """Send nothing more until a resume."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Send again. A limit of the budget that is given replaces the old one; 0 or "" removes it; None keeps it.

    `changed` is the choice about lines whose request has changed; None keeps the old one.
    """

    max_requests: int | None = None
    max_tokens: int | None = None
    max_cost: str | None = None
    changed: OnChanged | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Send nothing more, ever. Lines that have no answer become errors."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Run failed lines again: those with one of these statuses ("402", "5xx") or codes; none given: all."""

    statuses: tuple[str, ...] = ()


Command = Pause | Resume | Cancel | Retry

_KINDS: dict[str, type[Command]] = {"pause": Pause, "resume": Resume, "cancel": Cancel, "retry": Retry}


def to_json(command: Command) -> bytes:
    """Return the same bytes for equal commands, so that a stored command can be compared with one."""
    return orjson.dumps({"command": type(command).__name__.lower(), **asdict(command)})


def from_json(text: bytes) -> Command:
    """Return the command that `to_json` wrote; fields that a newer version added are ignored."""
    found: dict[str, Any] = orjson.loads(text)
    kind = _KINDS[found["command"]]
    if kind is Retry:
        return Retry(tuple(found["statuses"]))
    return kind(**{name: value for name, value in found.items() if name in kind.__dataclass_fields__})
