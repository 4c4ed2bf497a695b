"""Entry point for Celery: `celery -A mira_worker.app worker`. It reads the settings and builds the application."""

from __future__ import annotations

import atexit

from mira_queue.contract.settings import SettingsError
from mira_queue.ledger.embedded import EmbeddedServerError
from mira_queue.ledger.server import QueueServer
from mira_queue.runtime.accounts_file import load_accounts, served_accounts
from mira_queue.runtime.celery_config import build_celery
from mira_queue.runtime.settings_loader import load_settings
from mira_worker.tasks import register

try:
    _settings = load_settings()
    _accounts = served_accounts(_settings, load_accounts(_settings))
    _server = QueueServer(_settings)
    _url = _server.open()
except (SettingsError, EmbeddedServerError) as error:
    raise SystemExit(str(error)) from None

_server.keep_running()
atexit.register(_server.close)
app = build_celery(_settings, _url)
register(app, _settings, _accounts, _url, _server.close)
