"""Traces, from the span of an app to that of an HTTP request, as a collector receives them."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from mira_queue import MiraQueue
from mira_queue.contract.settings import Settings
from mira_queue.contract.states import JobState
from tests.conftest import StartWorker
from tests.support.collector import Collector, Received, running_collector
from tests.support.gateway_process import started_gateway
from tests.support.queue_process import API_KEY, environment
from tests.support.run_process import run_to_the_end, write_lines
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

SECRET = "what is the secret of the lighthouse"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector, to which this process and all processes that it starts export their spans."""
    with running_collector() as running:
        for name, value in running.variables.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def traced(collector: Collector, settings: Settings, start_worker: StartWorker) -> Iterator[MiraQueue]:
    """A client, next to a worker. Both record traces."""
    start_worker(traces="on")
    with MiraQueue(settings.model_copy(update={"traces": "on"})) as queue:
        yield queue


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_the_spans_of_a_job_lead_from_the_app_to_the_request(
    traced: MiraQueue, collector: Collector, simulator: SimulatorProcess
) -> None:
    app = TracerProvider().get_tracer("an app")

    with app.start_as_current_span("a view") as view:
        job = traced.enqueue(ask(SECRET), model="mira-pro", temperature=0.5, max_tokens=50)
        other = traced.enqueue(ask("another"))
    completion = job.result(30)
    other.result(30)

    (process,) = collector.wait_for("process", messaging__message__id=job.id)
    (chat,) = collector.wait_for("chat mira-pro")
    (post,) = [span for span in collector.wait_for("POST", 2) if span.parent_id == chat.span_id]
    (send,) = collector.wait_for("send", messaging__message__id=job.id)
    context = view.get_span_context()
    assert {each.trace_id for each in (send, process, chat, post)} == {f"{context.trace_id:032x}"}
    assert [each.parent_id for each in (send, process, chat)] == [
        f"{context.span_id:016x}",
        send.span_id,
        process.span_id,
    ]
    assert (process.links, chat.links) == ([send.span_id], [])
    assert [each.kind for each in (send, process, chat, post)] == ["producer", "consumer", "client", "client"]
    assert [each.service for each in (send, process)] == ["mira-queue", "mira-queue-worker"]
    assert (process["mira.job.attempt"], process["mira.job.outcome"]) == (1, "succeeded")
    usage = completion.usage
    assert chat.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "mira-pro",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.response.finish_reasons": [completion.finish_reason],
        "gen_ai.response.id": completion.body["id"],
        "gen_ai.response.model": "mira-pro",
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.output_tokens": usage["completion_tokens"],
        "server.address": "127.0.0.1",
        "server.port": simulator.port,
    }
    assert post.attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": simulator.port,
        "url.full": f"{simulator.url}/chat/completions",
    }
    received = b"".join(request.body for request in collector.server.requests)
    assert SECRET.encode() not in received
    assert API_KEY.encode() not in received


def test_each_attempt_has_its_spans(traced: MiraQueue, collector: Collector) -> None:
    job = traced.enqueue(ask(f"[[sim:503x1]] {SECRET}"))
    job.result(30)

    first, second = sorted(
        collector.wait_for("process", 2, messaging__message__id=job.id), key=lambda span: span["mira.job.attempt"]
    )
    (send,) = collector.wait_for("send")
    assert [(each.trace_id, each.parent_id) for each in (first, second)] == [(send.trace_id, send.span_id)] * 2
    assert [each["mira.job.outcome"] for each in (first, second)] == ["waits", "succeeded"]
    assert (first.is_error, second.is_error) == (True, False)
    failed, succeeded = (under(collector, each) for each in (first, second))
    assert [(each.is_error, each["error.type"]) for each in failed] == [(True, first["error.type"]), (True, "503")]
    assert [each["http.response.status_code"] for each in (failed[1], succeeded[1])] == [503, 200]
    assert not any(SECRET in each.message for each in collector.spans)


def test_a_job_that_has_failed_names_its_code(traced: MiraQueue, collector: Collector) -> None:
    job = traced.enqueue(ask("[[sim:moderation]]"))
    assert job.outcome(30)

    (process,) = collector.wait_for("process", messaging__message__id=job.id)
    chat, post = under(collector, process)
    assert (process["mira.job.outcome"], process["error.type"], chat["error.type"]) == (
        "failed",
        "content_blocked",
        "content_blocked",
    )
    assert (post["http.response.status_code"], chat.message.startswith("HTTP 422: ")) == (422, True)


