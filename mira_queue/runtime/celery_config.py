"""The Celery application of producers and workers. A comment says which failure a setting prevents."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import structlog
from celery import Celery
from kombu.connection import Connection, ConnectionPool, PooledConnection
from kombu.entity import Exchange, Queue
from kombu.transport import redis as redis_transport
from kombu.transport.virtual import Message

from mira_queue.contract.names import BULK_QUEUE, QUEUE
from mira_queue.contract.server_url import SCHEMES, ServerUrl, parse_server_url
from mira_queue.contract.settings import Settings
from mira_queue.runtime.full_memory import FullServerClient
from mira_queue.runtime.sentinel import sentinel_options

# Longer than any worker holds a message. With less, the transport would deliver it twice. Orphaned jobs do not wait
# for it: they are rescued within seconds, when their lease expires.
VISIBILITY_TIMEOUT = timedelta(hours=12)


class FullServerChannel:
    """Channel whose writes also pass when the server's memory is full. With Celery's own, no accepted job would end."""

    def _get_client(self) -> type[FullServerClient]:
        super()._get_client()  # type: ignore[misc]
        return FullServerClient


class EnvelopedMessage(Message):
    """Message of the queue. One without Celery's envelope raises ValueError, as one that is not JSON does."""

    def __init__(self, payload: Any, channel: Any = None, **options: Any) -> None:
        try:
            super().__init__(payload, channel, **options)  # type: ignore[no-untyped-call]
            needed = [self.delivery_tag, self.delivery_info["exchange"], self.delivery_info["routing_key"]]
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError("no envelope") from error
        if not all(isinstance(each, str) for each in needed):
            raise ValueError("no envelope")


class TolerantChannel:
    """Channel that drops what is not a message. With Celery's own, each such entry of a queue would end a worker."""

    Message = EnvelopedMessage

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except ValueError as error:
            structlog.get_logger("mira_queue.worker").error("malformed_message", reason=type(error).__name__)
            return True


class JobChannel(TolerantChannel, FullServerChannel, redis_transport.Channel):
    """Channel to one server."""


class JobSentinelChannel(TolerantChannel, FullServerChannel, redis_transport.SentinelChannel):
    """Channel to the master that the Sentinels name."""


class JobTransport(redis_transport.Transport):
    """Celery's transport with our channel."""

    Channel = JobChannel


class JobSentinelTransport(redis_transport.SentinelTransport):
    """The same for Sentinels."""

    Channel = JobSentinelChannel


_TRANSPORTS: dict[type, type] = {
    redis_transport.Transport: JobTransport,
    redis_transport.SentinelTransport: JobSentinelTransport,
}


class JobConnection(Connection):
    """Connection with our transport. A transport in the settings would lose to the one of the URL."""

    def get_transport_cls(self) -> type:
        found: type = super().get_transport_cls()  # type: ignore[no-untyped-call]
        return _TRANSPORTS.get(found, found)

    def Pool(self, limit: int | None = None, **options: Any) -> JobConnectionPool:
        return JobConnectionPool(self, limit, **options)  # type: ignore[no-untyped-call]


class PooledJobConnection(JobConnection, PooledConnection):
    """The same, as part of a pool."""


class JobConnectionPool(ConnectionPool):
    """Pool of connections. Kombu's own would build connections with its own transport."""

    def new(self) -> PooledJobConnection:
        return PooledJobConnection(self, **dict(self.connection._info(resolve=False)))  # type: ignore[no-untyped-call]


def build_celery(settings: Settings, redis_url: str) -> Celery:
    """Return an application. `redis_url` is the queue's server: the configured one, or the embedded one."""
    server = parse_server_url(redis_url)
    backend_url = settings.result_backend.get_secret_value() if settings.result_backend else redis_url
    options = {
        "broker_url": _celery_url(server),
        "broker_use_ssl": server.tls,
        "broker_transport_options": {
            **_sentinel_options(server),
            "visibility_timeout": int(VISIBILITY_TIMEOUT.total_seconds()),
            "socket_keepalive": not server.socket,
            # A connection can break silently, for example in a firewall. Without these timeouts, a publish would wait
            # forever, and with it a web request. A worker would not consume for most of a minute.
            # Not retry_on_timeout: it would restore a broken pub/sub connection inside the event loop and wait there
            # for its next message. The worker would not consume any more.
            "socket_timeout": 4,
            "socket_connect_timeout": 3,
            "health_check_interval": 5,
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A worker must not exit because its server rejects writes (no memory, no disk, a replica).
        "broker_channel_error_retry": True,
        # If the server is down, a web request gets a clear error after about two seconds. The job is durable by then.
        "task_publish_retry_policy": {"max_retries": 3, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 1},
        **_backend_options(backend_url),
        "redis_socket_timeout": 4.0,
        "redis_socket_connect_timeout": 3.0,
        "redis_retry_on_timeout": True,
        "result_expires": settings.result_ttl,
        # Without this, each thread of a worker opens its own connections to the result backend.
        "result_backend_thread_safe": True,
        "result_backend_always_retry": True,
        "result_backend_max_retries": 10,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "task_default_queue": QUEUE,
        # As Celery declares them by default. Without exchanges of their own, the queues would share one.
        "task_queues": [Queue(name, Exchange(name), name) for name in (QUEUE, BULK_QUEUE)],  # type: ignore[no-untyped-call]
        "task_acks_late": True,
        # The ledger stores the outcome once, for the holder of the lease. Celery would store it for any worker.
        "task_ignore_result": True,
        "worker_pool": "threads",
        "worker_concurrency": settings.concurrency,
        # One message ahead for each thread: the next job starts without delay, and few wait here instead of elsewhere.
        "worker_prefetch_multiplier": 2,
        # Calls continue while the connection to the server is down. Their leases protect them, not their messages.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "enable_utc": True,
    }
    app = Celery("mira-queue", set_as_current=False)
    app.conf.update(options)
    app.amqp.Connection = JobConnection
    return app


def stores_results_itself(settings: Settings) -> bool:
    """Return True if outcomes are on the same server as the ledger, so that one script stores both."""
    return settings.result_backend is None


def _backend_options(url: str) -> dict[str, Any]:
    """Return the options of a result backend. One that is not a Redis server of ours has no options."""
    if url.partition("://")[0] not in SCHEMES:
        return {"result_backend": url}
    server = parse_server_url(url)
    return {
        "result_backend": _celery_url(server),
        "redis_backend_use_ssl": server.tls,
        "result_backend_transport_options": _sentinel_options(server),
    }


def _celery_url(server: ServerUrl) -> str:
    """Return the URL in Celery's form. TLS and the Sentinels' service have settings of their own there."""
    if server.socket:
        user, password = (quote(server.login.get(part, ""), safe="") for part in ("username", "password"))
        login = f"{user}:{password}@" if user or password else ""
        return f"redis+socket://{login}{quote(server.socket)}?virtual_host={server.db}"
    # Each Sentinel has the login: after an error, the transport continues with the next URL, and its login.
    return ";".join(server.with_scheme("sentinel" if server.service else "redis", host) for host in server.hosts)


def _sentinel_options(server: ServerUrl) -> dict[str, Any]:
    if not server.service:
        return {}
    return {"master_name": server.service, "sentinel_kwargs": sentinel_options(server)}
