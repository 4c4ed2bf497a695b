"""Embedded server: a real Valkey on a unix socket, which is used if MIRA_REDIS_URL is not set."""

from mira_queue.ledger.embedded.errors import EmbeddedServerError
from mira_queue.ledger.embedded.process import find_binary
from mira_queue.ledger.embedded.server import EmbeddedServer, is_supported

__all__ = ["EmbeddedServer", "EmbeddedServerError", "find_binary", "is_supported"]
