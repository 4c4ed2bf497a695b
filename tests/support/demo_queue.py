"""A queue with something to see in every view of the page: for checks of all views, and for screenshots."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import openai

from mira_queue import MiraQueue
from mira_queue.ledger.connection import connect
from tests.support.batch_steps import end_supervisors
from tests.support.gateway_process import Gateway, started_gateway
from tests.support.page_browser import Browser, signed_in
from tests.support.raw_server import response
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import LOCAL, receiver

# A limit that is learned within seconds, and keeps the open batch open.
RATE, WINDOW_S, LATENCY_S = 30, 6, [0.2, 1.2]
OPEN_LINES, ENDED_LINES = 5000, 40
TOPICS = ("delivery", "refund", "invoice", "warranty", "size", "color", "returns")
FAULTS = {3: "[[sim:422]]", 11: "[[sim:422]]", 17: "[[sim:moderation]]", 23: "[[sim:500]]", 31: "[[sim:422]]"}
PRICES = (
    'currency = "EUR"\n[models.mira]\nprompt = 1.0\ncompletion = 2.0\n[models.mira-pro]\nprompt = 4\ncompletion = 8\n'
)
INVALID = (
    '{"custom_id": "ticket-2", "body": {"model": "mira", "messages": [{"role": "user"}]}}',
    '{"custom_id": "ticket-3", "body": {"model": "mira", "messages": "Where is my parcel?"}}',
    '{"custom_id": "ticket-4" "prompt": "Where is my parcel?"}',
)
LATER = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class Demo:
    """The gateway, and the paths of views of single objects."""

    gateway: Gateway
    open_batch: str
    ended_batch: str
    paused_batch: str
    invalid_file: str
    failed_job: str
    succeeded_job: str
    account: str

    @property
    def views(self) -> tuple[str, ...]:
        """One path of every view."""
        return (
            "/",
            "/batches",
            "/batches?status=errors",
            "/batches/new",
            self.invalid_file,
            self.open_batch,
            self.paused_batch,
            self.ended_batch,
            f"{self.ended_batch}/answers",
            f"{self.ended_batch}/errors",
            f"{self.ended_batch}/verify",
            f"{self.ended_batch}/report",
            "/jobs",
            "/jobs?state=failed&metadata=tenant%3D7",
            "/jobs?q=no+such+key",
            self.failed_job,
            self.succeeded_job,
            "/jobs/all/confirm?verb=cancel",
            "/accounts",
            self.account,
            "/workers",
            "/webhooks",
        )


@contextmanager
def demo_queue() -> Iterator[Demo]:
    """Start a simulator and a gateway with two workers, and fill the queue. It takes about a minute."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        (folder / "prices.toml").write_text(PRICES)
        limits: dict[str, Any] = {"rate": RATE, "rate_window_s": WINDOW_S, "latency_s": LATENCY_S}
        simulator = stack.enter_context(SimulatorProcess.start(**limits))
        app = stack.enter_context(receiver(lambda _: response(503)))
        settings: dict[str, Any] = {"api_base": simulator.url, "webhook_hosts": LOCAL[0]}
        gateway = stack.enter_context(started_gateway("--prices", str(folder / "prices.toml"), **settings))
        queue = stack.enter_context(MiraQueue(gateway.settings))
        client = stack.enter_context(gateway.client())
        browser = stack.enter_context(signed_in(gateway))
        yield _filled(gateway, queue, client, browser, app.url)
        end_supervisors(queue)
        assert gateway.stop() == 0
        # The queue is full of open lines.
        with connect(queue.redis_url) as server:
            server.flushall()


def line(name: str, content: str, model: str = "mira") -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {
        "custom_id": name,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": model, "messages": messages},
    }


def _filled(gateway: Gateway, queue: MiraQueue, client: openai.OpenAI, browser: Browser, app_url: str) -> Demo:
    endpoint = {"url": app_url, "name": "app", "event_types": ["batch.completed"]}
    client.post("/webhook_endpoints", body=endpoint, cast_to=object)
    succeeded, failed = _jobs(queue)
    ended = _batch(client, "reviews.jsonl", _reviews(ENDED_LINES, FAULTS), "24h")
    wait_until("the first batch ends", lambda: client.batches.retrieve(ended).status == "completed", 120)
    paused = _batch(client, "contracts.jsonl", _reviews(400, {}, "contract"), "24h")
    wait_until("lines are answered", lambda: _done(client, paused))
    assert browser.act(f"/batches/{paused}/pause").status_code == 200
    running = _batch(client, "products.jsonl", _reviews(OPEN_LINES, {}, "product"), "24h")
    wait_until("lines are answered", lambda: _done(client, running))
    wrong = _upload(client, "tickets.jsonl", f"{json.dumps(line('ticket-1', 'Hello'))}\n" + "\n".join(INVALID) + "\n")
    check = f"/batches/new/{wrong}"
    wait_until("the file is checked", lambda: "are invalid" in browser.get(check).text)
    return Demo(
        gateway,
        f"/batches/{running}",
        f"/batches/{ended}",
        f"/batches/{paused}",
        check,
        f"/jobs/{failed}",
        f"/jobs/{succeeded}",
        f"/accounts/{queue.accounts.current.id}",
    )


def _reviews(count: int, faults: dict[int, str], noun: str = "review") -> list[dict[str, Any]]:
    return [
        line(f"{noun}-{n}", f"Summarize {noun} {n} about {TOPICS[n % 7]} in one sentence. {faults.get(n, '')}".strip())
        for n in range(1, count + 1)
    ]


def _jobs(queue: MiraQueue) -> tuple[str, str]:
    """Add jobs of two tenants: some succeed, some fail, some wait. Return one that succeeds, and one that fails."""
    texts = [f"Write a friendly reply to order {n} about {TOPICS[n % 7]}." for n in range(1, 9)]
    good = [
        queue.enqueue([{"role": "user", "content": text}], key=f"order-{n}", metadata={"tenant": str(7 + n % 2)})
        for n, text in enumerate(texts, 1)
    ]
    bad = [
        queue.enqueue([{"role": "user", "content": f"Translate order {n}. {fault}"}], metadata={"tenant": "7"})
        for n, fault in enumerate(("[[sim:500]]", "[[sim:422]]", "[[sim:moderation]]"), 1)
    ]
    for number in range(3):
        queue.enqueue(
            [{"role": "user", "content": f"Remind customer {number}."}], delay=LATER, metadata={"tenant": "8"}
        )
    wait_until("jobs end", lambda: all(job.status().state.is_final for job in (*good, *bad)), 120)
    return good[0].id, bad[0].id


def _upload(client: openai.OpenAI, name: str, content: str) -> str:
    return client.files.create(file=(name, io.BytesIO(content.encode())), purpose="batch").id


def _batch(client: openai.OpenAI, name: str, lines: list[dict[str, Any]], window: Any) -> str:
    file = _upload(client, name, "".join(f"{json.dumps(each)}\n" for each in lines))
    return client.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window=window).id


def _done(client: openai.OpenAI, batch: str) -> bool:
    counts = client.batches.retrieve(batch).request_counts
    return counts is not None and counts.completed > 0
