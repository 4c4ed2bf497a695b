"""Version of the ledger's schema: which keys there are, and what they contain.

Unknown fields are no new schema: both versions of a rolling upgrade carry them along. The version is raised only if an
older release would damage or misread the data.
"""

from __future__ import annotations

from typing import Any

import redis

from mira_queue.contract import names
from mira_queue.contract.errors import NewerLedger

SCHEMA = 1


def connect_checked(connection: Any) -> None:
    """Set up a new connection of the client, and record our schema if the ledger is new. Raises NewerLedger."""
    connection.on_connect()
    found = _answer(connection, "GET", names.SCHEMA_KEY)
    if found is None:
        # Another process may be the first. A server that rejects writes says so at the next command.
        _answer(connection, "SET", names.SCHEMA_KEY, SCHEMA, "NX")
        return
    if found.isdigit() and int(found) > SCHEMA:
        connection.disconnect()
        raise NewerLedger(
            f"the queue's server has data of a newer mira-queue (schema {int(found)}, this version knows {SCHEMA}): "
            "install that version here, too; nothing was changed"
        )


def _answer(connection: Any, *command: Any) -> bytes | None:
    connection.send_command(*command)
    try:
        answer = connection.read_response()
    except redis.ResponseError:
        # Forbidden to this user, or rejected for now: the command that follows gets the error, and reports it.
        return b""
    return answer if isinstance(answer, bytes | None) else str(answer).encode()
