"""Response to an admitted call: a fault from its directives, a random fault, or an answer, after its latency."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from aiohttp import web

from mira_queue.simulator import replies, wire
from mira_queue.simulator.completion import Completion, complete
from mira_queue.simulator.counters import digest_of
from mira_queue.simulator.faults import MARK, Fault, FaultError, Script, parse_script
from mira_queue.simulator.limits import stated_wait_s
from mira_queue.simulator.replies import Reply
from mira_queue.simulator.state import Account, State
from mira_queue.simulator.validation import Call
from mira_queue.simulator.wait_headers import forced_retry_after
from mira_queue.simulator.wire import Response, send

_MARK = MARK.encode()
_NO_SCRIPT = Script()


async def respond(
    state: State, request: web.BaseRequest, account: Account, call: Call, raw: bytes, headers: Mapping[str, str]
) -> Response:
    """Respond to an admitted call. `headers` are on every complete response."""
    outcome, response = await _respond(state, request, account, call, raw, headers)
    if not response.prepared:
        response.headers.update(headers)
    return outcome, response


async def _respond(
    state: State, request: web.BaseRequest, account: Account, call: Call, raw: bytes, headers: Mapping[str, str]
) -> Response:
    config = state.config
    try:
        script = parse_script(call.contents) if _MARK in raw else _NO_SCRIPT
    except FaultError as error:
        return send(replies.detail(400, f"Simulator directive: {error}"))
    fault = None
    if script.steps:
        digest = digest_of(call)
        fault = script.step(state.steps[digest])
        state.steps[digest] += 1
    fault = fault or state.faults.draw()
    if fault is not None and fault.special == "ok":
        fault = None
    delay_s = script.slow_s + (state.random_latency_s() if fault is None else 0.0)
    if config.answer_timeout_s is not None and delay_s > config.answer_timeout_s and not call.stream:
        await asyncio.sleep(config.answer_timeout_s)
        return send(replies.TIMED_OUT)
    if delay_s > 0:
        await asyncio.sleep(delay_s)
    if config.moderation_words and any(word in text for word in config.moderation_words for text in call.contents):
        return send(replies.detail_in_string(422, error="content_blocked", category="blocked_word"))
    if fault is not None:
        state.counters.by_fault[fault.name] += 1
        if fault.special != "earlyhints":
            return await _apply(state, fault, request, account, call)
        await wire.early_hints(request, float(fault.parameters.get("late", config.hints_late_s)))
    completion = _complete(state, account, call)
    if config.api_version == "deprecated":
        headers = {**headers, **replies.VERSION_HEADERS}
    if call.stream:
        return "answered", await wire.stream(request, completion, headers)
    return send(Reply(200, completion.to_json(), headers=headers), "answered")


async def _apply(state: State, fault: Fault, request: web.BaseRequest, account: Account, call: Call) -> Response:
    config, parameters = state.config, fault.parameters
    forced = parameters.get("retry-after")
    if fault.status is not None:
        reply = replies.shaped(fault.status, fault.shape)
        return send(reply if forced is None else reply.with_headers(forced_retry_after(forced, time.time())[0]))
    if fault.special in replies.SPECIAL:
        return send(replies.SPECIAL[fault.special])
    match fault.special:
        case "rate" | "quota" | "concurrency" | "busy" as limit:
            return send(state.reject(account, limit, stated_wait_s(config, limit), forced))
        case "redirect":
            target = parameters.get("to", config.redirect_to)
            return send(Reply(307, b"", replies.TEXT, {"Location": f"http://{target}{request.raw_path}"}))
        case "reset":
            return "reset", wire.reset(request.transport)
        case "close":
            return "close", wire.close(request)
        case "truncate":
            completion = _complete(state, account, call)
            return "truncate", await wire.truncate(request, completion, stream=call.stream)
        case "huge":
            return "huge", await wire.huge(request, int(parameters.get("bytes", config.huge_bytes)))
        case "drip":
            return "drip", await wire.drip(request, config.drip_interval_s)
        case _:
            return "hang", await wire.hang()


def _complete(state: State, account: Account, call: Call) -> Completion:
    completion = complete(call, next(state.answer_numbers), int(time.time()))
    account.limits.charge(completion.prompt_tokens + completion.completion_tokens)
    return completion
