"""One call that has passed the checks, with everything that its response needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from mira_queue.simulator import wire
from mira_queue.simulator.replies import Reply
from mira_queue.simulator.state import Account, State
from mira_queue.simulator.validation import Call


@dataclass(slots=True)
class Exchange:
    """A call, its request, and the headers of every complete response to it."""

    state: State
    request: web.BaseRequest
    account: Account
    call: Call
    raw: bytes
    headers: Mapping[str, str]

    @property
    def is_mira(self) -> bool:
        return self.state.config.backend == "mira"

    def send(self, reply: Reply, outcome: wire.Outcome | None = None) -> wire.Response:
        return wire.send(reply.with_headers(self.headers), outcome)

    def leak(self) -> None:
        """Leave the slot of this call in use, if slots leak."""
        self.account.limits.leak(self.state.config)
