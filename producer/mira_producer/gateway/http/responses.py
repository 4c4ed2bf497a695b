"""JSON responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from mira_producer.gateway.http.errors import ApiError


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers=headers, media_type="application/json")


def error_response(error: ApiError) -> Response:
    return json_response(error.to_object(), error.status, error.headers)
