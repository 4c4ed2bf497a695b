"""Entry point for Celery: `celery -A mira_worker.app worker`. It reads the settings and builds the application."""

from __future__ import annotations

import atexit
import sys

from mira_queue.contract.errors import QueueUnavailable, QueueUnusable
from mira_queue.contract.settings import SettingsError
from mira_queue.ledger.embedded import EmbeddedServerError
from mira_queue.ledger.server import QueueServer
from mira_queue.ledger.server_check import check_usable
from mira_queue.runtime.accounts_file import load_accounts, served_accounts
from mira_queue.runtime.celery_config import build_celery
from mira_queue.runtime.network_path import network_path
from mira_queue.runtime.settings_loader import load_settings
from mira_queue.runtime.traces import load_traces
from mira_worker.tasks import register
from mira_worker.worker_runtime import TRACES

try:
    _settings = load_settings()
    _accounts = served_accounts(_settings, load_accounts(_settings))
    # A worker whose calls cannot reach a server exits with the reason.
    for _account in _accounts:
        network_path(_account.base)
    load_traces(_settings, TRACES)
    _server = QueueServer(_settings)
    _url = _server.open()
    atexit.register(_server.close)
    check_usable(_url)
except (SettingsError, EmbeddedServerError, QueueUnusable) as error:
    raise SystemExit(str(error)) from None
except QueueUnavailable as error:
    # The worker waits for its server, and Celery's log has no clear line for it.
    print(f"waiting: {error}", file=sys.stderr, flush=True)

_server.keep_running()
app = build_celery(_settings, _url)
register(app, _settings, _accounts, _url, _server.close)
