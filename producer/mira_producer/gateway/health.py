"""`/healthz` (the process responds) and `/readyz` (it reaches the queue's server), without an API key."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mira_producer.gateway.context import Context
from mira_producer.gateway.http.responses import json_response
from mira_producer.gateway.http.threads import in_thread


def routes(context: Context) -> list[BaseRoute]:
    async def healthz(_: Request) -> Response:
        return json_response({"status": "ok"})

    async def readyz(_: Request) -> Response:
        workers = await in_thread(context.queue.ledger.live_workers)
        return json_response({"status": "ready", "workers": len(workers)})

    return [Route("/healthz", healthz), Route("/readyz", readyz)]
