"""Check that the queue's server can be used, before anything depends on it."""

from __future__ import annotations

from typing import Any

import redis

from mira_queue.contract.errors import QueueUnusable
from mira_queue.contract.permissions import acl_rules, needed
from mira_queue.contract.server_url import parse_server_url
from mira_queue.contract.unicode import printable
from mira_queue.ledger.connection import connect

_MAX_SHOWN = 3


def check_usable(url: str) -> None:
    """Raise QueueUnusable for a cluster, a wrong password, or a user that lacks a permission.

    Raises QueueUnavailable if the server does not respond.
    """
    with connect(url) as client:
        refused = forbidden(client, parse_server_url(url).db)
    if refused:
        raise QueueUnusable(": ".join(permission_problem(refused, url)))


def permission_problem(refused: list[str], url: str) -> tuple[str, str]:
    """Return what the server forbids, and the rules that allow it."""
    server = parse_server_url(url)
    user = server.login.get("username", "default")
    more = f" and {len(refused) - _MAX_SHOWN} more" if len(refused) > _MAX_SHOWN else ""
    shown = ", ".join(printable(command) for command in refused[:_MAX_SHOWN])
    fix = f"on the queue's server, run ACL SETUSER {user} {acl_rules(server.db)}"
    return f"the server forbids its user {user}: {shown}{more}", fix


def forbidden(client: redis.Redis, db: int) -> list[str]:
    """Return the commands that this user may not run, of all that mira-queue needs.

    They are queued in a transaction that is discarded: the server checks permissions when it queues a command.
    """
    commands = needed(db)
    # The first command connects, with the client's patience.
    client.ping()
    connection: Any = client.connection_pool.get_connection()
    try:
        # Alone: without a transaction, the commands would run.
        connection.send_command("MULTI")
        if isinstance(_answer(connection), redis.ResponseError):
            return ["MULTI"]
        connection.send_packed_command(connection.pack_commands(commands))
        answers = [_answer(connection) for _ in commands]
    finally:
        # The end of the connection discards the transaction.
        connection.disconnect()
        client.connection_pool.release(connection)
    return [" ".join(command) for command, answer in zip(commands, answers, strict=True) if _is_forbidden(answer)]


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error


def _is_forbidden(answer: Any) -> bool:
    return isinstance(answer, redis.exceptions.NoPermissionError)
