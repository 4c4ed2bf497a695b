"""The background task of a gateway that delivers webhooks."""

from __future__ import annotations

from mira_producer.gateway.context import Context
from mira_producer.gateway.jobs.event_ids import object_id
from mira_producer.webhooks.deliverer import Deliverer
from mira_producer.webhooks.sender import Sender


async def run(context: Context) -> None:
    settings = context.settings
    async with Sender(settings.webhook_hosts, settings.webhook_timeout) as sender:
        await Deliverer(context.queue.ledger, sender, settings, context.log, object_id).run()
