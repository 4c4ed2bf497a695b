"""Response to an admitted call: a fault from its directives, a random fault, or an answer, after its latency."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from mira_queue.simulator import replies, wire
from mira_queue.simulator.completion import MODEL_FAILURES, Completion, complete, failed
from mira_queue.simulator.counters import digest_of
from mira_queue.simulator.exchange import Exchange
from mira_queue.simulator.faults import MARK, Fault, FaultError, Script, parse_script
from mira_queue.simulator.limits import stated_wait_s
from mira_queue.simulator.replies import Reply
from mira_queue.simulator.wait_headers import forced_retry_after
from mira_queue.simulator.wire import Outcome, Response, send

_MARK = MARK.encode()
_NO_SCRIPT = Script()


async def respond(exchange: Exchange, waited_s: float) -> Response:
    """Respond to an admitted call that has waited so long for a slot."""
    config, call = exchange.state.config, exchange.call
    try:
        fault, delay_s = _plan(exchange)
    except FaultError as error:
        return exchange.send(replies.detail(400, f"Simulator directive: {error}"))
    timeout_s = None if call.stream else config.answer_timeout_s
    if timeout_s is not None and waited_s + delay_s > timeout_s:
        await asyncio.sleep(timeout_s - waited_s)
        return timed_out(exchange)
    is_answer = fault is None or fault.special in ("earlyhints", *MODEL_FAILURES)
    # A stream of Mira's real backend begins before the answer is known.
    begins_early = is_answer and call.stream and exchange.is_mira
    if delay_s > 0 and not begins_early:
        await asyncio.sleep(delay_s)
    if config.moderation_words and any(word in text for word in config.moderation_words for text in call.contents):
        exchange.leak()
        return exchange.send(replies.MODERATED)
    if fault is not None:
        exchange.state.counters.by_fault[fault.name] += 1
    if fault is None or is_answer:
        return await _answer(exchange, fault, delay_s if begins_early else 0.0)
    outcome, response = await _apply(exchange, fault)
    if not response.prepared:
        response.headers.update(exchange.headers)
    return outcome, response


def timed_out(exchange: Exchange) -> Response:
    """Respond that a response has taken too long."""
    exchange.leak()
    return send(replies.TIMED_OUT)


async def busy(exchange: Exchange) -> Response:
    """Respond that the server is busy: with a 429, or inside the stream of Mira's real backend."""
    exchange.leak()
    if exchange.is_mira and exchange.call.stream:
        return "busy", await wire.queue_full(exchange.request, exchange.headers)
    state = exchange.state
    return exchange.send(state.reject(exchange.account, "busy", state.config.busy_retry_after_s))


def _plan(exchange: Exchange) -> tuple[Fault | None, float]:
    """Return the fault of this call, and how long its response takes. Raise FaultError for a wrong directive."""
    state, call = exchange.state, exchange.call
    script = parse_script(call.contents) if _MARK in exchange.raw else _NO_SCRIPT
    fault = None
    if script.steps:
        digest = digest_of(call)
        fault = script.step(state.steps[digest])
        state.steps[digest] += 1
    fault = fault or state.faults.draw()
    if fault is None or fault.special == "ok":
        return None, script.slow_s + state.random_latency_s()
    late_s = 0.0 if fault.status is None else float(fault.parameters.get("late", 0))
    return fault, script.slow_s + late_s


async def _answer(exchange: Exchange, fault: Fault | None, delay_s: float) -> Response:
    """Send a completion: of a model that works, or of one that has failed."""
    state, request, headers = exchange.state, exchange.request, exchange.headers
    outcome: Outcome = "answered"
    if fault is not None and fault.special == "earlyhints":
        await wire.early_hints(request, float(fault.parameters.get("late", state.config.hints_late_s)))
    completion = _complete(exchange)
    if fault is not None and fault.special in MODEL_FAILURES:
        completion, outcome = failed(completion, fault.special), fault.name
    if state.config.api_version == "deprecated":
        headers = {**headers, **replies.VERSION_HEADERS}
    if not exchange.call.stream:
        return send(Reply(200, completion.to_json(), headers=headers), outcome)
    if exchange.is_mira:
        return outcome, await wire.mira_stream(request, completion, headers, delay_s)
    return outcome, await wire.stream(request, completion, headers)


async def _apply(exchange: Exchange, fault: Fault) -> Response:
    config, request, parameters = exchange.state.config, exchange.request, fault.parameters
    forced = parameters.get("retry-after")
    if fault.status is not None:
        reply = replies.shaped(fault.status, fault.shape)
        return send(reply if forced is None else reply.with_headers(forced_retry_after(forced, time.time())[0]))
    if fault.special in replies.SPECIAL:
        if fault.special == "moderation":
            exchange.leak()
        return send(replies.SPECIAL[fault.special])
    match fault.special:
        case "busy" if forced is None:
            return await busy(exchange)
        case "rate" | "quota" | "concurrency" | "busy" as limit:
            return send(exchange.state.reject(exchange.account, limit, stated_wait_s(config, limit), forced))
        case "redirect":
            target = parameters.get("to", config.redirect_to)
            return send(Reply(307, b"", replies.TEXT, {"Location": f"http://{target}{request.raw_path}"}))
        case "reset":
            return "reset", wire.reset(request.transport)
        case "close":
            return "close", wire.close(request)
        case "truncate":
            return "truncate", await wire.truncate(request, _complete(exchange), stream=exchange.call.stream)
        case "huge":
            return "huge", await wire.huge(request, int(parameters.get("bytes", config.huge_bytes)))
        case "drip":
            return "drip", await wire.drip(request, config.drip_interval_s)
        case _:
            return "hang", await wire.hang()


def _complete(exchange: Exchange) -> Completion:
    completion = complete(exchange.call, next(exchange.state.answer_numbers), int(time.time()))
    if exchange.is_mira:
        completion = replace(completion, finish_reason="stop")
    exchange.account.limits.charge(completion.prompt_tokens + completion.completion_tokens)
    return completion
