"""`/v1/webhook_deliveries`: recent deliveries of webhooks, and dead ones. OpenAI has no such endpoint."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.gateway.context import Context
from mira_producer.gateway.description.described import Described, Parameter
from mira_producer.gateway.description.pages import AFTER, limit
from mira_producer.gateway.endpoints import endpoint as route
from mira_producer.gateway.http.errors import invalid, not_found
from mira_producer.gateway.http.json_body import Empty, json_body
from mira_producer.gateway.http.objects import Listing
from mira_producer.gateway.http.paging import listing, page_of
from mira_producer.gateway.http.responses import json_response
from mira_producer.gateway.http.threads import in_thread
from mira_producer.gateway.jobs.event_ids import object_id
from mira_producer.gateway.jobs.response_object import seconds
from mira_producer.gateway.webhooks.webhook_objects import DeliveryObject
from mira_queue.contract.api_key import ApiKey, Scope
from mira_queue.contract.delivery import DeliveryState
from mira_queue.ledger.webhooks import Delivery

PATH = "/v1/webhook_deliveries"
KIND = "dead webhook delivery"

LIST = Described(
    "list_webhook_deliveries",
    "List recent deliveries, the newest first.",
    Listing[DeliveryObject],
    query=(AFTER, limit(), Parameter("state", "Only deliveries in this state.", {"enum": list(DeliveryState)})),
)
RESEND = Described("resend_webhook_delivery", "Send a dead delivery again.", DeliveryObject, Empty)


def routes(context: Context) -> list[BaseRoute]:
    resource = _Deliveries(context)
    return [
        route(context, "GET", PATH, resource.list_recent, LIST),
        route(context, "POST", f"{PATH}/{{id}}/resend", resource.resend, RESEND),
    ]


class _Deliveries:
    """Handlers of the resource. Each key sees the deliveries of its project, and an admin those of all."""

    def __init__(self, context: Context) -> None:
        self._ledger = context.queue.ledger

    async def list_recent(self, request: Request, key: ApiKey) -> Response:
        page = page_of(request)
        if page.order == "asc":
            raise invalid("order", "deliveries are listed with the newest first: expected desc")
        state = request.query_params.get("state")
        if state is not None and state not in list(DeliveryState):
            raise invalid("state", f"expected one of {', '.join(DeliveryState)}, got {state[:40]!r}")
        found = await in_thread(
            self._ledger.recent_deliveries,
            None if key.scope is Scope.ADMIN else key.project,
            state=DeliveryState(state) if state else None,
            after=page.after,
            limit=page.limit + 1,
        )
        shown = [_object(each) for each in found[: page.limit]]
        return json_response(listing(shown, has_more=len(found) > page.limit))

    async def resend(self, request: Request, key: ApiKey) -> Response:
        await json_body(request, Empty)
        an_id = request.path_params["id"]
        found = await in_thread(self._ledger.dead_delivery, an_id)
        if (
            found is None
            or not key.sees(found.event.project)
            or not await in_thread(self._ledger.resend_delivery, found)
        ):
            raise not_found(KIND, an_id)
        return json_response({**_object(found), "status": "pending"})


def _object(found: Delivery) -> DeliveryObject:
    return {
        "id": found.id,
        "object": "webhook_delivery",
        "status": found.state.value,
        "created_at": found.created_ms // 1000,
        "attempted_at": seconds(found.attempted_ms),
        "next_attempt_at": seconds(found.due_ms),
        "delivered_at": seconds(found.delivered_ms),
        "failed_at": seconds(found.died_ms),
        "event": {"id": found.event.id, "type": found.event.type, "data": {"id": object_id(found.event)}},
        "project": found.event.project or None,
        "target": found.target,
        "attempts": found.attempts,
        "last_result": found.result or None,
    }
