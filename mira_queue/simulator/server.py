"""The way of a call through the simulated API: outage, validation, limits, capacity, response. Each is counted."""

from __future__ import annotations

import asyncio

from aiohttp import web

from mira_queue.simulator import replies, responder, wire
from mira_queue.simulator.state import Account, State, account_name
from mira_queue.simulator.validation import MAX_BODY_BYTES, Call, Rejected, read_call
from mira_queue.simulator.wire import Outcome, Response, send

PATH = "/v1/chat/completions"


async def respond(state: State, request: web.BaseRequest, path: str) -> web.StreamResponse:
    """Respond to a call, and count it."""
    state.counters.begin()
    outcome: Outcome = "gone"
    try:
        outcome, response = await _serve(state, request, path)
        if outcome == "answered":
            outcome = 200
        return response
    except asyncio.CancelledError:
        if state.outage not in ("drop", "refuse"):
            state.counters.client_gone += 1
        else:
            outcome = state.outage  # the outage has reset the connection, not the client
        raise
    except ConnectionError:
        state.counters.client_gone += 1
        return web.Response()  # no client reads it; aiohttp would log the exception as an error of the simulator
    finally:
        state.counters.end(outcome)


async def _serve(state: State, request: web.BaseRequest, path: str) -> Response:
    config = state.config
    key = _bearer(request.headers.get("Authorization"))
    account = state.account(key) if key else None
    if state.outage is not None:
        state.counters.log_call(state.now(), state.outage, keep=config.log_calls)
    if state.outage in ("500", "503"):
        return send(replies.detail(int(state.outage)))
    if state.outage is not None:
        return state.outage, wire.reset(request.transport)
    if request.method != "POST" or not path.endswith(PATH):
        return send(replies.detail(404))
    if config.api_version == "retired":
        return send(replies.RETIRED)
    if (request.content_length or 0) > MAX_BODY_BYTES:
        return send(replies.detail(413))
    if account is None or (config.keys is not None and key not in config.keys):
        return send(replies.detail(401))
    if "json" not in request.headers.get("Content-Type", "").lower():
        message = "Content-Type must be application/json"
        return send(replies.detail_in_string(422, error="validation_error", message=message))
    try:
        raw = await request.read()
        call = read_call(raw, config)
    except web.HTTPRequestEntityTooLarge:
        return send(replies.detail(413))
    except Rejected as rejected:
        return send(rejected.reply)
    count = state.counters.request(call, keep=config.count_requests)
    count.in_flight += 1
    count.came_s.append(state.now())
    count.accounts.add(account_name(key))
    try:
        outcome, response = await _admit(state, request, account, key, call, raw)
    finally:
        count.in_flight -= 1
        count.left_s = state.now()
    count.answered += outcome == "answered"
    count.refused += outcome == 429
    return outcome, response


async def _admit(
    state: State, request: web.BaseRequest, account: Account, key: str, call: Call, raw: bytes
) -> Response:
    config = state.config
    if not config.may_use(key, call.model):
        return send(replies.detail(403))
    came_s = state.now()
    limit = account.limits.admit(config, came_s)
    entry = state.counters.log_call(came_s, limit or "admitted", keep=config.log_calls)
    if limit is not None:
        return send(state.reject(account, limit))
    try:
        if not await state.capacity.acquire(config):
            return send(state.reject(account, "busy"))
        try:
            outcome, response = await responder.respond(state, request, account, call, raw)
        finally:
            state.capacity.release()
    finally:
        account.limits.release()
        entry.left_s = state.now()
    if outcome == "answered":
        state.counters.answered += 1
    return outcome, response


def _bearer(authorization: str | None) -> str:
    scheme, _, key = (authorization or "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
