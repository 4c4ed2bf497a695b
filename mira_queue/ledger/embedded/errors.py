"""Errors of the embedded server. Every message is for the user at the terminal."""

from __future__ import annotations


class EmbeddedServerError(RuntimeError):
    """The embedded server cannot be used now. The message says why and what to do."""


class EmbeddedServerUnavailable(EmbeddedServerError):
    """There is no server binary for this machine, so MIRA_REDIS_URL has to name a server."""


class StateDirError(EmbeddedServerError):
    """The state directory cannot be created, written or trusted."""


class ServerStartError(EmbeddedServerError):
    """The server process exited while starting. The message ends with the last lines of its log."""


class ServerSilentError(EmbeddedServerError):
    """A server process exists, but it did not respond, or did not stop, in time."""
