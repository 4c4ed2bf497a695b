"""The connection to the queue's server, and the one place where the Redis client's errors become ours."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import AuthorizationError
from redis.retry import Retry

from mira_queue.contract.errors import QueueUnavailable

# How long a verb is tried again while the server does not answer, or refuses to write. A web request must not hang;
# a worker must outlive every fault of the server, or it would lose the answer of a call that was paid for.
PRODUCER_PATIENCE = timedelta(seconds=3)
FOR_EVER: timedelta = timedelta.max

# A connection that has died unheard (a firewall forgot it) costs this long. Shorter than a lease's last two beats, so
# that a heartbeat can notice, connect anew and still come in time; longer than any command here blocks on purpose.
SOCKET_TIMEOUT_S = 4.0
CONNECT_TIMEOUT_S = 3.0
# The first try may meet a connection that died while it was idle: one more on a fresh one, however late it is.
_LEAST_TRIES = 2
_PAUSE_CAP_S = 1.0
_PAUSE_BASE_S = 0.05

# What a server says that will be itself again: no memory, no disk, starting, a replica before or after a failover. An
# old server puts the word of a refused write into the middle of its message, a pipeline puts its own words before it.
_PASSING = (redis.ConnectionError, redis.TimeoutError, redis.OutOfMemoryError, redis.ReadOnlyError)
_PASSING_WORDS = re.compile(
    r"(?:^|caused error: |-)(?:OOM|MISCONF|READONLY|LOADING|BUSY|NOREPLICAS|MASTERDOWN|TRYAGAIN|CLUSTERDOWN|NOSCRIPT) "
)

# Of each thread: is it in the middle of a try?
_trying = threading.local()

T = TypeVar("T")
Tell = Callable[[Exception], None]


def passes(error: Exception) -> bool:
    """True for a fault that a server gets over without anybody changing the command."""
    # A wrong password is a "connection error" to the client, and waiting does not make it right.
    if isinstance(error, redis.AuthenticationError | AuthorizationError):
        return False
    if isinstance(error, redis.ResponseError):
        return isinstance(error, _PASSING) or _PASSING_WORDS.search(str(error)) is not None
    return isinstance(error, (*_PASSING, OSError))


class Patience(Retry):
    """The client's retry, bounded by time: its own counts tries, each of which may take as long as its timeouts do.

    `tell` hears of every failed try that is followed by another.
    """

    __hash__ = Retry.__hash__

    def __init__(self, patience: timedelta, tell: Tell | None = None) -> None:
        super().__init__(ExponentialBackoff(cap=_PAUSE_CAP_S, base=_PAUSE_BASE_S), -1)
        self._patience_s = patience.total_seconds()
        self._tell = tell

    def __deepcopy__(self, memo: object) -> Patience:
        # Each connection asks for a copy; there is nothing in it that changes.
        return self

    def call_with_retry(
        self, do: Callable[[], T], fail: Callable[..., Any], is_retryable: Any = None, with_failure_count: bool = False
    ) -> T:
        if getattr(_trying, "already", False):
            return self._once(do, fail, with_failure_count)
        _trying.already = True
        try:
            return self._again_and_again(do, fail, with_failure_count)
        finally:
            _trying.already = False

    def _once(self, do: Callable[[], T], fail: Callable[..., Any], with_failure_count: bool) -> T:
        """Inside another try of this thread (a command that has to connect first): tries must not multiply."""
        try:
            return do()
        except (redis.RedisError, OSError) as error:
            fail(error, 1) if with_failure_count else fail(error)
            raise

    def _again_and_again(self, do: Callable[[], T], fail: Callable[..., Any], with_failure_count: bool) -> T:
        end_s = time.monotonic() + self._patience_s
        failures = 0
        while True:
            try:
                return do()
            except (redis.RedisError, OSError) as error:
                failures += 1
                fault = _after(error, failures, fail, with_failure_count)
                if not passes(fault) or (failures >= _LEAST_TRIES and time.monotonic() >= end_s):
                    raise fault from fault.__cause__
                if self._tell is not None:
                    self._tell(fault)
            time.sleep(self._backoff.compute(failures))


def _after(error: Exception, failures: int, fail: Callable[..., Any], with_failure_count: bool) -> Exception:
    """The fault that a failed try has come to. A subscription connects anew in `fail`: that is a try like others."""
    try:
        fail(error, failures) if with_failure_count else fail(error)
    except (redis.RedisError, OSError) as another:
        return another
    return error


def connect(url: str, patience: timedelta = PRODUCER_PATIENCE, tell: Tell | None = None) -> redis.Redis:
    """A pooled, thread-safe client for redis://, rediss:// or redis+socket:// URLs; connects at the first command.

    While the server is away, a command is tried again for as long as `patience`; `tell` hears of every failed try.
    """
    return redis.Redis.from_url(
        _client_url(url),
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        retry=Patience(patience, tell),
    )


@contextmanager
def translated_errors() -> Iterator[None]:
    """Inside, the Redis client's errors leave as QueueUnavailable, one line that says what to do, the cause kept."""
    try:
        yield
    except redis.AuthenticationError as error:
        raise QueueUnavailable(f"the queue's server refused the password: check MIRA_REDIS_URL ({error})") from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise QueueUnavailable(
            f"the queue's server does not answer: is it running, is MIRA_REDIS_URL right? ({error})"
        ) from error
    except redis.OutOfMemoryError as error:
        raise QueueUnavailable("the queue's server is out of memory: raise its maxmemory") from error
    except redis.ResponseError as error:
        raise QueueUnavailable(f"the queue's server refused a command: {error}") from error


def without_password(url: str) -> str:
    """The URL as it may be shown: its password replaced."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))


def _client_url(url: str) -> str:
    return url.replace("redis+socket://", "unix://", 1) if url.startswith("redis+socket://") else url
