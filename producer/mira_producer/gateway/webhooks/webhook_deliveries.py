"""`/v1/webhook_deliveries`: deliveries that have failed for three days. OpenAI has no such endpoint."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.gateway.context import Context
from mira_producer.gateway.description.described import Described
from mira_producer.gateway.description.pages import PAGE
from mira_producer.gateway.endpoints import endpoint as route
from mira_producer.gateway.http.errors import not_found
from mira_producer.gateway.http.json_body import Empty, json_body
from mira_producer.gateway.http.objects import Listing
from mira_producer.gateway.http.paging import cut, listing, page_of
from mira_producer.gateway.http.responses import json_response
from mira_producer.gateway.http.threads import in_thread
from mira_producer.gateway.jobs.event_ids import object_id
from mira_producer.gateway.webhooks.webhook_objects import DeliveryObject
from mira_queue.contract.api_key import ApiKey, Scope
from mira_queue.ledger.webhooks import Delivery

PATH = "/v1/webhook_deliveries"
KIND = "dead webhook delivery"

LIST = Described(
    "list_dead_webhook_deliveries",
    "List deliveries that have failed for three days, the newest first.",
    Listing[DeliveryObject],
    query=PAGE,
    errors=(404,),
)
RESEND = Described("resend_webhook_delivery", "Send a delivery again.", DeliveryObject, Empty)


def routes(context: Context) -> list[BaseRoute]:
    resource = _Deliveries(context)
    return [
        route(context, "GET", PATH, resource.list_dead, LIST),
        route(context, "POST", f"{PATH}/{{id}}/resend", resource.resend, RESEND),
    ]


class _Deliveries:
    """Handlers of the resource. Each key sees the deliveries of its project, and an admin also those of none."""

    def __init__(self, context: Context) -> None:
        self._ledger = context.queue.ledger

    async def list_dead(self, request: Request, key: ApiKey) -> Response:
        page = page_of(request)
        found = [each for project in _projects(key) for each in await in_thread(self._ledger.dead_deliveries, project)]
        after = next((_place(each) for each in found if each.id == page.after), None)
        if page.after and after is None:
            raise not_found(KIND, page.after, "after")
        shown, has_more = cut(found, page, _place, after)
        return json_response(listing([_object(each) for each in shown], has_more=has_more))

    async def resend(self, request: Request, key: ApiKey) -> Response:
        await json_body(request, Empty)
        an_id = request.path_params["id"]
        found = await in_thread(self._ledger.dead_delivery, an_id)
        if (
            found is None
            or found.event.project not in _projects(key)
            or not await in_thread(self._ledger.resend_delivery, found)
        ):
            raise not_found(KIND, an_id)
        return json_response({**_object(found), "status": "pending"})


def _projects(key: ApiKey) -> list[str]:
    # Jobs and batches of the Python client and the command line have no project.
    return [key.project, ""] if key.scope is Scope.ADMIN else [key.project]


def _object(found: Delivery) -> DeliveryObject:
    return {
        "id": found.id,
        "object": "webhook_delivery",
        "status": "dead",
        "created_at": found.created_ms // 1000,
        "failed_at": None if found.died_ms is None else found.died_ms // 1000,
        "event": {"id": found.event.id, "type": found.event.type, "data": {"id": object_id(found.event)}},
        "target": found.target,
        "attempts": found.attempts,
        "last_result": found.result,
    }


def _place(found: Delivery) -> tuple[int, str]:
    return found.died_ms or 0, found.id