def test_a_wait_for_a_rate_limit_is_no_failure(traced: MiraQueue, collector: Collector) -> None:
    job = traced.enqueue(ask("[[sim:429x1 retry-after=0.1]]"))
    job.result(30)

    (waits,) = collector.wait_for("process", mira__job__outcome="waits")
    chat, post = under(collector, waits)
    assert (waits.is_error, waits["mira.job.code"]) == (False, "rate_limited")
    assert (chat["error.type"], post["http.response.status_code"]) == ("rate_limited", 429)


def test_prompts_and_answers_are_recorded_if_that_is_configured(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, settings: Settings, start_worker: StartWorker
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    start_worker(traces="on")
    with MiraQueue(settings) as queue:
        answer = queue.enqueue(ask(SECRET)).result(30)

    (chat,) = collector.wait_for("chat mira")
    assert SECRET in chat["gen_ai.input.messages"]
    assert answer.text[:20] in chat["gen_ai.output.messages"]


def test_a_job_of_an_app_without_traces_has_a_trace_of_its_own_id(
    collector: Collector, queue: MiraQueue, start_worker: StartWorker
) -> None:
    start_worker(traces="on")
    job = queue.enqueue(ask("Hello"))
    job.result(30)

    (process,) = collector.wait_for("process")
    assert (process.trace_id, process.parent_id, process.links) == (uuid.UUID(job.id).hex, "", [])
    assert not collector.named("send")


def test_of_an_app_that_does_not_sample_its_trace_only_failed_jobs_are_exported(
    traced: MiraQueue, collector: Collector
) -> None:
    app = TracerProvider(sampler=ALWAYS_OFF).get_tracer("an app")

    with app.start_as_current_span("a view"):
        job, failing = (traced.enqueue(ask(text)) for text in ("Hello", "[[sim:moderation]]"))
    job.result(30)
    assert failing.outcome(30)

    (process,) = collector.wait_for("process")
    assert process["messaging.message.id"] == failing.id
    assert not collector.named("send")


def test_a_job_that_expires_or_becomes_a_dead_letter_without_a_call_is_exported_too(
    collector: Collector, queue: MiraQueue, start_worker: StartWorker
) -> None:
    late = queue.enqueue(ask("Hello"), deadline=0.01)
    first = start_worker(traces="on", max_crashes=1)
    poison = queue.enqueue(ask("[[sim:slow=60]]"))
    wait_until("the call is in flight", lambda: poison.status().state is JobState.RUNNING)
    start_worker(traces="on", max_crashes=1)
    first.kill()

    for job, code in ((late, "expired"), (poison, "poison")):
        assert job.outcome(60)
        (process,) = collector.wait_for("process", messaging__message__id=job.id)
        assert (process.is_error, process["error.type"]) == (True, code)


@pytest.mark.parametrize(("traces", "is_loaded"), [("off", False), ("on", True)])
def test_the_libraries_are_only_loaded_if_traces_are_on(
    collector: Collector, redis_url: str, simulator: SimulatorProcess, traces: str, is_loaded: bool
) -> None:
    code = (
        "import sys; from mira_queue import MiraQueue; import mira_worker.app; queue = MiraQueue()\n"
        "queue.enqueue([{'role': 'user', 'content': 'Hello'}]).cancel(); queue.close()\n"
        # The client of Redis imports the SDK, if it is installed.
        "ours = 'mira_producer.traces', 'mira_worker.traces', 'opentelemetry.exporter', 'opentelemetry.util.genai'\n"
        "print([name in sys.modules for name in ours])"
    )
    settings = {"redis_url": redis_url, "api_base": simulator.url, "api_key": API_KEY, "traces": traces}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(**settings), capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.strip(), done.stderr) == (str([is_loaded] * 4), "")


def test_without_traces_nothing_is_exported_and_no_record_has_a_context(
    collector: Collector, queue: MiraQueue, start_worker: StartWorker, redis_client: Any
) -> None:
    worker = start_worker()
    job = queue.enqueue(ask("Hello"))
    job.result(30)

    assert not redis_client.hexists(f"mira:job:{job.id}", "traceparent")
    assert worker.stop() == 0
    assert not collector.server.requests


