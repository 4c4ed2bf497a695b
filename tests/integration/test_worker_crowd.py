"""Two workers share an account: what one of them is told, both obey."""

from __future__ import annotations

from mira_queue import MiraQueue
from tests.conftest import StartWorker
from tests.support.simulator_process import SimulatorProcess

TIMEOUT_S = 120


def hello(text: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}]}


def test_two_workers_of_one_account_never_knock_while_it_is_locked_out(
    queue: MiraQueue, simulator: SimulatorProcess, start_worker: StartWorker
) -> None:
    """The server's log counts refused calls too: whoever keeps knocking stays out."""
    simulator.configure(rate=20, rate_window_s=1.5, early_grace_s=0.7, latency_s=0.02)
    # On a busy machine, neither must seem to be dead to the other.
    start_worker(lease=30)
    start_worker(lease=30)

    jobs = queue.enqueue_many(hello(f"number {number}") for number in range(40))
    completions = [job.result(TIMEOUT_S) for job in jobs]

    stats = simulator.stats()
    assert stats["by_status"]["200"] == 40
    assert stats["by_refusal"]["rate"] >= 1
    assert stats["early"] == 0
    assert {completion.attempts for completion in completions} == {1}
    assert {completion.unanswered_calls for completion in completions} == {0}
