"""Which faults of a server pass by themselves, and how long a command is tried again."""

from __future__ import annotations

from datetime import timedelta

import pytest
import redis
from redis.exceptions import AuthorizationError, InvalidResponse, NoPermissionError, NoScriptError

from mira_queue.contract.errors import QueueUnavailable
from mira_queue.ledger.connection import Patience, passes, queue_error

PASSING = [
    redis.ConnectionError("reset"),
    redis.TimeoutError("silent"),
    redis.BusyLoadingError("loading"),
    redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
    redis.ReadOnlyError("You can't write against a read only replica."),
    redis.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"),
    redis.ResponseError("NOREPLICAS Not enough good replicas to write."),
    redis.ResponseError("Command # 2 (EVALSHA 12ab 4 mira:job:1) of pipeline caused error: MISCONF Errors writing"),
    # As a server before version 7 says it from inside a script.
    redis.ResponseError(
        "Error running script (call to f_12ab): @user_script:9: @user_script: 9: -OOM command not allowed"
    ),
]
LASTING = [
    redis.AuthenticationError("invalid username-password pair"),
    AuthorizationError("no"),
    NoPermissionError("this user has no permissions to run the 'evalsha' command"),
    NoScriptError("No matching script."),
    redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
    redis.ResponseError("unknown command 'LPOP'"),
    redis.DataError("Invalid input"),
    InvalidResponse('Protocol error, got "H" as reply type byte'),
]


@pytest.mark.parametrize("error", PASSING, ids=str)
def test_a_fault_that_passes_is_waited_for(error: Exception) -> None:
    assert passes(error)
    told: list[Exception] = []
    answers: list[Exception | str] = [error, "done"]

    def command() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert Patience(timedelta(minutes=1), told.append).call_with_retry(command, lambda error: None) == "done"
    assert told == [error]


@pytest.mark.parametrize("error", [error for error in PASSING if "MISCONF" in str(error)], ids=str)
def test_a_server_with_a_full_disk_names_the_setting_of_the_embedded_servers_disk(error: Exception) -> None:
    told = queue_error(error)

    assert isinstance(told, QueueUnavailable)
    assert "MIRA_STATE_DIR" in str(told)
    assert str(error) in str(told)


@pytest.mark.parametrize("error", LASTING, ids=str)
def test_a_fault_that_lasts_is_told_at_once(error: Exception) -> None:
    def command() -> None:
        raise error

    def unexpected(problem: Exception) -> None:
        pytest.fail(str(problem))

    with pytest.raises((QueueUnavailable, redis.DataError)) as raised:
        Patience(timedelta.max, unexpected).call_with_retry(command, lambda error: None)
    assert error in (raised.value, raised.value.__cause__)
    # A value that cannot be encoded is a bug of the caller. It says nothing about the server.
    assert isinstance(raised.value, QueueUnavailable) is not isinstance(error, redis.DataError)


def test_a_first_try_that_took_all_the_patience_is_followed_by_one_more() -> None:
    tries = 0

    def command() -> None:
        nonlocal tries
        tries += 1
        raise redis.TimeoutError("an idle connection has died")

    with pytest.raises(QueueUnavailable):
        Patience(timedelta(0)).call_with_retry(command, lambda error: None)
    assert tries == 2


def test_a_reconnection_that_fails_while_a_fault_is_told_is_one_more_fault_that_passes() -> None:
    answers: list[Exception | str] = [redis.ConnectionError("the server was killed"), "done"]

    def command() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def connect_anew(error: Exception) -> None:
        raise redis.ConnectionError("refused: it is not back yet")

    assert Patience(timedelta(minutes=1)).call_with_retry(command, connect_anew) == "done"
