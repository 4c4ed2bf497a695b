"""A job's way from `enqueue` to its outcome, on real parts."""

from __future__ import annotations

from producer import MiraQueue
from tests.queue_process import WorkerProcess
from tests.simulator_process import SimulatorProcess


def test_a_job_goes_in_and_its_completion_comes_out(
    queue: MiraQueue, worker: WorkerProcess, simulator: SimulatorProcess
) -> None:
    completion = queue.enqueue([{"role": "user", "content": "Hello"}]).result(timeout=60)

    assert completion.text == "Simulated answer to: Hello"
    assert completion.finish_reason == "stop"
    assert completion.usage["total_tokens"] > 0
    assert completion.body["object"] == "chat.completion"
    assert completion.attempts == 1
    assert simulator.stats()["calls"] == 1
