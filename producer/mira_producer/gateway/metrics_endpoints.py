"""`/metrics` for Prometheus, and `/v1/workers_wanted` for a scaler: numbers of the whole queue, without any prompt."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.gateway.context import Context
from mira_producer.gateway.description.described import TEXT, Described
from mira_producer.gateway.endpoints import endpoint
from mira_producer.gateway.http.responses import json_response
from mira_producer.gateway.http.threads import in_thread
from mira_producer.metrics.collector import registry_of
from mira_producer.metrics.workers_wanted import WorkersWanted, demand_object
from mira_queue.contract.api_key import ApiKey

METRICS = Described("read_metrics", "Return metrics of the queue for Prometheus.", media={"text/plain": TEXT})
WANTED = Described("read_workers_wanted", "Return how many workers the open jobs could use.", WorkersWanted)


def routes(context: Context) -> list[BaseRoute]:
    ledger, slots = context.queue.ledger, context.settings.concurrency

    registry = registry_of(ledger, slots, context.price_table.prices)

    async def metrics(_: Request, __: ApiKey) -> Response:
        return Response(await in_thread(generate_latest, registry), media_type=CONTENT_TYPE_LATEST)

    async def wanted(_: Request, __: ApiKey) -> Response:
        stats = await in_thread(ledger.queue_stats)
        return json_response(demand_object(stats, slots))

    return [
        endpoint(context, "GET", "/metrics", metrics, METRICS),
        endpoint(context, "GET", "/v1/workers_wanted", wanted, WANTED),
    ]
