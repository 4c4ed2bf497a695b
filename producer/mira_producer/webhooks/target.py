"""The webhook of one job or batch, as a user gives it."""

from __future__ import annotations

from typing import Any

from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.settings import Settings, variable
from mira_queue.contract.webhook import checked_url

FIELD = "webhook"


def checked_webhook(webhook: Any, settings: Settings) -> str:
    """Return the URL of a webhook; None means none. Raises InvalidRequest."""
    if webhook is None or webhook == "":
        return ""
    if not isinstance(webhook, str):
        raise InvalidRequest(FIELD, f"expected a URL, got {type(webhook).__name__}")
    if settings.webhook_secret is None:
        raise InvalidRequest(
            FIELD, f"set {variable('webhook_secret')}: deliveries to the URL of a job or a batch are signed with it"
        )
    try:
        return checked_url(webhook, settings.webhook_hosts)
    except ValueError as error:
        raise InvalidRequest(FIELD, str(error)) from None
