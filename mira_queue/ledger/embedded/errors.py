"""What can go wrong with the embedded server. Every message is meant for the person at the terminal."""

from __future__ import annotations


class EmbeddedServerError(RuntimeError):
    """The embedded server cannot be used now; the message says why and what to do."""


class EmbeddedServerUnavailable(EmbeddedServerError):
    """There is no server binary for this machine: MIRA_REDIS_URL has to name a server."""


class StateDirError(EmbeddedServerError):
    """The state directory cannot be created, written or trusted."""


class ServerStartError(EmbeddedServerError):
    """The server process ended while starting; the message ends with the last lines of its log."""


class ServerSilentError(EmbeddedServerError):
    """A server process is there, but it did not answer (or let go of its data) in time."""
