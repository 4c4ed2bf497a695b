"""Version of the ledger's schema: which keys there are, and what they contain.

Unknown fields are no new schema: both versions of a rolling upgrade carry them along. The version is raised only if an
older release would damage or misread the data.
"""

from __future__ import annotations

from typing import Any

import redis

from mira_queue.contract import names
from mira_queue.contract.errors import NewerLedger, QueueUnusable

SCHEMA = 1
# Zsets with the open jobs of versions before accounts and before the schema version. An empty zset does not exist.
OLD_QUEUES = ("mira:leased", "mira:waiting", "mira:queued:first", "mira:queued:normal", "mira:queued:bulk")


def check_schema(connection: Any) -> None:
    """Record our schema if the ledger is new. The connection is a new one of the client.

    Raises NewerLedger; and QueueUnusable if jobs of a version before accounts are open: no worker would see them.
    """
    found = _answer(connection, "GET", names.SCHEMA_KEY)
    if found is None:
        if _answer(connection, "EXISTS", *OLD_QUEUES) not in (b"0", b""):
            connection.disconnect()
            raise QueueUnusable(
                "the queue's server has open jobs of an older mira-queue, which knew no accounts: let workers of that "
                "version finish them, or cancel them with it; nothing was changed"
            )
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
