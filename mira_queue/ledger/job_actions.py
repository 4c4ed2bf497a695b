"""Progress of actions on many jobs, such as a retry of all that have failed, as every gateway shows it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Literal, Self

import orjson

from mira_queue.contract import names
from mira_queue.contract.known_fields import known_fields
from mira_queue.ledger.script_runner import ScriptRunner, in_ms

Verb = Literal["cancel", "retry"]


@dataclass(frozen=True, slots=True)
class JobAction:
    """Action on `total` jobs, of which `handled` were handled and `changed` are cancelled, or queued again.

    `project` is that of its user, or empty for a user who sees all projects. `query` is the filter in the URL of the
    list. `stopped` is why it ended early. Times are Unix milliseconds of the gateway: it writes often, so an action
    that has not ended and was not written for long belongs to a gateway that has crashed.
    """

    id: str
    verb: Verb
    user: str
    project: str
    query: str
    total: int
    started_ms: int
    written_ms: int
    handled: int = 0
    changed: int = 0
    has_ended: bool = False
    stopped: str = ""

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        return cls(**known_fields(cls, orjson.loads(text)))


def new_action_id() -> str:
    return f"act_{uuid.uuid4().hex}"


class JobActions(ScriptRunner):
    """Operations of gateways."""

    def begin_job_action(self, action: JobAction) -> bool:
        """Store a new action. Return False if it has begun already."""
        ttl_ms = in_ms(names.JOB_ACTION_TTL)
        return bool(self._client.set(names.job_action_key(action.id), orjson.dumps(action), px=ttl_ms, nx=True))

    def write_job_action(self, action: JobAction) -> None:
        """Store the progress of an action."""
        self._client.set(names.job_action_key(action.id), orjson.dumps(action), px=in_ms(names.JOB_ACTION_TTL))

    def job_action(self, action_id: str) -> JobAction | None:
        """Return an action, or None if it has expired, or never existed."""
        found: Any = self._client.get(names.job_action_key(action_id))
        return JobAction.from_json(found) if found else None
