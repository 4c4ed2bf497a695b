"""The connection to the queue's server, and the one place where the Redis client's errors become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from mira_queue.contract.errors import QueueUnavailable

# How long a verb is tried again while the server does not answer. A web request must not hang; a worker must outlive
# a restart of the server, or it would lose the answer of a call that was paid for.
PRODUCER_PATIENCE = timedelta(seconds=3)
WORKER_PATIENCE = timedelta(seconds=90)

_PAUSE_CAP_S = 1.0
_PAUSE_BASE_S = 0.05


def connect(url: str, patience: timedelta = PRODUCER_PATIENCE) -> redis.Redis:
    """A pooled, thread-safe client for redis://, rediss:// or redis+socket:// URLs; connects at the first command."""
    return redis.Redis.from_url(
        _client_url(url),
        socket_timeout=10,
        socket_connect_timeout=3,
        retry=Retry(ExponentialBackoff(cap=_PAUSE_CAP_S, base=_PAUSE_BASE_S), _tries(patience)),
        retry_on_error=[redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError],
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
        raise QueueUnavailable(
            "the queue's server is out of memory: raise its maxmemory; nothing was accepted"
        ) from error
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


def _tries(patience: timedelta) -> int:
    """Number of tries whose pauses add up to the patience (the client draws each pause from 0.05 s doubling to 1 s)."""
    waited_s, tries = 0.0, 0
    while waited_s < patience.total_seconds():
        waited_s += min(_PAUSE_CAP_S, _PAUSE_BASE_S * 2**tries)
        tries += 1
    return tries
