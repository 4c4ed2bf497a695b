"""The webhook that a request gives for its job or its batch."""

from __future__ import annotations

from typing import Any

from mira_producer.gateway.context import Context
from mira_producer.gateway.http.errors import invalid
from mira_producer.gateway.http.threads import in_thread
from mira_producer.webhooks.target import checked_webhook
from mira_queue.contract.api_key import ApiKey
from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.problem import UNKNOWN_PARAMETER
from mira_queue.contract.webhook import is_endpoint_id

OWN = "mira"


async def webhook_target(context: Context, key: ApiKey, webhook: Any, param: str = "webhook") -> str:
    """Return the URL, or the id of an endpoint of the key's project; an empty text for none. Raises ApiError."""
    if isinstance(webhook, str) and is_endpoint_id(webhook):
        if await in_thread(context.queue.ledger.endpoint, key.project, webhook) is None:
            raise invalid(param, f"no webhook endpoint {webhook}", "not_found")
        return webhook
    try:
        return checked_webhook(webhook, context.settings)
    except InvalidRequest as error:
        raise invalid(param, error.reason) from None


async def take_webhook(context: Context, key: ApiKey, body: dict[str, Any]) -> str:
    """Remove `mira` from the body of a request of OpenAI's, and return the webhook in it. Raises ApiError."""
    own = body.pop(OWN, None)
    if own is None:
        return ""
    if not isinstance(own, dict):
        raise invalid(OWN, "expected an object")
    for name in own:
        if name != "webhook":
            raise invalid(f"{OWN}.{name[:80]}", "no such parameter", UNKNOWN_PARAMETER)
    return await webhook_target(context, key, own.get("webhook"), f"{OWN}.webhook")
