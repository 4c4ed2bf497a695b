"""The OpenAPI document: valid, complete, and true to the routes."""

from __future__ import annotations

import re
from typing import Any
from unittest.mock import MagicMock

import pytest
from mira_producer.gateway.app import RESOURCES
from mira_producer.gateway.description.document import document
from mira_producer.gateway.endpoints import Endpoint
from openapi_spec_validator import validate
from starlette.routing import BaseRoute, Route


@pytest.fixture(scope="module")
def routes() -> list[BaseRoute]:
    """The routes of a gateway. Nothing is called."""
    return [route for resource in RESOURCES for route in resource(MagicMock())]


@pytest.fixture(scope="module")
def description(routes: list[BaseRoute]) -> dict[str, Any]:
    return document([route for route in routes if isinstance(route, Endpoint)])


def operations(description: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    }


def test_the_document_is_valid_openapi(description: dict[str, Any]) -> None:
    validate(description)


def test_every_route_of_the_api_is_described_and_nothing_else_is(
    routes: list[BaseRoute], description: dict[str, Any]
) -> None:
    served = {
        (method, re.sub(r"{(\w+)(:\w+)?}", r"{\1}", route.path))
        for route in routes
        if isinstance(route, Route) and route.path.startswith("/v1/")
        for method in (route.methods or set()) - {"HEAD"}
    }

    described = set(operations(description))

    assert served - described == set()
    assert {each for each in described if each[1].startswith("/v1/")} - served == set()
    others = {"/healthz", "/readyz", "/openapi.json", "/metrics"}
    assert {path for _, path in described if not path.startswith("/v1/")} == others


def test_every_operation_has_a_name_of_its_own_and_a_success(description: dict[str, Any]) -> None:
    found = operations(description)

    assert len({each["operationId"] for each in found.values()}) == len(found)
    assert all("200" in each["responses"] for each in found.values())
    assert all(each["responses"]["200"]["content"] for each in found.values())


def test_only_endpoints_without_a_key_have_no_security(description: dict[str, Any]) -> None:
    without = {path for (_, path), each in operations(description).items() if each.get("security") == []}

    assert without == {"/healthz", "/readyz", "/openapi.json"}
    assert description["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"


def test_every_schema_of_a_response_is_complete(description: dict[str, Any]) -> None:
    schemas = description["components"]["schemas"]
    # These are what the API has sent, and the metadata of users.
    is_open = {name for name, each in schemas.items() if each.get("additionalProperties") is True}

    assert "CompletionObject" in is_open
    assert {"BatchObject", "FileObject", "ResponseObject", "FinishedJobObject", "EndpointObject"} & is_open == set()