def test_the_last_spans_of_a_worker_are_exported_when_it_stops(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, queue: MiraQueue, start_worker: StartWorker
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    worker = start_worker(traces="on")
    queue.enqueue(ask("Hello")).result(30)

    assert worker.stop() == 0
    assert collector.named("process")


def test_a_worker_without_a_collector_runs_jobs_and_stops(
    monkeypatch: pytest.MonkeyPatch, closed_port: int, queue: MiraQueue, start_worker: StartWorker
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{closed_port}")
    worker = start_worker(traces="on")

    assert queue.enqueue(ask("Hello")).result(30).text
    assert worker.stop() == 0
    assert "Traceback" not in worker.log()


class TestLinesOfAFile:
    @pytest.fixture
    def run(
        self, tmp_path: Path, redis_url: str, simulator: SimulatorProcess, collector: Collector
    ) -> Callable[..., None]:
        def run(lines: list[dict[str, Any]], **settings: Any) -> None:
            write_lines(tmp_path / "input.jsonl", lines)
            started = run_to_the_end(
                tmp_path,
                "input.jsonl",
                "--workers",
                "1",
                redis_url=redis_url,
                api_base=simulator.url,
                traces="on",
                **settings,
            )
            assert started.wait() in (0, 1), started.said()

        return run

    def test_each_line_has_its_own_trace_linked_to_the_span_that_sent_it(
        self, run: Callable[..., None], collector: Collector
    ) -> None:
        run(
            [{"prompt": f"[[sim:{kind}]] {number}"} for number, kind in enumerate(["500x1", "tokens=3"])], trace_ratio=1
        )

        spans = collector.wait_for("process", 3)
        (send,) = collector.wait_for("send")
        assert send["messaging.batch.message_count"] == 2
        assert {uuid.UUID(each["messaging.message.id"]).hex: each.trace_id for each in spans} == {
            each.trace_id: each.trace_id for each in spans
        }
        assert len({each.trace_id for each in spans}) == 2
        assert all((each.parent_id, each.links) == ("", [send.span_id]) for each in spans)
        assert sorted(each["mira.job.attempt"] for each in spans) == [1, 1, 2]
        assert all(len(under(collector, each)) == 2 for each in spans)

    def test_of_those_that_are_not_in_the_sample_only_the_failed_ones_are_exported(
        self, run: Callable[..., None], collector: Collector
    ) -> None:
        prompts = [*(f"Question {number}" for number in range(20)), "[[sim:moderation]]", "[[sim:429x1]]"]
        run([{"prompt": prompt} for prompt in prompts], trace_ratio=0)

        (failed,) = collector.wait_for("process")
        assert failed["mira.job.code"] == "content_blocked"
        assert [each.name for each in under(collector, failed)] == ["chat mira", "POST"]
        assert len(collector.named("POST")) == 1


def test_a_request_to_the_gateway_continues_the_trace_of_its_client(
    collector: Collector, simulator: SimulatorProcess
) -> None:
    with started_gateway(api_base=simulator.url, traces="on") as gateway, gateway.client() as client:
        trace_id, span_id = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
        client.chat.completions.create(
            model="mira",
            messages=[{"role": "user", "content": "Hello"}],
            extra_headers={"traceparent": f"00-{trace_id}-{span_id}-01"},
        )
        client.chat.completions.create(
            model="mira",
            messages=[{"role": "user", "content": "Hello again"}],
            extra_headers={"traceparent": "00-not-a-context-01"},
        )
        processes = collector.wait_for("process", 2)
        sends = collector.wait_for("send", 2)

    (send,) = [each for each in sends if each.trace_id == trace_id]
    assert send.parent_id == span_id
    assert [each.trace_id for each in processes if each.parent_id == send.span_id] == [trace_id]


def under(collector: Collector, process: Received) -> list[Received]:
    """Return the spans of a call, the outer one first."""
    chats = [span for span in collector.spans if span.parent_id == process.span_id]
    return chats + [span for chat in chats for span in collector.spans if span.parent_id == chat.span_id]
