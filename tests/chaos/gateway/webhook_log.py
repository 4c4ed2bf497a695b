"""The receiver of webhooks: verifies each delivery as OpenAI's SDK does, records it, and is down at times."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass

import openai
import orjson

from tests.support.raw_server import RawServer, Request, response
from tests.support.webhook_receiver import receiver

# An unexpected error, and one that asks for a pause of all deliveries.
ERRORS = (500, 502)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A delivery that was accepted: its path, the id of the delivery, and the type and the subject of its event."""

    path: str
    webhook_id: str
    type: str
    subject: str


class WebhookLog:
    """Listens on one port. `secrets` maps a path to its secret."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.arrivals: Counter[Arrival] = Counter()
        self.bad_signatures = 0
        self.rejected = 0
        self._lock = threading.Lock()
        self._until_s = 0.0
        self._server: RawServer | None = receiver(self._answer)
        self._server.__enter__()
        self._port = self._server.port
        self._client = openai.OpenAI(api_key="none", base_url="http://127.0.0.1:9")

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._port}{path}"

    @property
    def is_in_trouble(self) -> bool:
        return time.monotonic() < self._until_s

    def go_down(self, for_s: float) -> None:
        """Do not listen for some time. `tend` ends it."""
        self._until_s = time.monotonic() + for_s
        self.close()

    def fail(self, for_s: float) -> None:
        """Respond with errors for some time."""
        self._until_s = time.monotonic() + for_s

    def tend(self) -> None:
        if self._server is None and not self.is_in_trouble:
            self._server = receiver(self._answer)
            self._server.port = self._port
            self._server.__enter__()

    def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.__exit__(None, None, None)

    def _answer(self, request: Request) -> bytes:
        path = request.line.split()[1]
        if self.is_in_trouble:
            with self._lock:
                self.rejected += 1
            return response(ERRORS[request.number % 2])
        try:
            self._client.webhooks.unwrap(request.body, request.headers, secret=self.secrets[path])
            event = orjson.loads(request.body)
        except (openai.InvalidWebhookSignatureError, ValueError, KeyError):
            with self._lock:
                self.bad_signatures += 1
            return response(200)
        with self._lock:
            self.arrivals[Arrival(path, request.headers["webhook-id"], event["type"], event["data"]["id"])] += 1
        return response(200)
