"""Responses of public servers, and what each means. The socket tests and docs/errors.md are made from this table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

Expected = Literal["answered", "terminal", "account", "rate-limited", "fault"]
# How the body ends: with its length, with the connection, or not at all (the connection stays open).
End = Literal["length", "closed", "open", "cut"]

SSE = {"Content-Type": "text/event-stream"}
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@dataclass(frozen=True)
class Case:
    """One response. `wait_s` is the wait that it states, `paid` the tokens that were paid for without an answer."""

    what: str
    source: str
    expected: Expected
    code: str = ""
    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    end: End = "length"
    text: str = ""
    wait_s: float = 0
    paid: int = 0
    says: str = ""

    @property
    def raw(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else orjson.dumps(self.body)


def answer(content: Any, finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **more.pop("message", {})}
    choice = {"index": 0, "message": message, "finish_reason": finish, **more.pop("choice", {})}
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": USAGE, **more}


def error(message: str = "no", **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


def event(chunk: Any) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def part(text: str | None, finish: str | None = None, **more: Any) -> bytes:
    return event({"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}], **more})


DONE = b"data: [DONE]\n\n"
LIMIT_TEXT = "Request too large for gpt-4 on tokens per min (TPM): Limit 30000, Requested 342389."

ANSWERS = [
    Case("200 with a chat completion", "OpenAI", "answered", body=answer("Hi"), text="Hi"),
    Case(
        "200, content is a list of parts", "Mistral", "answered", text="Hi you",
        body=answer([{"type": "text", "text": "Hi"}, {"type": "text", "text": " you"}]),
    ),
    Case(
        "200, no content, but a tool call", "OpenAI", "answered",
        body=answer(None, "tool_calls", message={"tool_calls": [{"id": "1", "type": "function"}]}),
    ),
    Case("200, no content, `finish_reason` `length`", "Gemini", "answered", body=answer("", "length")),
    Case(
        "200, no content, but reasoning", "Birfy/agentdescent#11", "answered",
        body=answer(None, message={"reasoning_content": "hm"}),
    ),
    Case("200, `error` is null", "ollama/ollama#13371", "answered", body={**answer("Hi"), "error": None}, text="Hi"),
]  # fmt: skip

NOT_ANSWERS = [
    Case(
        "200, `error.code` 402", "OpenRouter; SWE-agent/mini-swe-agent#902", "account", "balance_used_up",
        body=error("Insufficient credits", code=402), says="Insufficient credits",
    ),
    Case("200, `error.code` 429", "OpenRouter", "rate-limited", "rate_limited", body=error(code=429), wait_s=60),
    Case("200, `error.code` 400", "OpenRouter", "terminal", "bad_request", body=error(code=400)),
    Case("200, `error.code` 502", "OpenRouter", "fault", "server_error", body=error(code=502)),
    Case(
        "200, choices and an `error` with the code 429", "BerriAI/litellm#8448", "rate-limited", "rate_limited",
        body={**answer(None), **error("Provider returned error", code=429)}, wait_s=60,
    ),
    Case(
        "200, a choice with `finish_reason` `error`", "maximhq/bifrost#5425", "fault", "broken_answer",
        body=answer("Half an ans", "error"), paid=10,
    ),
    Case(
        "200, a choice with an `error`", "maximhq/bifrost#5425", "fault", "broken_answer",
        body=answer("Half", choice={"error": {"code": 502, "message": "upstream"}}), paid=10, says="upstream",
    ),
    Case(
        "200, an error text in the place of an answer", "Mira", "fault", "broken_answer",
        body=answer("Ошибка: Stream request failed: connection refused"), paid=10, says="MIRA_FAILED_ANSWER",
    ),
    Case(
        "200, a partial answer and an error text", "Mira", "fault", "broken_answer",
        body=answer("The sky is\n\nОшибка: Stream read error"), paid=10, says="MIRA_FAILED_ANSWER",
    ),
    Case("200, empty content", "Mira", "fault", "broken_answer", body=answer(""), paid=10, says="empty"),
    Case(
        "200, content is null, nothing was used", "ollama/ollama#13371", "fault", "broken_answer",
        body={**answer(None), "usage": {"prompt_tokens": 0, "completion_tokens": 0}},
    ),
    Case(
        "200, `choices` is empty, with a usage", "BerriAI/litellm#40252", "fault", "broken_answer",
        body={"choices": [], "usage": USAGE}, paid=10,
    ),
    Case("200, `choices` is null", "langchain-ai/langchain#32252", "fault", "broken_answer", body={"choices": None}),
    Case(
        "200, a flat error", "XpressAI/xaibo#36", "rate-limited", "rate_limited",
        body={"code": "rate_limit_daily", "message": "Error code: 429"}, wait_s=60, says="Error code: 429",
    ),
    Case(
        "200, `object` is `error`", "vLLM, FastChat", "terminal", "bad_request",
        body={"object": "error", "message": "no", "type": "BadRequestError", "code": 400},
    ),
    Case("200, a page of HTML", "proxies", "fault", "broken_answer", body=b"<html><h1>Sign in</h1>", says="Sign in"),
    Case("200, JSON that breaks off", "proxies", "fault", "broken_answer", body=b'{"choices": [{"mess', end="cut"),
]  # fmt: skip

STREAMS = [
    Case("a stream that ends with `[DONE]`", "OpenAI", "answered", headers=SSE, body=part("Hi") + DONE, text="Hi"),
    Case(
        "`[DONE]`, and the connection stays open", "agentscope-java#2073", "answered", headers=SSE, end="open",
        body=part("Hi") + DONE, text="Hi",
    ),
    Case(
        "a chunk with `finish_reason`, then the end, without `[DONE]`", "ik_llama.cpp#467", "answered", headers=SSE,
        end="closed", body=part("Hi", "stop"), text="Hi",
    ),
    Case(
        "a chunk with `finish_reason`, then the connection breaks", "ik_llama.cpp#467", "answered", headers=SSE,
        end="cut", body=part("Hi", "stop"), text="Hi",
    ),
    Case(
        "blank lines, comments, and CRLF", "DeepSeek-V3#407, langchaingo#942", "answered", headers=SSE, text="Hi",
        body=b"\r\n: ping\r\n\r\n" + part("Hi").replace(b"\n", b"\r\n") + b": ping\r\n\r\n" + DONE,
    ),
    Case(
        "a first chunk with null content, no blank line after `[DONE]`", "darshi1337/apogee#139", "answered",
        headers=SSE, body=part(None) + part("Hi", "stop") + b"data: [DONE]", text="Hi",
    ),
    Case(
        "a stream with the content type of JSON", "proxies", "answered", headers={"Content-Type": "application/json"},
        body=part("Hi", "stop") + DONE, text="Hi",
    ),
    Case("JSON with the content type of a stream", "proxies", "answered", headers=SSE, body=answer("Hi"), text="Hi"),
    Case("half an answer, then the end", "any", "fault", "broken_answer", headers=SSE, body=part("Ha"), end="closed"),
    Case(
        "an `error` chunk with the code 500, then `[DONE]`", "vllm-project/guidellm#743", "fault", "server_error",
        headers=SSE, body=part("Half") + event(error("engine died", code=500)) + DONE, says="engine died",
    ),
    Case(
        "an `error` chunk `queue_full`, without `[DONE]`", "Mira", "fault", "server_error", headers=SSE, end="closed",
        body=b": ping\n\n" + event({"error": "queue_full"}), says="queue_full",
    ),
    Case(
        "a chunk with an `error` in its choice", "maximhq/bifrost#5425", "fault", "broken_answer", headers=SSE,
        body=part("Half") + event({"choices": [{"index": 0, "delta": {}, "error": {"message": "lost"}}]}) + DONE,
        says="lost",
    ),
    Case(
        "a chunk with `finish_reason` `error`", "maximhq/bifrost#5425", "fault", "broken_answer", headers=SSE,
        body=part("Half", "error", usage=USAGE) + DONE, paid=10,
    ),
    Case(
        "a line `error: {...}`, then `[DONE]`", "ggml-org/llama.cpp#16109, coddy-agent#106", "terminal", "bad_request",
        headers=SSE, body=b'error: {"code":400,"message":"exceeds the context size"}\n\n' + DONE, says="context size",
    ),
    Case(
        "`event: error`", "ggml-org/llama.cpp#16109", "fault", "server_error", headers=SSE,
        body=part("Half") + b'event: error\ndata: {"type":"overloaded_error","message":"busy"}\n\n', says="busy",
    ),
    Case(
        "an answer of Mira's failed model", "Mira", "fault", "broken_answer", headers=SSE,
        body=part("The sky") + part("\n\nОшибка: Stream read error", "stop") + DONE, says="MIRA_FAILED_ANSWER",
    ),
]  # fmt: skip

REJECTIONS = [
    Case("400", "Mira", "terminal", "bad_request", 400, {"detail": "Unknown model"}, says="Unknown model"),
    Case("401", "Mira", "account", "invalid_key", 401, {"detail": "Invalid or expired API key"}),
    Case("402", "Mira", "account", "balance_used_up", 402, {"detail": "Insufficient balance"}),
    Case("403 with a reason", "Mira", "account", "model_not_in_plan", 403, {"detail": "not in your plan"}),
    Case("403 `Forbidden`", "Mira, wrong path", "account", "forbidden", 403, b"Forbidden", says="MIRA_API_BASE"),
    Case("403, empty", "Mira, wrong path", "account", "forbidden", 403, says="MIRA_API_BASE"),
    Case(
        "403 with `metadata.reasons`", "OpenRouter; Davidvandijcke/coarse#193", "terminal", "content_blocked", 403,
        error("Your chosen model requires moderation", code=403, metadata={"reasons": ["violence"]}), says="violence",
    ),
    Case("404, empty", "Mira, wrong path", "terminal", "not_found", 404, says="MIRA_API_BASE"),
    Case("405", "Mira", "terminal", "refused", 405, says="MIRA_API_BASE"),
    Case("408, empty", "Mira", "fault", "server_timeout", 408),
    Case("409, 425, 498 (shown: 498)", "Groq; laravel/ai#925", "fault", "server_error", 498, error("at capacity")),
    Case("410", "Mira", "terminal", "gone", 410, {"detail": "retired"}),
    Case("413", "Mira", "terminal", "too_large", 413, {"detail": "Request body too large"}),
    Case(
        "413 `rate_limit_exceeded`, requested more than the limit", "Groq; ha-groq-cloud-api#27", "terminal",
        "too_large", 413, error("TPM: Limit 6000, Requested 12328", type="tokens", code="rate_limit_exceeded"),
    ),
    Case("422 in plain text", "Mira", "terminal", "unprocessable", 422, b"Failed to deserialize", says="deserialize"),
    Case(
        "422 by moderation", "Mira", "terminal", "content_blocked", 422,
        {"detail": '{"error": "content_blocked", "category": "violence"}'}, says="violence",
    ),
    Case(
        "400 `content_filter`", "Azure", "terminal", "content_blocked", 400,
        error("filtered", code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}),
    ),
    Case(
        "400 `context_length_exceeded`", "OpenAI", "terminal", "too_large", 400,
        error("maximum context length", code="context_length_exceeded"),
    ),
    Case(
        "400 `API_KEY_INVALID`", "Gemini", "account", "invalid_key", 400,
        [error("API key not valid", status="INVALID_ARGUMENT", details=[{"reason": "API_KEY_INVALID"}])],
    ),
    Case(
        "429 `insufficient_quota`", "langchain-ai/langchainjs#1929", "account", "balance_used_up", 429,
        error("You exceeded your current quota", code="insufficient_quota"), says="exceeded your current quota",
    ),
    Case(
        "429 `exceeded_current_quota_error`", "MoonshotAI/kimi-code#1857", "account", "balance_used_up", 429,
        error("suspended due to insufficient balance", type="exceeded_current_quota_error"), says="insufficient",
    ),
    Case(
        "429, requested more than the limit", "vanna-ai/vanna-flask#11", "terminal", "too_large", 429,
        error(LIMIT_TEXT, type="tokens", code="rate_limit_exceeded"), {"Retry-After": "20"}, says="342389",
    ),
    Case("500", "Mira", "fault", "server_error", 500, {"detail": "Internal server error"}),
    Case("502, a page of HTML", "proxies", "fault", "server_error", 502, b"<html><h1>Bad gateway</h1>", says="Bad"),
    Case(
        "500 with `error.code` 429", "continuedev/continue#10560", "rate-limited", "rate_limited", 500,
        error('{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "exhausted"}}', code=429),
        wait_s=60, says="exhausted",
    ),
    Case("524", "Cloudflare", "fault", "server_error", 524, b"error code: 524"),
    Case("307", "any", "terminal", "redirected", 307, headers={"Location": "https://x.example/v1"}, says="x.example"),
]  # fmt: skip


def _limited(what: str, source: str, wait_s: float, body: Any = b"", status: int = 429, **headers: str) -> Case:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    expected: Expected = "rate-limited" if status == 429 else "fault"
    code = "rate_limited" if status == 429 else "server_error"
    return Case(what, source, expected, code, status, body, names, wait_s=wait_s)


# `Date` makes waits that are stated as a time certain.
NOW_S = 1_767_225_600
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"

WAITS = [
    _limited("no wait", "any", 60),
    _limited("`Retry-After: 5`", "Mira", 5, Retry_After="5"),
    _limited("`Retry-After: 3.217`", "any", 3.217, Retry_After="3.217"),
    _limited("`Retry-After` as a date", "RFC 9110", 30, Date=DATE, Retry_After="Thu, 01 Jan 2026 00:00:30 GMT"),
    _limited(
        "`Retry-After` as a Unix time", "cloud_controller_ng#2544", 42, Date=DATE, Retry_After=str(NOW_S + 42)
    ),
    _limited("`Retry-After`, twice", "proxies", 9, Retry_After="5, 9"),
    _limited("`Retry-After: 0`", "any", 1, Retry_After="0"),
    _limited("`retry-after-ms: 3217`", "OpenAI", 3.217, retry_after_ms="3217"),
    _limited("`x-ms-retry-after-ms: 800`", "Azure", 0.8, x_ms_retry_after_ms="800"),
    _limited("`Retry-After: 4` and `retry-after-ms: 3217`", "OpenAI", 4, Retry_After="4", retry_after_ms="3217"),
    _limited("`Retry-After: soon` and `retry-after-ms: 900`", "any", 0.9, Retry_After="soon", retry_after_ms="900"),
    _limited("`x-ratelimit-reset-requests: 6m0s`", "OpenAI", 360, x_ratelimit_reset_requests="6m0s"),
    _limited("`x-ratelimit-reset-tokens: 20ms`", "OpenAI", 0.02, x_ratelimit_reset_tokens="20ms"),
    _limited(
        "no requests left for 1s, tokens left for 6m0s", "OpenAI", 1, x_ratelimit_remaining_requests="0",
        x_ratelimit_reset_requests="1s", x_ratelimit_remaining_tokens="149984", x_ratelimit_reset_tokens="6m0s",
    ),
    _limited("`X-RateLimit-Reset` in Unix seconds", "GitHub", 30, Date=DATE, X_RateLimit_Reset=str(NOW_S + 30)),
    _limited(
        "`X-RateLimit-Reset` in Unix milliseconds", "OpenRouter", 30.5, Date=DATE,
        X_RateLimit_Reset=str((NOW_S + 30) * 1000 + 500),
    ),
    _limited(
        "`X-RateLimit-Reset` in the body, in `error.metadata.headers`", "dirge-code/dirge#719", 15,
        error(code=429, metadata={"headers": {"X-RateLimit-Reset": str((NOW_S + 15) * 1000)}}), Date=DATE,
    ),
    _limited(
        "`anthropic-ratelimit-requests-reset` as a date", "anthropic-sdk-typescript#357", 20, Date=DATE,
        anthropic_ratelimit_requests_remaining="0", anthropic_ratelimit_requests_reset="2026-01-01T00:00:20Z",
    ),
    _limited("`RateLimit: \"default\";r=0;t=30`", "IETF draft 8", 30, RateLimit='"default";r=0;t=30'),
    _limited(
        "`RateLimit` with two quotas, one used up", "IETF draft 8", 5,
        RateLimit='"burst";r=0;t=5, "daily";r=900;t=3600',
    ),
    _limited("`RateLimit: remaining=0, reset=7`", "IETF draft 7", 7, RateLimit="limit=9, remaining=0, reset=7"),
    _limited("`RateLimit-Reset: 8`", "IETF draft 2", 8, RateLimit_Remaining="0", RateLimit_Reset="8"),
    _limited(
        "`retryDelay: 26s` in the body", "Gemini; RooCodeInc/Roo-Code#3883", 26,
        [error("Quota exceeded", code=429, details=[{"@type": "x/google.rpc.RetryInfo", "retryDelay": "26s"}])],
    ),
    _limited("`retry_after: 0.5` in the body", "any", 0.5, {"message": "slow down", "retry_after": 0.5}),
    _limited("`Retry-After: 999999`", "any", 86_400, Retry_After="999999"),
    _limited("503, `Retry-After: 10`", "microsoft/kernel-memory#795", 10, status=503, Retry_After="10"),
    _limited("503, `x-ms-retry-after-ms: 900`", "Azure", 0.9, status=503, x_ms_retry_after_ms="900"),
    _limited("503, `RateLimit`", "any", 30, status=503, RateLimit='"default";r=0;t=30'),
    _limited("503 without a wait", "any", 0, status=503),
]  # fmt: skip

SECTIONS = {
    "Answers": ANSWERS,
    "Responses with status 200 that are not answers": NOT_ANSWERS,
    "Streams": STREAMS,
    "Rejections and faults": REJECTIONS,
    "Waits": WAITS,
}
