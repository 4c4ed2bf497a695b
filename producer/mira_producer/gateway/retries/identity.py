"""Identity of a request, from which the id of the object that it creates follows.

A retry has the identity of the request that it repeats. A handler creates its object under this id, and creating it
twice creates it once. Nothing has to be stored between the two steps: a process that is killed there loses nothing.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

_ATTRIBUTE, _WITHDRAWN = "identity", "is_withdrawn"


def new_identity() -> str:
    """Return a UUID of version 7: 48 bits of time in ms, and 74 random bits. Ids that follow from it sort by time."""
    value = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    value = value & ~(0xF << 76) | (7 << 76)
    value = value & ~(0x3 << 62) | (2 << 62)
    return str(uuid.UUID(int=value))


def identity_of(request: Request) -> str:
    """Return the identity of a request whose body has been read. It is a UUID, and the id of a job."""
    if not hasattr(request.state, _ATTRIBUTE):
        # The handler has read no body.
        setattr(request.state, _ATTRIBUTE, new_identity())
    return str(getattr(request.state, _ATTRIBUTE))


def withdraw_identity(request: Request) -> None:
    """Record that the object of a request was withdrawn because its client has gone. A retry creates another one."""
    setattr(request.state, _WITHDRAWN, True)


def is_withdrawn(state: Mapping[str, Any]) -> bool:
    """Return True if the object of a request, given by its state, was withdrawn."""
    return bool(state.get(_WITHDRAWN))
