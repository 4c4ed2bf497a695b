"""The other door, for tests and benches: what was seen, and /sim/config, /sim/reset, /sim/outage to change things."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
from aiohttp import web
from pydantic import ValidationError

from mira_queue.simulator.config import Outage
from mira_queue.simulator.outages import Outages
from mira_queue.simulator.server import Simulator

PREFIX = "/sim/"
RECENT_S = 1.0


class Control:
    """Reads and changes a running simulator."""

    def __init__(self, simulator: Simulator, outages: Outages) -> None:
        self._simulator = simulator
        self._outages = outages

    async def answer(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        simulator = self._simulator
        try:
            match request.method, path.removeprefix(PREFIX):
                case "GET", "stats":
                    return _json(self._stats())
                case "GET", "requests":
                    return _json(simulator.counters.per_request())
                case "GET", "recent":
                    return _json({"contents": simulator.counters.recent(simulator.now() - RECENT_S)})
                case "GET", "calls":
                    return _json({"calls": simulator.counters.log})
                case "GET", "config":
                    return _json(simulator.config.model_dump(mode="json"))
                case "POST", "config":
                    changes = _object(await request.read())
                    simulator.configure(simulator.config.changed(changes))
                    if "outages" in changes:
                        self._outages.schedule(simulator.config.outages)
                    return _json(simulator.config.model_dump(mode="json"))
                case "POST", "reset":
                    simulator.forget()
                    self._outages.schedule(simulator.config.outages)
                    return _json({})
                case "POST", "outage":
                    outage = Outage.model_validate(_object(await request.read()))
                    self._outages.begin(outage.kind, outage.seconds)
                    return _json(outage.model_dump(mode="json"))
        except ValidationError as error:
            return _json({"detail": _lines(error)}, 422)
        except orjson.JSONDecodeError as error:
            return _json({"detail": f"the body is not JSON: {error}"}, 422)
        return _json(
            {"detail": "there are GET stats, requests, recent, calls, config and POST config, reset, outage"}, 404
        )

    def _stats(self) -> dict[str, Any]:
        simulator = self._simulator
        now = simulator.now()
        accounts = {
            hashlib.sha256(key.encode()).hexdigest()[:12]: {
                "in_flight": account.limits.in_flight,
                "max_in_flight": account.limits.max_in_flight,
                "in_window": account.limits.in_window(simulator.config, now),
                "spent_calls": account.limits.spent_calls,
                "spent_tokens": account.limits.spent_tokens,
                "promised_s": max(0.0, account.promises.until - now),
            }
            for key, account in simulator.accounts.items()
        }
        return simulator.counters.totals() | {"outage": simulator.outage, "uptime_s": now, "accounts": accounts}


def _object(raw: bytes) -> dict[str, Any]:
    value = orjson.loads(raw or b"{}")
    if not isinstance(value, dict):
        raise orjson.JSONDecodeError("an object was expected", "", 0)
    return value


def _lines(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'config'}: {e['msg']}" for e in error.errors(include_url=False))


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
