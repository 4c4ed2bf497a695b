"""`/webhooks`: endpoints and recent deliveries, live, with an action to send a dead delivery again."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.gateway.context import Context
from mira_producer.gateway.http.errors import conflict, invalid, not_found
from mira_producer.gateway.http.threads import in_thread
from mira_producer.gateway.jobs.event_ids import object_id
from mira_producer.page.rendering import fragment, render
from mira_producer.page.views import Redirect, action, live, view
from mira_producer.page.visitor import Audience, Visitor
from mira_producer.page.webhooks.webhook_reader import ShownWebhooks, read_webhooks
from mira_queue.contract.delivery import DeliveryState


def routes(context: Context) -> list[BaseRoute]:
    ledger = context.queue.ledger

    async def shown(request: Request, audience: Audience) -> ShownWebhooks:
        after = request.query_params.get("after", "")
        return await in_thread(read_webhooks, ledger, audience, _state_of(request), after)

    async def show(request: Request, visitor: Visitor) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        return render(
            request,
            visitor,
            "webhooks.html",
            live=f"/live/webhooks{query}",
            shown=await shown(request, visitor.audience),
            states=list(DeliveryState),
            chosen=_state_of(request) or "",
            is_first=not request.query_params.get("after"),
            object_id=object_id,
        )

    async def read(request: Request, audience: Audience) -> Mapping[str, str]:
        found = await shown(request, audience)
        return {
            "endpoints": fragment(request, audience, "parts/webhook_endpoints.html", shown=found),
            "deliveries": fragment(
                request, audience, "parts/webhook_deliveries.html", shown=found, object_id=object_id
            ),
        }

    async def resend(request: Request, visitor: Visitor) -> Response:
        an_id = request.path_params["id"]
        found = await in_thread(ledger.dead_delivery, an_id)
        if found is None or not visitor.sees(found.event.project):
            raise not_found("dead webhook delivery", an_id)
        if not await in_thread(ledger.resend_delivery, found):
            raise conflict("the delivery is not dead any more", "not_dead")
        return Redirect(request, "/webhooks", "The delivery is sent again.")

    return [
        view(context, "/webhooks", show),
        live(context, "/live/webhooks", read, ("state", "after")),
        action(context, "/webhooks/deliveries/{id}/resend", resend),
    ]


def _state_of(request: Request) -> DeliveryState | None:
    state = request.query_params.get("state", "")
    if state and state not in list(DeliveryState):
        raise invalid("state", f"expected {', '.join(DeliveryState)}")
    return DeliveryState(state) if state else None
