"""Entry point for Celery: `celery -A mira_worker.app worker`. It reads the settings and builds the application."""

from __future__ import annotations

import atexit
import sys

from mira_queue.contract.errors import NewerLedger, QueueUnavailable
from mira_queue.contract.settings import SettingsError
from mira_queue.ledger.connection import connect
from mira_queue.ledger.embedded import EmbeddedServerError
from mira_queue.ledger.server import QueueServer
from mira_queue.runtime.celery_config import build_celery
from mira_queue.runtime.settings_loader import load_settings
from mira_worker.tasks import register

try:
    _settings = load_settings()
    _server = QueueServer(_settings)
    _url = _server.open()
    with connect(_url) as _client:
        _client.ping()
except (SettingsError, EmbeddedServerError, NewerLedger) as error:
    raise SystemExit(str(error)) from None
except QueueUnavailable as error:
    # The worker waits for its server, and Celery's log has no clear line for it.
    print(f"waiting: {error}", file=sys.stderr, flush=True)

_server.keep_running()
atexit.register(_server.close)
app = build_celery(_settings, _url)
register(app, _settings, _url, _server.close)
