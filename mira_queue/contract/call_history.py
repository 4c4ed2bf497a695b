"""Findings of a job's earlier calls that its next call needs. They are stored with the job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import orjson

from mira_queue.contract.known_fields import all_fields, stored_fields


@dataclass(frozen=True, slots=True)
class CallHistory:
    """History of a job's calls.

    `is_streamed` is True if the server timed out without streaming (408): the next call is streamed. The tokens are
    those of responses that were paid for and could not be used. `rejections` counts consecutive 429s of the job. Before
    each of them, another job was accepted. The next three fields are counts of the account: calls that were sent and
    rate-limited when these rejections began, and calls that were accepted at the last of them.
    """

    is_streamed: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    rejections: int = 0
    sent: int = 0
    rate_limited: int = 0
    accepted: int = 0
    #: Fields of a newer version, which are written again.
    unknown: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def lost_usage(self) -> Mapping[str, int]:
        """Tokens in the form of a response's usage; empty if there are none."""
        if not self.prompt_tokens + self.completion_tokens:
            return {}
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens}

    def with_lost_usage(self, lost: Mapping[str, int]) -> Self:
        """Return the history with these lost tokens in place of its own."""
        prompt, completion = lost.get("prompt_tokens", 0), lost.get("completion_tokens", 0)
        return replace(self, prompt_tokens=prompt, completion_tokens=completion)

    def to_json(self) -> bytes:
        """Return an empty text for a history that says nothing."""
        return b"" if self == NO_HISTORY and not self.unknown else orjson.dumps(stored_fields(self))

    @classmethod
    def from_json(cls, text: bytes | None) -> Self:
        return cls(**all_fields(cls, orjson.loads(text))) if text else cls()


NO_HISTORY = CallHistory()
