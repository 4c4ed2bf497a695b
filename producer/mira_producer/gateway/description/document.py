"""The OpenAPI document of a gateway, assembled from the descriptions of its endpoints.

Source: https://spec.openapis.org/oas/v3.1.1.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from mira_producer.gateway.description.described import Described, Parameter
from mira_producer.gateway.endpoints import Endpoint
from mira_producer.gateway.http.errors import MAX_RETRY_AFTER_S
from mira_producer.gateway.http.objects import ErrorObject
from mira_producer.gateway.retries.recognized_retries import IDEMPOTENCY_KEY, MAX_KEY_CHARS
from mira_producer.gateway.webhooks.webhook_objects import Event
from mira_queue.contract.webhook import EVENT_TYPES

_REF = "#/components/{}/{}"
_PARAMETER = re.compile(r"{(\w+)(:\w+)?}")
# Errors of every endpoint: a Host header that is not allowed, headers that are too large, a server that is down.
_ALWAYS = (421, 431, 500, 503)
_WITH_KEY = (400, 401, 403)
# 409: the object of the Idempotency-Key was deleted.
_WITH_BODY = (409, 413, 422, 429)
_RETRIED_LATER = (429, 503)
_HEADERS: Mapping[str, Any] = {
    "x-request-id": {"description": "Id of the request in the gateway's log.", "schema": {"type": "string"}},
    "Retry-After": {
        "description": "Seconds until a retry makes sense.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_RETRY_AFTER_S},
    },
    "x-should-retry": {
        "description": "Tells an SDK whether to retry, if the status alone would mislead it.",
        "schema": {"enum": ["true", "false"]},
    },
    "openai-poll-after-ms": {
        "description": "When to ask again for an object that may still change.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Location": {"description": "Where the object will be.", "schema": {"type": "string"}},
}
_KEY_HEADER = Parameter(
    IDEMPOTENCY_KEY.title(),
    "Name of the request for 24 hours: the same name gets the same object.",
    {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARS},
)


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """Return the OpenAPI document of these endpoints."""
    described = [(each, each.described) for each in endpoints if each.described is not None]
    schemas = _Schemas([each for _, each in described])
    paths: dict[str, Any] = {}
    for route, each in described:
        path = _PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, each, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mira-queue",
            "version": version("mira-queue"),
            "summary": "OpenAI's API on a durable job queue, with jobs, pauses, retries, and verification of its own.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"apiKey": []}],
        "paths": paths,
        "webhooks": {kind: _webhook(kind, schemas) for kind in EVENT_TYPES},
        "components": {
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer", "bearerFormat": "mq-..."}},
            "headers": _HEADERS,
            "responses": {_error_name(status): _error(status, schemas) for status in _statuses(described)},
            "schemas": schemas.definitions,
        },
    }


class _Schemas:
    """Schemas of all bodies, which share their parts."""

    def __init__(self, described: list[Described]) -> None:
        results = [*(each.result for each in described), ErrorObject, Event]
        self._found: dict[str, Any] = {}
        self.definitions: dict[str, Any] = {}
        self._add([each.body for each in described], "validation")
        forms = self._add([each.form for each in described], "validation")
        for definition in [*forms, *self._add(results, "serialization")]:
            if definition["type"] == "object":
                # A form has no other fields. Of an object, a test then notices a field that is not described.
                definition.setdefault("additionalProperties", False)

    def of(self, wanted: Any) -> Any:
        """Return the schema of a type. A value that is a schema already stays as it is."""
        return wanted if isinstance(wanted, Mapping) else self._found[_name(wanted)]

    def _add(self, wanted: Iterable[Any], mode: JsonSchemaMode) -> Iterable[dict[str, Any]]:
        """Add the schemas of these types, and return the definitions that they use."""
        types = {_name(each): each for each in wanted if each is not None and not isinstance(each, Mapping)}
        found, shared = TypeAdapter.json_schemas(
            [(name, mode, TypeAdapter(each)) for name, each in types.items()],
            ref_template=_REF.format("schemas", "{model}"),
        )
        self._found |= {name: schema for (name, _), schema in found.items()}
        definitions: dict[str, dict[str, Any]] = shared.get("$defs", {})
        self.definitions |= definitions
        return definitions.values()


def _name(wanted: Any) -> str:
    return wanted.__name__ if isinstance(wanted, type) else str(wanted)


def _operation(route: Endpoint, each: Described, schemas: _Schemas) -> dict[str, Any]:
    path_names = [name for name, _ in _PARAMETER.findall(route.path)]
    parameters = [
        *(_parameter(Parameter(name, "Id of the object."), "path") for name in path_names),
        *(_parameter(one, "query") for one in each.query),
        *(_parameter(one, "header") for one in each.headers),
        *([_parameter(_KEY_HEADER, "header")] if route.method == "POST" else []),
    ]
    found: dict[str, Any] = {
        "operationId": each.name,
        "summary": each.summary,
        "tags": [route.path.removeprefix("/v1").split("/")[1]],
        **({"parameters": parameters} if parameters else {}),
    }
    if each.body is not None:
        content = {"application/json": {"schema": schemas.of(each.body)}}
        found["requestBody"] = {"content": content, "required": _is_required(each.body)}
    if each.form is not None:
        content = {"multipart/form-data": {"schema": schemas.of(each.form)}}
        found["requestBody"] = {"content": content, "required": True}
    if not route.has_key:
        found["security"] = []
    found["responses"] = {
        **{str(status): success for status, success in _successes(each, schemas)},
        **{str(status): {"$ref": _REF.format("responses", _error_name(status))} for status in _errors(route, each)},
    }
    return found


def _is_required(body: Any) -> bool:
    """Return False if an empty body is complete: it is an empty object."""
    is_model = isinstance(body, type) and issubclass(body, BaseModel)
    return not is_model or any(each.is_required() for each in body.model_fields.values())


def _parameter(each: Parameter, place: str) -> dict[str, Any]:
    return {
        "name": each.name,
        "in": place,
        "required": place == "path",
        "description": each.meaning,
        "schema": each.schema,
        **({"style": each.style, "explode": True} if each.style else {}),
    }


def _successes(each: Described, schemas: _Schemas) -> Iterator[tuple[int, dict[str, Any]]]:
    content = {kind: {"schema": schema} if schema else {} for kind, schema in each.media.items()}
    if each.result is not None:
        content["application/json"] = {"schema": schemas.of(each.result)}
    for status, meaning in ({200: "Success"} | dict(each.statuses)).items():
        names = ["x-request-id", *(["openai-poll-after-ms"] if each.polled else []), *_location(status)]
        headers = {name: {"$ref": _REF.format("headers", name)} for name in names}
        yield status, {"description": meaning, "headers": headers, "content": content}


def _location(status: int) -> list[str]:
    return ["Location"] if status == HTTPStatus.ACCEPTED else []


def _statuses(described: list[tuple[Endpoint, Described]]) -> list[int | str]:
    return sorted({status for route, each in described for status in _errors(route, each)}, key=str)


def _errors(route: Endpoint, each: Described) -> list[int | str]:
    found: set[int | str] = {*_ALWAYS, *each.errors}
    if route.has_key:
        found.update(_WITH_KEY)
    if _PARAMETER.search(route.path):
        found.add(404)
    if route.method == "POST":
        found.update(_WITH_BODY)
    return sorted(found, key=str)


def _error_name(status: int | str) -> str:
    return f"Error{status}"


def _error(status: int | str, schemas: _Schemas) -> dict[str, Any]:
    names = ["x-request-id", "x-should-retry", *(["Retry-After"] if status in _RETRIED_LATER else [])]
    return {
        "description": HTTPStatus(status).phrase if isinstance(status, int) else f"The error of a job ({status})",
        "headers": {name: {"$ref": _REF.format("headers", name)} for name in names},
        "content": {"application/json": {"schema": schemas.of(ErrorObject)}},
    }


def _webhook(kind: str, schemas: _Schemas) -> dict[str, Any]:
    return {
        "post": {
            "summary": f"The event {kind}, signed as Standard Webhooks specify.",
            "security": [],
            "requestBody": {"content": {"application/json": {"schema": schemas.of(Event)}}, "required": True},
            "responses": {"2XX": {"description": "The receiver has the event."}},
        }
    }
