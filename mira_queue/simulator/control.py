"""Control endpoints below /sim/, for tests and benchmarks: counts, configuration, reset, outages."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from mira_queue.simulator.config import Outage, describe
from mira_queue.simulator.port import Port
from mira_queue.simulator.schedule import Schedule
from mira_queue.simulator.state import State, account_name

PREFIX = "/sim/"
RECENT_S = 1.0
_OBJECT = TypeAdapter(dict[str, Any])


async def respond(
    state: State, port: Port, schedule: Schedule, request: web.BaseRequest, path: str
) -> web.StreamResponse:
    try:
        match request.method, path.removeprefix(PREFIX):
            case "GET", "stats":
                return _json(_stats(state))
            case "GET", "requests":
                return _json(state.counters.per_request())
            case "GET", "arrivals":
                return _json(state.counters.arrivals())
            case "GET", "recent":
                return _json({"contents": state.counters.recent(state.now() - RECENT_S)})
            case "GET", "calls":
                return _json({"calls": state.counters.log})
            case "GET", "config":
                return _json(state.config.model_dump(mode="json"))
            case "POST", "config":
                changes = _OBJECT.validate_json(await request.read() or b"{}")
                state.configure(state.config.changed(changes))
                if "outages" in changes:
                    schedule.restart_outages()
                if "changes" in changes:
                    schedule.restart_changes()
                return _json(state.config.model_dump(mode="json"))
            case "POST", "reset":
                state.reset()
                schedule.restart()
                return _json({})
            case "POST", "outage":
                outage = Outage.model_validate_json(await request.read())
                port.start_outage(outage.kind, outage.seconds)
                return _json(outage.model_dump(mode="json"))
    except ValidationError as error:
        return _json({"detail": describe(error)}, 422)
    return _json(
        {"detail": "expected GET stats, requests, arrivals, recent, calls, config or POST config, reset, outage"}, 404
    )


def _stats(state: State) -> dict[str, Any]:
    now = state.now()
    accounts = {
        account_name(key): {
            "in_flight": account.limits.in_flight,
            "max_in_flight": account.limits.max_in_flight,
            "leaked": account.limits.leaked,
            "in_window": account.limits.in_window(state.config, now),
            "spent_calls": account.limits.spent_calls,
            "spent_tokens": account.limits.spent_tokens,
            "promised_s": max(0.0, account.retry_afters.until - now),
        }
        for key, account in state.accounts.items()
    }
    return state.counters.totals() | {"outage": state.outage, "uptime_s": now, "accounts": accounts}


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
