"""`/v1/webhook_endpoints` and `/v1/webhook_event_types`: receivers of a project's events, as SDKs manage them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.gateway.context import Context
from mira_producer.gateway.description.described import Described
from mira_producer.gateway.description.pages import PAGE
from mira_producer.gateway.endpoints import endpoint as route
from mira_producer.gateway.http.errors import ApiError, invalid, not_found
from mira_producer.gateway.http.json_body import Body, json_body
from mira_producer.gateway.http.objects import Deleted, Listing
from mira_producer.gateway.http.paging import cut, listing, page_of
from mira_producer.gateway.http.responses import json_response
from mira_producer.gateway.http.threads import in_thread
from mira_producer.gateway.retries.identity import identity_of
from mira_producer.gateway.webhooks.webhook_objects import EVENT_TYPE, EndpointObject, EventTypesObject, TestResult
from mira_producer.webhooks.sender import Sender
from mira_queue.contract.api_key import ApiKey
from mira_queue.contract.unicode import is_unicode
from mira_queue.contract.webhook import (
    ENDPOINT_PREFIX,
    EVENT_TYPES,
    SigningSecret,
    WebhookEndpoint,
    WebhookEvent,
    checked_url,
    endpoint_id_of,
    new_event_id,
    new_signing_secret,
    payload_of,
)

PATH = "/v1/webhook_endpoints"
# Every event of a project is compared with all its endpoints.
MAX_ENDPOINTS = 100
KIND = "webhook endpoint"
_HINT_CHARS = 4


def _checked_type(text: str) -> str:
    if text not in EVENT_TYPES:
        raise ValueError(f"expected one of {', '.join(EVENT_TYPES)}, got {text[:80]!r}")
    return text


def _checked_text(text: str) -> str:
    if not is_unicode(text):
        raise ValueError("not valid Unicode")
    return text


EventType = Annotated[str, AfterValidator(_checked_type), WithJsonSchema(EVENT_TYPE)]
EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=len(EVENT_TYPES))]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_checked_text)]


class CreateEndpoint(Body):
    """Body of `POST /v1/webhook_endpoints`."""

    name: Name
    url: str
    event_types: EventTypes


class UpdateEndpoint(Body):
    """Body of `POST /v1/webhook_endpoints/{id}`: what is given replaces what was there."""

    name: Name | None = None
    url: str | None = None
    event_types: EventTypes | None = None


class RotateSecret(Body):
    """Body of `POST /v1/webhook_endpoints/{id}/rotate_secret`."""

    keep_old_secret_active_for_24_hours: bool = False


class TestEndpoint(Body):
    """Body of `POST /v1/webhook_endpoints/{id}/test`."""

    event_type: EventType


CREATE = Described("create_webhook_endpoint", "Create a receiver of events.", EndpointObject, CreateEndpoint)
LIST = Described("list_webhook_endpoints", "List receivers, the newest first.", Listing[EndpointObject], query=PAGE)
RETRIEVE = Described("retrieve_webhook_endpoint", "Return a receiver.", EndpointObject)
UPDATE = Described(
    "update_webhook_endpoint",
    "Change a receiver, and enable it.",
    EndpointObject,
    UpdateEndpoint,
)
DELETE = Described("delete_webhook_endpoint", "Delete a receiver.", Deleted)
ROTATE = Described("rotate_webhook_secret", "Replace the secret.", EndpointObject, RotateSecret)
TEST = Described("test_webhook_endpoint", "Send a test event.", TestResult, TestEndpoint, errors=(502,))
TYPES = Described("list_webhook_event_types", "List the types of events.", EventTypesObject)


def routes(context: Context) -> list[BaseRoute]:
    resource = _Endpoints(context)
    one = f"{PATH}/{{id}}"
    return [
        route(context, "POST", PATH, resource.create, CREATE),
        route(context, "GET", PATH, resource.list_all, LIST),
        route(context, "GET", one, resource.retrieve, RETRIEVE),
        route(context, "POST", one, resource.update, UPDATE),
        route(context, "DELETE", one, resource.delete, DELETE),
        route(context, "POST", f"{one}/rotate_secret", resource.rotate_secret, ROTATE),
        route(context, "POST", f"{one}/test", resource.test, TEST),
        route(context, "GET", "/v1/webhook_event_types", _list_types, TYPES),
    ]


async def _list_types(request: Request, key: ApiKey) -> Response:
    return json_response(EventTypesObject(object="list", data=list(EVENT_TYPES)))


class _Endpoints:
    """Handlers of the resource. Each key sees the endpoints of its own project."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ledger = context.queue.ledger

    async def create(self, request: Request, key: ApiKey) -> Response:
        body = await json_body(request, CreateEndpoint)
        url = self._checked_url(body.url)
        if len(await in_thread(self._ledger.endpoints, key.project)) >= MAX_ENDPOINTS:
            message = f"project {key.project} has {MAX_ENDPOINTS} webhook endpoints, which is the maximum"
            raise ApiError(400, message, code="too_many_endpoints")
        now = int(time.time())
        secrets = (SigningSecret(new_signing_secret()),)
        endpoint_id = endpoint_id_of(identity_of(request))
        created = WebhookEndpoint(
            endpoint_id, key.project, body.name, url, _unique(body.event_types), now, now, secrets
        )
        return json_response(_object(await in_thread(self._ledger.add_endpoint, created), with_secret=True))

    async def list_all(self, request: Request, key: ApiKey) -> Response:
        page = page_of(request)
        found = await in_thread(self._ledger.endpoints, key.project)
        after = next((_place(each) for each in found if each.id == page.after), None)
        if page.after and after is None:
            deleted = await in_thread(self._ledger.deleted, page.after.removeprefix(ENDPOINT_PREFIX))
            if deleted is None or deleted.project != key.project:
                raise invalid("after", f"no {KIND} {page.after[:80]!r}")
            after = deleted.created, page.after
        shown, has_more = cut(found, page, _place, after)
        return json_response(listing([_object(each) for each in shown], has_more=has_more))

    async def retrieve(self, request: Request, key: ApiKey) -> Response:
        return json_response(_object(await self._found(request, key)))

    async def update(self, request: Request, key: ApiKey) -> Response:
        body = await json_body(request, UpdateEndpoint)
        given: dict[str, Any] = {name: value for name, value in body.model_dump().items() if value is not None}
        if "url" in given:
            self._checked_url(given["url"])
        if "event_types" in given:
            given["event_types"] = _unique(given["event_types"])
        now = int(time.time())

        def change(before: WebhookEndpoint) -> WebhookEndpoint:
            # Its owner has looked after it: it receives events again.
            after = replace(before, **given, disabled="")
            return before if after == before else replace(after, updated_at=now)

        return json_response(_object(await self._changed(request, key, change)))

    async def delete(self, request: Request, key: ApiKey) -> Response:
        found = await self._found(request, key)
        an_id = found.id
        await in_thread(self._ledger.set_deleted, an_id.removeprefix(ENDPOINT_PREFIX), key.project, found.created_at)
        if not await in_thread(self._ledger.delete_endpoint, key.project, an_id):
            raise not_found(KIND, an_id)
        return json_response(Deleted(id=an_id, object="webhook_endpoint.deleted", deleted=True))

    async def rotate_secret(self, request: Request, key: ApiKey) -> Response:
        body = await json_body(request, RotateSecret)
        now, keep_old = int(time.time()), body.keep_old_secret_active_for_24_hours
        changed = await self._changed(request, key, lambda before: before.rotated(now, keep_old=keep_old))
        return json_response(_object(changed, with_secret=True))

    async def test(self, request: Request, key: ApiKey) -> Response:
        body = await json_body(request, TestEndpoint)
        found = await self._found(request, key)
        now = int(time.time())
        subject = f"{body.event_type.partition('.')[0]}_test"
        event = WebhookEvent(new_event_id(), body.event_type, now, subject, key.project)
        settings = self._context.settings
        async with Sender(settings.webhook_hosts, settings.webhook_timeout) as sender:
            attempt = await sender.send(found.url, event.id, payload_of(event, subject), found.signing_secrets(now))
        if attempt.status is None:
            raise ApiError(502, f"{found.url}: {attempt.error}", code="webhook_unreachable", should_retry=False)
        return json_response(
            TestResult(
                object="webhook_endpoint.test",
                event_type=body.event_type,
                status_code=attempt.status,
                success=True,
                webhook_endpoint_id=found.id,
            )
        )

    async def _found(self, request: Request, key: ApiKey) -> WebhookEndpoint:
        an_id = request.path_params["id"]
        found = await in_thread(self._ledger.endpoint, key.project, an_id)
        if found is None:
            raise not_found(KIND, an_id)
        return found

    async def _changed(
        self, request: Request, key: ApiKey, change: Callable[[WebhookEndpoint], WebhookEndpoint]
    ) -> WebhookEndpoint:
        an_id = request.path_params["id"]
        changed = await in_thread(self._ledger.change_endpoint, key.project, an_id, change)
        if changed is None:
            raise not_found(KIND, an_id)
        return changed

    def _checked_url(self, url: str) -> str:
        try:
            return checked_url(url, self._context.settings.webhook_hosts)
        except ValueError as error:
            raise invalid("url", str(error)) from None


def _object(found: WebhookEndpoint, *, with_secret: bool = False) -> EndpointObject:
    newest: SecretStr = found.secrets[0].value
    secret = newest.get_secret_value()
    shown: EndpointObject = {
        "id": found.id,
        "object": "webhook_endpoint",
        "created_at": found.created_at,
        "updated_at": found.updated_at,
        "name": found.name,
        "url": found.url,
        "event_types": list(found.event_types),
        "signing_secret_hint": f"whsec_...{secret[-_HINT_CHARS:]}",
        "mira": {"disabled": found.disabled or None},
    }
    if with_secret:
        shown["signing_secret"] = secret
    return shown


def _unique(event_types: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(event_types))


def _place(found: WebhookEndpoint) -> tuple[int, str]:
    return found.created_at, found.id
