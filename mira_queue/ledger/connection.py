"""Connection to the queue's server. Only this file translates the Redis client's errors."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import AuthorizationError, InvalidResponse
from redis.retry import Retry

from mira_queue.contract.errors import InvalidRequest, QueueUnavailable
from mira_queue.ledger.schema import connect_checked
from mira_queue.runtime.full_memory import FullServerClient

# How long an operation is retried while the server does not respond, or rejects writes. A web request must not hang. A
# worker must survive every fault of the server, or it would lose the response of a call that was billed.
PRODUCER_PATIENCE = timedelta(seconds=3)
FOREVER: timedelta = timedelta.max

# A connection that a firewall dropped silently costs this time. It is shorter than a lease's last two heartbeats: a
# heartbeat can notice, reconnect, and still be in time. No command here blocks for longer.
SOCKET_TIMEOUT_S = 4.0
CONNECT_TIMEOUT_S = 3.0
# The first attempt may get a connection that was dropped while idle. There is always one more, on a new connection.
_MIN_ATTEMPTS = 2
_PAUSE_CAP_S = 1.0
_PAUSE_BASE_S = 0.05

# Errors of a server that will recover: no memory, no disk, starting, a replica before or after a failover. Old servers
# put the code of a rejected write into the middle of the message, and a pipeline puts its own text in front.
_TRANSIENT = (redis.ConnectionError, redis.TimeoutError, redis.OutOfMemoryError, redis.ReadOnlyError)
_TRANSIENT_CODES = re.compile(
    r"(?:^|caused error: |-)(?:OOM|MISCONF|READONLY|LOADING|BUSY|NOREPLICAS|MASTERDOWN|TRYAGAIN|CLUSTERDOWN|NOSCRIPT) "
)

# Per thread: whether it is in an attempt.
_attempting = threading.local()

_ERRORS = (redis.RedisError, OSError)
# The first entry that matches applies. Other errors are bugs of the caller.
_MESSAGES: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((redis.AuthenticationError,), "the queue's server rejected the password: check MIRA_REDIS_URL ({})"),
    (
        (redis.ConnectionError, redis.TimeoutError, OSError),
        "the queue's server does not respond: is it running, and is MIRA_REDIS_URL right? ({})",
    ),
    ((InvalidResponse,), "the server at MIRA_REDIS_URL is not a Redis server"),
    ((redis.OutOfMemoryError,), "the queue's server is out of memory: raise its maxmemory"),
    ((redis.ResponseError,), "the queue's server rejected a command: {}"),
)

# An error of the server's disk has no class of its own.
_DISK_CODE = "MISCONF "
_DISK_MESSAGE = (
    "the queue's server cannot write to its disk: free some space there; "
    "the embedded server's disk is that of MIRA_STATE_DIR ({})"
)

T = TypeVar("T")
OnFailure = Callable[[Exception], None]


def passes(error: Exception) -> bool:
    """Return True for an error that the same command does not get after the server has recovered."""
    # To the client, a wrong password is a connection error. Waiting does not help.
    if isinstance(error, redis.AuthenticationError | AuthorizationError):
        return False
    if isinstance(error, redis.ResponseError):
        return isinstance(error, _TRANSIENT) or _TRANSIENT_CODES.search(str(error)) is not None
    return isinstance(error, (*_TRANSIENT, OSError))


class Patience(Retry):
    """Retry of the client that is limited by time. The client's own counts attempts, each as long as its timeouts.

    `on_failure` is called after every failed attempt that is followed by another one.
    """

    __hash__ = Retry.__hash__

    def __init__(self, patience: timedelta, on_failure: OnFailure | None = None) -> None:
        super().__init__(ExponentialBackoff(cap=_PAUSE_CAP_S, base=_PAUSE_BASE_S), -1)
        self._patience_s = patience.total_seconds()
        self._on_failure = on_failure

    def __deepcopy__(self, memo: object) -> Patience:
        # Each connection makes a copy. Nothing in it changes.
        return self

    def call_with_retry(
        self, do: Callable[[], T], fail: Callable[..., Any], is_retryable: Any = None, with_failure_count: bool = False
    ) -> T:
        if getattr(_attempting, "already", False):
            # Within another attempt of this thread, which has to connect first. Attempts must not multiply.
            try:
                return do()
            except _ERRORS as error:
                fail(error, 1) if with_failure_count else fail(error)
                raise
        _attempting.already = True
        try:
            return self._repeat(do, lambda error, count: fail(error, count) if with_failure_count else fail(error))
        finally:
            _attempting.already = False

    def _repeat(self, do: Callable[[], T], fail: Callable[[Exception, int], Any]) -> T:
        end_s = time.monotonic() + self._patience_s
        failures = 0
        while True:
            try:
                return do()
            except UnicodeEncodeError as error:
                # Text that is stored was checked before, so this is an ID that is looked up.
                raise InvalidRequest("id", f"not valid Unicode: {ascii(error.object)[:80]}") from error
            except _ERRORS as error:
                fault: Exception = error
                failures += 1
                try:
                    fail(error, failures)
                except _ERRORS as another:
                    # A subscription reconnects in `fail`.
                    fault = another
            if not passes(fault) or (failures >= _MIN_ATTEMPTS and time.monotonic() >= end_s):
                raise queue_error(fault)
            if self._on_failure is not None:
                self._on_failure(fault)
            time.sleep(self._backoff.compute(failures))


def queue_error(error: Exception) -> Exception:
    """Return the Redis client's error as QueueUnavailable, whose message says what to do in one line."""
    for kinds, message in _MESSAGES:
        if isinstance(error, kinds):
            text = _DISK_MESSAGE if _DISK_CODE in str(error) else message
            unavailable = QueueUnavailable(text.format(error))
            unavailable.__cause__ = error
            return unavailable
    return error


def connect(url: str, patience: timedelta = PRODUCER_PATIENCE, on_failure: OnFailure | None = None) -> redis.Redis:
    """Return a pooled, thread-safe client for a redis://, rediss:// or redis+socket:// URL.

    It connects at the first command. While the server is unavailable, a command is retried for as long as `patience`,
    and `on_failure` is called after every failed attempt. Its writes also pass when the server's memory is full.
    """
    return FullServerClient.from_url(
        url.replace("redis+socket://", "unix://", 1),
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        retry=Patience(patience, on_failure),
        redis_connect_func=connect_checked,
    )
