"""Commands to a batch: frozen values that its owner writes to the ledger, and that its supervisor carries out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import orjson

from mira_queue.contract.batch import OnChanged
from mira_queue.contract.errors import NewerLedger
from mira_queue.contract.known_fields import known_fields


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


@dataclass(frozen=True, slots=True)
class Adopt:
    """Submit pending lines to another account, given by its id. A paused batch stays paused."""

    account: str


Command = Pause | Resume | Cancel | Retry | Adopt

_KINDS: dict[str, type[Command]] = {
    "pause": Pause, "resume": Resume, "cancel": Cancel, "retry": Retry, "adopt": Adopt,
}  # fmt: skip


def may_replace(command: Command, pending: Command, *, has_ended: bool) -> bool:
    """Return True if a command may replace one that was not carried out yet. If not, it has to wait for that.

    `has_ended` says whether the batch has a final status: then its supervisor carries out a retry, and nothing else.
    """
    if has_ended:
        return not isinstance(pending, Retry)
    if isinstance(pending, Cancel) or isinstance(command, Cancel):
        return isinstance(command, Cancel)
    # These contradict each other, and the later one counts. Of all others, something would be lost.
    return isinstance(command, Pause | Resume) and pending in (Pause(), Resume())


def to_json(command: Command) -> bytes:
    """Return the command as it is stored."""
    return orjson.dumps({"command": type(command).__name__.lower(), **asdict(command)})


def from_json(text: bytes) -> Command:
    """Return the command that `to_json` wrote; fields that a newer version added are ignored.

    Raises NewerLedger for a command that this version does not know.
    """
    found: dict[str, Any] = orjson.loads(text)
    kind = _KINDS.get(found["command"])
    if kind is None:
        raise NewerLedger(f"a newer mira-queue sent the command {found['command']!a}: install that version here, too")
    if kind is Retry:
        return Retry(tuple(found["statuses"]))
    return kind(**known_fields(kind, found))
