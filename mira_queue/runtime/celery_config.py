"""The Celery application of producers and workers. A comment says which failure a setting prevents."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from celery import Celery
from kombu.connection import Connection, ConnectionPool, PooledConnection
from kombu.entity import Exchange, Queue
from kombu.transport import redis as redis_transport

from mira_queue.contract.names import BULK_QUEUE, QUEUE
from mira_queue.contract.settings import Settings
from mira_queue.runtime.full_memory import FullServerClient

# Longer than any worker holds a message. With less, the transport would deliver it twice. Orphaned jobs do not wait
# for it: they are rescued within seconds, when their lease expires.
VISIBILITY_TIMEOUT = timedelta(hours=12)


class JobChannel(redis_transport.Channel):
    """Channel whose writes also pass when the server's memory is full. With Celery's own, no accepted job would end."""

    def _get_client(self) -> type[FullServerClient]:
        super()._get_client()  # type: ignore[no-untyped-call]
        return FullServerClient


class JobTransport(redis_transport.Transport):
    """Celery's transport with our channel."""

    Channel = JobChannel


class JobConnection(Connection):
    """Connection with our transport. A transport in the settings would lose to the one of the URL."""

    def get_transport_cls(self) -> type:
        found: type = super().get_transport_cls()  # type: ignore[no-untyped-call]
        return JobTransport if found is redis_transport.Transport else found

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
    url = with_checked_certificate(redis_url)
    backend = settings.result_backend.get_secret_value() if settings.result_backend else url
    options = {
        "broker_url": url,
        "broker_transport_options": {
            "visibility_timeout": int(VISIBILITY_TIMEOUT.total_seconds()),
            "socket_keepalive": not url.startswith("redis+socket"),
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
        "result_backend": backend,
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


def with_checked_certificate(url: str) -> str:
    """Add that certificates are checked: Celery rejects a rediss:// URL that does not say whether they are."""
    if not url.lower().startswith("rediss:") or "ssl_cert_reqs=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"
