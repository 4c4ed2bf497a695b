"""The Celery application, configured once for both sides; a line that is no default says what it prevents."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from celery import Celery
from kombu.entity import Exchange, Queue

from mira_queue.contract.names import BULK_QUEUE, QUEUE
from mira_queue.contract.settings import Settings

# Longer than any message is held on purpose: stranded jobs are rescued by their lease, within seconds. Shorter, and
# the transport would deliver a second time what a worker still holds.
VISIBILITY_TIMEOUT = timedelta(hours=12)


def build_celery(settings: Settings, redis_url: str) -> Celery:
    """An application for these settings; `redis_url` is the queue's server (configured, or the embedded one's)."""
    app = Celery("mira-queue", set_as_current=False)
    app.conf.update(celery_options(settings, redis_url))
    return app


def stores_results_itself(settings: Settings) -> bool:
    """True when outcomes live beside the ledger, so that one script stores both at once."""
    return settings.result_backend is None


def celery_options(settings: Settings, redis_url: str) -> dict[str, Any]:
    """Celery's configuration for these settings."""
    url = with_checked_certificate(redis_url)
    backend = settings.result_backend.get_secret_value() if settings.result_backend else url
    return {
        "broker_url": url,
        "broker_transport_options": {
            "visibility_timeout": int(VISIBILITY_TIMEOUT.total_seconds()),
            "socket_keepalive": not url.startswith("redis+socket"),
            # A connection may die without a word (a firewall forgets it): without these a publish, and with it a web
            # request, would wait on it for ever, and a worker would stop consuming for most of a minute.
            # Not retry_on_timeout: it would mend a broken pub/sub connection inside the event loop, and then wait there
            # for its next message: the worker would consume no more.
            "socket_timeout": 4,
            "socket_connect_timeout": 3,
            "health_check_interval": 5,
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A server that refuses writes (no memory, no disk, a replica) is no reason for a worker to end.
        "broker_channel_error_retry": True,
        # A web request must not hang on a dead server: about two seconds, then a clear error. The job is safe by then.
        "task_publish_retry_policy": {"max_retries": 3, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 1},
        "result_backend": backend,
        "redis_socket_timeout": 4.0,
        "redis_socket_connect_timeout": 3.0,
        "redis_retry_on_timeout": True,
        "result_expires": settings.result_ttl,
        # Without it every thread of a worker opens its own connections to the result backend.
        "result_backend_thread_safe": True,
        "result_backend_always_retry": True,
        "result_backend_max_retries": 10,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "task_default_queue": QUEUE,
        "task_queues": [_queue(name) for name in (QUEUE, BULK_QUEUE)],
        "task_acks_late": True,
        # The ledger stores the outcome, once, for the holder of the lease; Celery would store it for anybody.
        "task_ignore_result": True,
        "worker_pool": "threads",
        "worker_concurrency": settings.concurrency,
        # One message ahead for each thread: the next job is at hand when a call ends; few are held back from others.
        "worker_prefetch_multiplier": 2,
        # Calls go on while the connection to the server is mended: their leases, not their messages, protect them.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "enable_utc": True,
    }


def with_checked_certificate(url: str) -> str:
    """Celery refuses a rediss:// URL that does not say whether certificates are checked; ours are, unless it says."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if parts.scheme != "rediss" or "ssl_cert_reqs" in query:
        return url
    return urlunsplit(parts._replace(query=urlencode({**query, "ssl_cert_reqs": "required"})))


def _queue(name: str) -> Queue:
    """As Celery declares a queue that it is only told the name of; without the exchange, both would be one."""
    return Queue(name, Exchange(name), name)  # type: ignore[no-untyped-call]
