"""The queue's server: the configured one, or the embedded one for as long as it is used."""

from __future__ import annotations

import threading

from mira_queue.contract.settings import Settings
from mira_queue.ledger.embedded import EmbeddedServer, EmbeddedServerError

# How often a process that uses the embedded server restarts it if it was killed, and syncs its file.
_CHECK_EVERY_S = 1.0


class QueueServer:
    """The server of these settings. The last process that calls `close` stops an embedded server."""

    def __init__(self, settings: Settings) -> None:
        self._configured = settings.redis_url.get_secret_value() if settings.redis_url else None
        self.embedded = None if self._configured else EmbeddedServer(settings.state_dir)
        self._closed = threading.Event()

    def open(self) -> str:
        """Return the server's URL. Raises EmbeddedServerError if the embedded server cannot run."""
        if self._configured is not None:
            return self._configured
        assert self.embedded is not None
        return self.embedded.acquire()

    def url_if_running(self) -> str | None:
        """Return the URL, or None if the embedded server is not running. A configured server may be down."""
        if self.embedded is None:
            return self._configured
        return self.embedded.url if self.embedded.running_pid() else None

    def keep_running(self) -> None:
        """From now on, restart an embedded server that was killed, and sync its file once per second."""
        if self.embedded is not None:
            threading.Thread(target=self._watch, args=(self.embedded,), name="embedded-server", daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        if self.embedded is not None:
            self.embedded.release()

    def _watch(self, embedded: EmbeddedServer) -> None:
        while not self._closed.wait(_CHECK_EVERY_S):
            try:
                embedded.ensure_running()
                embedded.sync()
            except (EmbeddedServerError, OSError):
                # The next check retries. Until then, every operation raises QueueUnavailable.
                continue
