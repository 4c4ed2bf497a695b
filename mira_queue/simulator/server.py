"""The simulated API: one call from its arrival to its answer. The policy is in the pure modules, their order here."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping

from aiohttp import web
from multidict import CIMultiDict

from mira_queue.simulator import answers, broken
from mira_queue.simulator.capacity import Capacity
from mira_queue.simulator.completion import DONE, Completion, complete
from mira_queue.simulator.config import OutageKind, SimulatorConfig
from mira_queue.simulator.counters import Counters, digest_of
from mira_queue.simulator.faults import MARK, Chance, Fault, FaultError, Script, parse_script
from mira_queue.simulator.limits import AccountLimits, Promises, Refusal
from mira_queue.simulator.retry_after import forced_retry_after, retry_after
from mira_queue.simulator.validation import MAX_BODY_BYTES, Call, Rejected, read_call

PATH = "/v1/chat/completions"
_MARK = MARK.encode()
_NO_SCRIPT = Script()


class Account:
    """One bearer key: what it has used, and what it was told to wait."""

    __slots__ = ("limits", "promises")

    def __init__(self) -> None:
        self.limits = AccountLimits()
        self.promises = Promises()


class Simulator:
    """The state of the simulated API. Times are seconds since its start."""

    def __init__(
        self,
        config: SimulatorConfig,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.counters = Counters()
        self.accounts: dict[str, Account] = {}
        self.outage: OutageKind | None = None
        self._clock = clock
        self._wall_clock = wall_clock
        self._started = clock()
        self._capacity = Capacity()
        self._steps: Counter[str] = Counter()
        self._answers = 0
        self._seed()

    def now(self) -> float:
        return self._clock() - self._started

    def configure(self, config: SimulatorConfig) -> None:
        """Go on with another configuration; what was used and counted stays."""
        seed, self.config = self.config.seed, config
        if config.seed != seed:
            self._seed()
        self._chance = Chance(config.faults, self._faults_source)

    def forget(self) -> None:
        """Back to the first moment: counts, logs, balances, steps of scripts and seeds; the calls under way go on."""
        self.counters.forget()
        self._steps.clear()
        self.accounts = {key: account for key, account in self.accounts.items() if account.limits.in_flight}
        for account in self.accounts.values():
            account.limits.forget()
            account.promises = Promises()
        self._seed()

    def _seed(self) -> None:
        self._faults_source = random.Random(self.config.seed)
        self._latency_source = random.Random(self.config.seed + 1)
        self._chance = Chance(self.config.faults, self._faults_source)

    async def call(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Serve a call to anything but /sim/, and count it."""
        self.counters.arrive()
        outcome: int | str = "gone"
        try:
            outcome, response = await self._serve(request, path)
            if outcome == "answered":
                outcome = 200
            return response
        except asyncio.CancelledError:
            if self.outage is None or self.outage == "503":
                self.counters.client_gone += 1
            else:
                outcome = self.outage  # we cut the connection, not the client
            raise
        except ConnectionError:
            self.counters.client_gone += 1
            return web.Response()  # nobody reads it; an exception would be logged as ours
        finally:
            self.counters.leave(outcome)

    async def _serve(self, request: web.BaseRequest, path: str) -> tuple[int | str, web.StreamResponse]:
        config = self.config
        key = _bearer(request.headers.get("Authorization"))
        account = self._account(key) if key else None
        if account is not None:
            self._watch_promises(account)
        if self.outage is not None:
            self.counters.log_call(self.now(), self.outage, keep=config.log_calls)
        if self.outage == "503":
            return self._send(answers.detail(503))
        if self.outage is not None:
            return self.outage, broken.reset(request)
        if request.method != "POST" or not path.endswith(PATH):
            return self._send(answers.detail(404))
        if config.api_version == "retired":
            return self._send(answers.retired())
        if (request.content_length or 0) > MAX_BODY_BYTES:
            return self._send(answers.detail(413))
        if account is None or (config.keys is not None and key not in config.keys):
            return self._send(answers.detail(401))
        if "json" not in request.headers.get("Content-Type", "").lower():
            return self._send(
                answers.detail_in_string(422, error="validation_error", message="Content-Type must be application/json")
            )
        try:
            raw = await request.read()
            call = read_call(raw, config)
        except web.HTTPRequestEntityTooLarge:
            return self._send(answers.detail(413))
        except Rejected as rejected:
            return self._send(rejected.reply)
        if not config.count_requests:
            return await self._admit(request, account, key, call, raw)
        count = self.counters.request(call)
        count.under_way += 1
        try:
            outcome, response = await self._admit(request, account, key, call, raw)
        finally:
            count.under_way -= 1
            count.left_s = self.now()
        count.answered += outcome == "answered"
        count.refused += outcome == 429
        return outcome, response

    async def _admit(
        self, request: web.BaseRequest, account: Account, key: str, call: Call, raw: bytes
    ) -> tuple[int | str, web.StreamResponse]:
        config = self.config
        if not config.may_use(key, call.model):
            return self._send(answers.detail(403))
        came_s = self.now()
        refusal = account.limits.admit(config, came_s)
        entry = self.counters.log_call(came_s, refusal or "admitted", keep=config.log_calls)
        if refusal is not None:
            return self._send(self._refuse(account, refusal))
        try:
            if not await self._capacity.enter(config):
                return self._send(self._refuse(account, "busy"))
            try:
                outcome, response = await self._work(request, account, call, raw)
            finally:
                self._capacity.leave()
        finally:
            account.limits.release()
            entry.left_s = self.now()
        if outcome == "answered":
            self.counters.answered += 1
        return outcome, response

    def _account(self, key: str) -> Account:
        account = self.accounts.get(key)
        if account is None:
            account = self.accounts[key] = Account()
        return account

    def _watch_promises(self, account: Account) -> None:
        now = self.now()
        match account.promises.judge(now, self.config.early_grace_s):
            case "early":
                self.counters.early += 1
                self.counters.earliest_s = max(self.counters.earliest_s, account.promises.until - now)
            case "crossed":
                self.counters.crossed += 1

    def _refuse(self, account: Account, refusal: Refusal, forced: str | None = None) -> answers.Reply:
        """402, or a 429 whose Retry-After becomes a promise."""
        config = self.config
        self.counters.by_refusal[refusal] += 1
        if refusal == "balance":
            return answers.detail(402)
        if forced is None:
            seconds = {
                "rate": config.rate_window_s if config.rate_retry_after_s is None else config.rate_retry_after_s,
                "quota": config.quota_retry_after_s,
                "concurrency": config.concurrency_retry_after_s,
                "busy": config.busy_retry_after_s,
            }[refusal]
            header, promised_s = retry_after(seconds, config.retry_after_form, self._wall_clock())
        else:
            header, promised_s = forced_retry_after(forced, self._wall_clock())
        if promised_s is not None:
            account.promises.give(self.now(), promised_s)
        headers = {} if header is None else {"Retry-After": header}
        return answers.detail(429, answers.REFUSALS[refusal], **headers)

    async def _work(
        self, request: web.BaseRequest, account: Account, call: Call, raw: bytes
    ) -> tuple[int | str, web.StreamResponse]:
        """The call was let in: meet its fault, or answer it."""
        config = self.config
        script, fault = _NO_SCRIPT, None
        if _MARK in raw:
            try:
                script = parse_script(call.contents)
            except FaultError as error:
                return self._send(answers.detail(400, f"Simulator directive: {error}"))
            if script.steps:
                digest = digest_of(call)
                fault = script.step(self._steps[digest])
                self._steps[digest] += 1
        if fault is None:
            fault = self._chance.draw()
        if fault is not None and fault.special == "ok":
            fault = None
        delay_s = script.slow_s
        if fault is None and config.latency_s[1] > 0:
            delay_s += self._latency_source.uniform(*config.latency_s)
        if config.answer_timeout_s is not None and delay_s > config.answer_timeout_s and not call.stream:
            await asyncio.sleep(config.answer_timeout_s)
            return self._send(answers.timed_out())
        if delay_s > 0:
            await asyncio.sleep(delay_s)
        if config.moderation_words and any(word in text for word in config.moderation_words for text in call.contents):
            return self._send(answers.moderation("blocked_word"))
        if fault is not None:
            self.counters.by_fault[fault.name] += 1
            if fault.special != "earlyhints":
                return await self._meet(request, account, call, fault)
            await broken.early_hints(request, float(fault.parameters.get("late", config.hints_late_s)))
        completion = self._complete(account, call)
        headers = answers.VERSION_HEADERS if config.api_version == "deprecated" else None
        if call.stream:
            return "answered", await _stream(request, completion, headers)
        return "answered", _respond(200, completion.to_json(), answers.JSON, headers)

    async def _meet(
        self, request: web.BaseRequest, account: Account, call: Call, fault: Fault
    ) -> tuple[int | str, web.StreamResponse]:
        config = self.config
        forced = fault.parameters.get("retry-after")
        if fault.status is not None:
            reply = answers.shaped(fault.status, fault.shape)
            header = None if forced is None else forced_retry_after(forced, self._wall_clock())[0]
            return self._send(reply, {} if header is None else {"Retry-After": header})
        match fault.special:
            case "rate" | "quota" | "concurrency" | "busy" as refusal:
                return self._send(self._refuse(account, refusal, forced))
            case "moderation":
                return self._send(answers.moderation("violence"))
            case "emptyobject":
                return self._send(answers.Reply(200, b"{}"))
            case "notjson":
                return self._send(answers.Reply(200, b"This is not JSON"))
            case "redirect":
                target = fault.parameters.get("to", config.redirect_to)
                return self._send(
                    answers.Reply(307, b"", answers.TEXT), {"Location": f"http://{target}{request.raw_path}"}
                )
            case "reset":
                return "reset", broken.reset(request)
            case "close":
                return "close", broken.close(request)
            case "truncate":
                completion = self._complete(account, call)
                return "truncate", await broken.truncate(request, completion, stream=call.stream)
            case "huge":
                return "huge", await broken.huge(request, int(fault.parameters.get("bytes", config.huge_bytes)))
            case "drip":
                return "drip", await broken.drip(request, config.drip_interval_s)
            case _:
                return "hang", await broken.hang()

    def _complete(self, account: Account, call: Call) -> Completion:
        self._answers += 1
        completion = complete(call, self._answers, int(self._wall_clock()))
        account.limits.charge(completion.prompt_tokens + completion.completion_tokens)
        return completion

    def _send(self, reply: answers.Reply, headers: dict[str, str] | None = None) -> tuple[int, web.StreamResponse]:
        more = {**reply.headers, **headers} if headers else reply.headers
        return reply.status, _respond(reply.status, reply.body, reply.content_type, more)


def _respond(status: int, body: bytes, content_type: str, headers: Mapping[str, str] | None) -> web.Response:
    more: CIMultiDict[str] = CIMultiDict({"Content-Type": content_type})
    if headers:
        more.update(headers)
    return web.Response(body=body, status=status, headers=more)


async def _stream(
    request: web.BaseRequest, completion: Completion, headers: Mapping[str, str] | None
) -> web.StreamResponse:
    more: CIMultiDict[str] = CIMultiDict({"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    if headers:
        more.update(headers)
    response = web.StreamResponse(headers=more)
    await response.prepare(request)
    for event in completion.to_events():
        await response.write(event)
    await response.write_eof(DONE)
    return response


def _bearer(authorization: str | None) -> str:
    if not authorization:
        return ""
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
