"""The way of a call through the simulated API: outage, checks, limits, capacity, response. Each is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web

from mira_queue.simulator import replies, responder, wire
from mira_queue.simulator.checks import MAX_BODY_BYTES, Incoming, check
from mira_queue.simulator.completion import needed_tokens
from mira_queue.simulator.config import OutageKind
from mira_queue.simulator.exchange import Exchange
from mira_queue.simulator.replies import Rejected
from mira_queue.simulator.state import State, account_name
from mira_queue.simulator.wait_headers import NO_HEADERS
from mira_queue.simulator.wire import Outcome, Response, send

LATE_S = 10.0  # when Mira's backend responds with 500 because its database does not respond


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
        if state.outage in ("drop", "refuse"):
            outcome = state.outage  # the outage has reset the connection, not the client
        else:
            state.counters.client_gone += 1
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
    # Responses of Mira's handlers have an ID. Those of its framework have none.
    headers = {"x-request-id": state.next_request_id()} if config.backend == "mira" else NO_HEADERS
    if state.outage is not None:
        return await _respond_in_outage(state, request, state.outage, headers)
    incoming = Incoming(request.method, path, request.headers.get("Content-Type", ""), key, await _body(request))
    try:
        call = check(incoming, config)
    except Rejected as rejected:
        return send(rejected.reply.with_headers(headers) if rejected.is_from_handler else rejected.reply)
    assert account is not None
    count = state.counters.request(call, keep=config.count_requests)
    count.in_flight += 1
    count.came_s.append(state.now())
    count.accounts.add(account_name(key))
    try:
        exchange = Exchange(state, request, account, call, incoming.body or b"", headers)
        outcome, response = await _admit(exchange, key)
    finally:
        count.in_flight -= 1
        count.left_s = state.now()
    count.answered += outcome == "answered"
    count.refused += outcome == 429
    return outcome, response


async def _respond_in_outage(
    state: State, request: web.BaseRequest, outage: OutageKind, headers: Mapping[str, str]
) -> Response:
    state.counters.log_call(state.now(), outage, keep=state.config.log_calls)
    match outage:
        case "drop" | "refuse":
            return outage, wire.reset(request.transport)
        case "500late":
            await asyncio.sleep(LATE_S)
            return send(replies.detail(500).with_headers(headers))
        case "500":
            return send(replies.detail(500).with_headers(headers))
        case "503":
            return send(replies.detail(503))


async def _body(request: web.BaseRequest) -> bytes | None:
    """Return the body, or None if it is too large. Such a body is not read if its length is known."""
    if (request.content_length or 0) > MAX_BODY_BYTES:
        return None
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        return None


async def _admit(exchange: Exchange, key: str) -> Response:
    state, config, account, call = exchange.state, exchange.state.config, exchange.account, exchange.call
    if not config.may_use(key, call.model):
        return exchange.send(replies.detail(403))
    came_s = state.now()
    tokens = needed_tokens(call) if config.token_rate else 0
    verdict = account.limits.admit(config, came_s, tokens, call.model)
    entry = state.counters.log_call(came_s, verdict.limit or "admitted", keep=config.log_calls)
    exchange.headers = {
        **exchange.headers,
        **state.rate_headers(account, call.model, is_rejected=verdict.limit is not None),
    }
    if verdict.limit is not None:
        return exchange.send(state.reject(account, verdict.limit, verdict.wait_s))
    try:
        if verdict.delay_s:
            await asyncio.sleep(verdict.delay_s)
        outcome, response = await _run(exchange)
    except (asyncio.CancelledError, ConnectionError):
        account.limits.leak(config)
        raise
    finally:
        account.limits.release(call.model)
        entry.left_s = state.now()
    if outcome == "answered":
        state.counters.answered += 1
    return outcome, response


async def _run(exchange: Exchange) -> Response:
    """Wait for one of the server's slots, and respond."""
    state, config = exchange.state, exchange.state.config
    began_s, max_wait_s = state.now(), config.queue_wait_s
    if config.backend == "mira" and not exchange.call.stream and config.answer_timeout_s is not None:
        # The limit of a response is shorter than the longest wait, and counts it.
        max_wait_s = min(max_wait_s, config.answer_timeout_s)
    if not await state.capacity.acquire(config, max_wait_s):
        if max_wait_s < config.queue_wait_s and state.now() - began_s >= max_wait_s:
            return responder.timed_out(exchange)
        return await responder.busy(exchange)
    try:
        return await responder.respond(exchange, state.now() - began_s)
    finally:
        state.capacity.release()


def _bearer(authorization: str | None) -> str:
    scheme, _, key = (authorization or "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
