"""The span `chat MODEL`: one call, by OpenTelemetry's conventions for generative AI.

Its package writes the attributes. It records prompts and answers only if its variable is set to SPAN_ONLY:
OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import Tracer
from opentelemetry.util.genai.handler import TelemetryHandler
from opentelemetry.util.genai.invocation import InferenceInvocation
from opentelemetry.util.genai.types import Error

from mira_queue.contract.errors import JobError
from mira_queue.contract.outcome import Completion, Failure
from mira_queue.contract.settings import MIRA_BASE
from mira_queue.contract.token_estimate import count
from mira_queue.contract.unicode import printable
from mira_queue.runtime.span_export import SCOPE
from mira_worker.decision import Decision, Defer, Finish
from mira_worker.server_message import server_message
from mira_worker.traces.attempt import Attempt
from mira_worker.traces.backdated import BackdatedTracers
from mira_worker.traces.http_spans import HttpSpans, server_attributes
from mira_worker.traces.messages import input_messages, output_messages

# Characters of a text from a server that an attribute holds.
MAX_CHARS = 200


class ChatSpans:
    """Writes the spans of calls to one base."""

    def __init__(self, tracer: Tracer, base: str) -> None:
        self._tracers = BackdatedTracers(tracer)
        # Durations would be those of the writing.
        no_metrics = NoOpMeterProvider()
        self._handler = TelemetryHandler(self._tracers, no_metrics, instrumentation_scope_name=SCOPE)
        self._requests = HttpSpans(tracer, base)
        # Another server has OpenAI's API, and the conventions call this format by its name.
        self._provider = "mira" if base == MIRA_BASE else "openai"
        server = server_attributes(base)
        self._address, self._port = str(server["server.address"]), int(server["server.port"])

    def write(self, attempt: Attempt, decision: Decision, context: Context) -> None:
        """Write the spans of a call that ends now, and of its HTTP request. Their parent is that of the context."""
        request = orjson.loads(attempt.lease.body)
        self._tracers.since(attempt.call_began_ns)
        chat = self._handler.inference(
            self._provider,
            request_model=_text(request.get("model")),
            server_address=self._address,
            server_port=self._port,
            context=context,
        )
        if attempt.request is not None:
            self._requests.write(attempt.request, chat.context)
        _add_request(chat, request, is_streamed=attempt.lease.history.is_streamed)
        match decision:
            case Finish(outcome=Completion() as completion):
                _add_response(chat, completion)
                chat.stop()
            case Finish(outcome=Failure() as failure):
                chat.fail(_error(failure.to_error(), attempt.lease.body))
            case Defer(error=error):
                chat.fail(_error(error, attempt.lease.body))


def _error(error: JobError, request: bytes) -> Error:
    return Error(server_message(error, request), error.code)


def _add_request(chat: InferenceInvocation, request: Mapping[str, Any], *, is_streamed: bool) -> None:
    """Add the parameters of a request. A request that is not checked may have values of any type."""
    chat.request_stream = True if is_streamed or request.get("stream") is True else None
    chat.temperature = _number(request.get("temperature"))
    chat.top_p = _number(request.get("top_p"))
    chat.frequency_penalty = _number(request.get("frequency_penalty"))
    chat.presence_penalty = _number(request.get("presence_penalty"))
    chat.max_tokens = count(request.get("max_completion_tokens") or request.get("max_tokens")) or None
    chat.seed = _whole(request.get("seed"))
    chat.request_choice_count = count(request.get("n")) or None
    stop = request.get("stop")
    stops = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    chat.stop_sequences = [each for each in stops if isinstance(each, str)] or None
    if chat.should_capture_content:
        chat.input_messages = input_messages(request)


def _add_response(chat: InferenceInvocation, completion: Completion) -> None:
    body, usage = completion.body, completion.usage
    chat.response_id = _text(body.get("id"))
    chat.response_model_name = _text(body.get("model"))
    choices = [choice for choice in body["choices"] if isinstance(choice, dict)]
    reasons = [_text(choice.get("finish_reason")) for choice in choices]
    chat.finish_reasons = [reason for reason in reasons if reason]
    chat.input_tokens = count(usage.get("prompt_tokens")) or None
    chat.output_tokens = count(usage.get("completion_tokens")) or None
    chat.cache_read_input_tokens = _detail(usage, "prompt_tokens_details", "cached_tokens")
    chat.thinking_tokens = _detail(usage, "completion_tokens_details", "reasoning_tokens")
    if chat.should_capture_content:
        chat.output_messages = output_messages(choices)


def _detail(usage: Mapping[str, Any], name: str, field: str) -> int | None:
    details = usage.get(name)
    return count(details.get(field)) or None if isinstance(details, dict) else None


def _text(value: object) -> str | None:
    return printable(value)[:MAX_CHARS] if isinstance(value, str) and value else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: object) -> int | None:
    return value if type(value) is int and abs(value) < 1 << 63 else None
