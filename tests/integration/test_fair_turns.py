"""Projects take turns: the lines of a small batch do not wait for those of a large one."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest

from tests.support.gateway_process import started_gateway
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

SLOTS, CALL_S = 3, 0.3


@pytest.fixture
def slow_api() -> Iterator[SimulatorProcess]:
    with SimulatorProcess.start(concurrency=SLOTS, latency_s=CALL_S) as simulator:
        yield simulator


def submit(client: openai.OpenAI, name: str, lines: int) -> str:
    body = {"model": "mira", "max_tokens": 8}
    content = b"".join(
        json.dumps(
            {
                "custom_id": f"{n}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {**body, "messages": [{"role": "user", "content": f"{name} {n}"}]},
            }
        ).encode()
        + b"\n"
        for n in range(lines)
    )
    file = client.files.create(file=("input.jsonl", content), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    return batch.id


def calls(api: SimulatorProcess, name: str) -> list[float]:
    """When calls with lines of a batch arrived, in seconds."""
    found = api.arrivals()
    return sorted(at for content, seen in found.items() if content.startswith(name) for at in seen["came_s"])


def test_the_first_call_of_a_small_project_starts_within_two_turns(slow_api: SimulatorProcess) -> None:
    with started_gateway(api_base=slow_api.url, max_in_flight=SLOTS) as gateway:
        large, small = (gateway.client(gateway.create_key(name)) for name in ("large", "small"))
        large_id = submit(large, "large", 5000)
        wait_until("the large batch has reached the limit", lambda: len(calls(slow_api, "large")) >= 30)

        small_id = submit(small, "small", 10)
        accepted_s = wait_until(
            "its lines are accepted",
            lambda: small.batches.retrieve(small_id).status == "in_progress" and calls(slow_api, "large")[-1],
        )
        wait_until("the small batch is done", lambda: small.batches.retrieve(small_id).status == "completed", 60)

        first_s, last_s = calls(slow_api, "small")[0], calls(slow_api, "small")[-1]
        between = [at for at in calls(slow_api, "large") if accepted_s < at < first_s]
        during = [at for at in calls(slow_api, "large") if first_s < at < last_s]
        print(f"{len(between)} calls before the first; {len(during)} alongside; {last_s - first_s:.1f} s")
        assert len(between) <= 2 * SLOTS
        # The large batch continues.
        assert during
        assert large.batches.retrieve(large_id).status == "in_progress"
        large.batches.cancel(large_id)
        wait_until("the large batch has ended", lambda: large.batches.retrieve(large_id).status == "cancelled", 60)
