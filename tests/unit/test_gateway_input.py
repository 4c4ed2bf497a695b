"""Input of the gateway that is valid in form, and hostile in size."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from mira_producer.gateway.files.file_endpoints import SECONDS, check_ttl
from mira_producer.gateway.http.errors import ApiError
from mira_producer.gateway.http.json_body import INVALID_JSON, json_object
from mira_producer.gateway.http.paging import page_of
from starlette.requests import Request


def request(query: str = "", body: bytes = b"") -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    scope = {"type": "http", "method": "POST", "query_string": query.encode(), "headers": []}
    return Request(scope, receive)


def nested(levels: int) -> bytes:
    return b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


@pytest.mark.parametrize("levels", [245, 255, 1_000, 5_000])
def test_a_body_with_too_many_levels_is_rejected(levels: int) -> None:
    with pytest.raises(ApiError) as caught:
        asyncio.run(json_object(request(body=nested(levels))))

    assert (caught.value.status, caught.value.code) == (400, INVALID_JSON)


def test_a_body_that_is_accepted_can_be_a_part_of_an_event() -> None:
    found = asyncio.run(json_object(request(body=nested(200))))

    assert orjson.dumps({"event": {"response": {"tools": [found]}}})


@pytest.mark.parametrize("limit", ["0", "101", "-1", "", "1.0", "000000005999999", "000000010" + "0" * 5_000, "٣"])
def test_a_limit_that_is_not_a_number_in_its_range_is_rejected(limit: str) -> None:
    with pytest.raises(ApiError) as caught:
        page_of(request(f"limit={quote(limit)}"))

    assert (caught.value.status, caught.value.param) == (400, "limit")


@pytest.mark.parametrize("limit", ["1", "100", "000000000100"])
def test_a_limit_in_its_range_is_that_number(limit: str) -> None:
    assert page_of(request(f"limit={limit}")).limit == int(limit)


@pytest.mark.parametrize("seconds", ["3599", "2592001", "000000003600999999", "000000003600" + "0" * 5_000])
def test_a_lifetime_of_a_file_outside_of_its_range_is_rejected(seconds: str) -> None:
    with pytest.raises(ApiError) as caught:
        check_ttl("created_at", seconds)

    assert caught.value.param == SECONDS
