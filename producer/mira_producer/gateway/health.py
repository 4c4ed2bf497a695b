"""`/healthz` (the process responds) and `/readyz` (it reaches the queue's server), without an API key."""

from __future__ import annotations

from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from typing_extensions import TypedDict

from mira_producer.gateway.context import Context
from mira_producer.gateway.description.described import Described
from mira_producer.gateway.endpoints import open_endpoint
from mira_producer.gateway.http.responses import json_response
from mira_producer.gateway.http.threads import in_thread


class Health(TypedDict):
    """The process responds."""

    status: Literal["ok"]


class Readiness(TypedDict):
    """The process reaches the queue's server. `workers` are those that live."""

    status: Literal["ready"]
    workers: int


HEALTHZ = Described("healthz", "Return 200 if the process responds.", Health)
READYZ = Described("readyz", "Return 200 if the queue's server can be reached.", Readiness)


def routes(context: Context) -> list[BaseRoute]:
    async def healthz(_: Request) -> Response:
        return json_response(Health(status="ok"))

    async def readyz(_: Request) -> Response:
        workers = await in_thread(context.queue.ledger.live_workers)
        return json_response(Readiness(status="ready", workers=len(workers)))

    return [open_endpoint("/healthz", healthz, HEALTHZ), open_endpoint("/readyz", readyz, READYZ)]
