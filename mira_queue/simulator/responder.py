"""Response to an admitted call: a fault from its directives, a random fault, or an answer, after its latency."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web

from mira_queue.simulator import replies, wire
from mira_queue.simulator.completion import Completion, complete
from mira_queue.simulator.counters import digest_of
from mira_queue.simulator.faults import MARK, Fault, FaultError, Script, parse_script
from mira_queue.simulator.replies import Reply
from mira_queue.simulator.retry_after import forced_retry_after
from mira_queue.simulator.state import Account, State, retry_after_header
from mira_queue.simulator.validation import Call

# How a call ended, for the counts: an HTTP status, "answered", or the name of a broken response.
Outcome = int | str
Response = tuple[Outcome, web.StreamResponse]
_MARK = MARK.encode()
_NO_SCRIPT = Script()


class Responder:
    """Responds to admitted calls."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._answers = 0

    async def respond(self, request: web.BaseRequest, account: Account, call: Call, raw: bytes) -> Response:
        state, config = self._state, self._state.config
        try:
            script = parse_script(call.contents) if _MARK in raw else _NO_SCRIPT
        except FaultError as error:
            return send(replies.detail(400, f"Simulator directive: {error}"))
        fault = self._next_step(script, call) or state.random_fault()
        if fault is not None and fault.special == "ok":
            fault = None
        delay_s = script.slow_s + (state.random_latency_s() if fault is None else 0.0)
        if config.answer_timeout_s is not None and delay_s > config.answer_timeout_s and not call.stream:
            await asyncio.sleep(config.answer_timeout_s)
            return send(replies.timed_out())
        if delay_s > 0:
            await asyncio.sleep(delay_s)
        if config.moderation_words and any(word in text for word in config.moderation_words for text in call.contents):
            return send(replies.moderation("blocked_word"))
        if fault is not None:
            state.counters.by_fault[fault.name] += 1
            if fault.special != "earlyhints":
                return await self._apply(fault, request, account, call)
            await wire.early_hints(request, float(fault.parameters.get("late", config.hints_late_s)))
        completion = self._complete(account, call)
        headers = replies.VERSION_HEADERS if config.api_version == "deprecated" else wire.NO_HEADERS
        if call.stream:
            return "answered", await wire.stream(request, completion, headers)
        return "answered", wire.send(Reply(200, completion.to_json()), headers)

    def _next_step(self, script: Script, call: Call) -> Fault | None:
        if not script.steps:
            return None
        digest = digest_of(call)
        self._state.steps[digest] += 1
        return script.step(self._state.steps[digest] - 1)

    async def _apply(self, fault: Fault, request: web.BaseRequest, account: Account, call: Call) -> Response:
        config, parameters = self._state.config, fault.parameters
        forced = parameters.get("retry-after")
        if fault.status is not None:
            header = None if forced is None else forced_retry_after(forced, time.time())[0]
            return send(replies.shaped(fault.status, fault.shape), retry_after_header(header))
        match fault.special:
            case "rate" | "quota" | "concurrency" | "busy" as limit:
                return send(self._state.reject(account, limit, forced))
            case "moderation":
                return send(replies.moderation("violence"))
            case "emptyobject":
                return send(Reply(200, b"{}"))
            case "notjson":
                return send(Reply(200, b"This is not JSON"))
            case "redirect":
                target = parameters.get("to", config.redirect_to)
                return send(Reply(307, b"", replies.TEXT), {"Location": f"http://{target}{request.raw_path}"})
            case "reset":
                return "reset", wire.reset(request)
            case "close":
                return "close", wire.close(request)
            case "truncate":
                completion = self._complete(account, call)
                return "truncate", await wire.truncate(request, completion, stream=call.stream)
            case "huge":
                return "huge", await wire.huge(request, int(parameters.get("bytes", config.huge_bytes)))
            case "drip":
                return "drip", await wire.drip(request, config.drip_interval_s)
            case _:
                return "hang", await wire.hang()

    def _complete(self, account: Account, call: Call) -> Completion:
        self._answers += 1
        completion = complete(call, self._answers, int(time.time()))
        account.limits.charge(completion.prompt_tokens + completion.completion_tokens)
        return completion


def send(reply: Reply, headers: dict[str, str] | None = None) -> Response:
    return reply.status, wire.send(reply, headers or wire.NO_HEADERS)
