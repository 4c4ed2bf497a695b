"""Reads the endpoints and the recent deliveries that users see."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from mira_producer.page.visitor import Audience
from mira_queue.contract.delivery import DeliveryState
from mira_queue.contract.webhook import WebhookEndpoint, is_endpoint_id
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.webhooks import Delivery

PER_PAGE = 25


@dataclass(frozen=True, slots=True)
class ShownWebhooks:
    """All that the view shows. `after` is the last delivery of the page if there are more; otherwise, it is empty.

    `names` are those of the endpoints, by their ids.
    """

    endpoints: list[WebhookEndpoint]
    names: dict[str, str]
    deliveries: list[Delivery]
    after: str


def read_webhooks(ledger: Ledger, audience: Audience, state: DeliveryState | None, after: str) -> ShownWebhooks:
    """Return the endpoints, and a page of the deliveries. Raises InvalidRequest if there is no delivery `after`."""
    project = audience.project or None
    found = ledger.recent_deliveries(project, state=state, after=after, limit=PER_PAGE + 1)
    deliveries = found[:PER_PAGE]
    # A project whose keys are revoked is known by its deliveries.
    projects = {each.event.project for each in found} | {key.project for key in ledger.api_keys()} - {""}
    endpoints = ledger.endpoints_of_projects([project] if project else sorted(projects))
    if not audience.may_act:
        endpoints = [replace(each, url=_host_of(each.url)) for each in endpoints]
        deliveries = [
            each if is_endpoint_id(each.target) else replace(each, target=_host_of(each.target)) for each in deliveries
        ]
    return ShownWebhooks(
        endpoints,
        {each.id: each.name for each in endpoints},
        deliveries,
        deliveries[-1].id if len(found) > PER_PAGE else "",
    )


def _host_of(url: str) -> str:
    """Return the URL up to its host: the rest of a webhook's URL is often a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/…" if parts.path.strip("/") or parts.query else url
