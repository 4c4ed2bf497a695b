"""Which server the queue lives on: the configured one, or the embedded one, held for as long as it is used."""

from __future__ import annotations

import threading

from mira_queue.contract.settings import Settings
from mira_queue.ledger.embedded import EmbeddedServer, EmbeddedServerError

# An embedded server that was killed is started again by whoever uses it; this often somebody looks, and syncs its file.
_LOOK_EVERY_S = 1.0


class QueueServer:
    """The server of these settings. `open` gives its URL; `close` lets it go; the last one stops an embedded one."""

    def __init__(self, settings: Settings) -> None:
        self._configured = settings.redis_url.get_secret_value() if settings.redis_url else None
        self.embedded = None if self._configured else EmbeddedServer(settings.state_dir)
        self._closed = threading.Event()

    def open(self) -> str:
        """Raises EmbeddedServerError where the embedded server cannot run."""
        if self._configured is not None:
            return self._configured
        assert self.embedded is not None
        return self.embedded.acquire()

    def url_if_running(self) -> str | None:
        """For whoever only looks: an embedded server is not started for that. A configured one may be down, too."""
        if self.embedded is None:
            return self._configured
        return self.embedded.url if self.embedded.status() else None

    def keep_running(self) -> None:
        """From now on, start an embedded server again when it was killed, and sync its file once a second."""
        if self.embedded is not None:
            threading.Thread(target=self._watch, args=(self.embedded,), name="embedded-server", daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        if self.embedded is not None:
            self.embedded.release()

    def _watch(self, embedded: EmbeddedServer) -> None:
        while not self._closed.wait(_LOOK_EVERY_S):
            try:
                embedded.ensure_running()
                embedded.sync()
            except (EmbeddedServerError, OSError):
                # The next look tries again; meanwhile every verb says that the queue is unavailable.
                continue
