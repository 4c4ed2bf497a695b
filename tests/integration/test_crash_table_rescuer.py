"""A rescuer dies with what it has just taken; another one takes it again. Each test is a row in docs/states.md."""

from __future__ import annotations

from mira_queue import MiraQueue
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.outcome import Failure
from mira_queue.contract.states import JobState
from tests.conftest import StartWorker
from tests.support.crash_matrix import QUICK_RESEND, died, ended_once, ends, enqueue, row, start_to_die
from tests.support.simulator_process import SimulatorProcess


@row("rescuer", "after `rescue` or `resend`, before the messages are sent")
def test_a_rescued_job_without_a_message_runs(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess
) -> None:
    worker = start_to_die(start_worker, CrashPoint.AFTER_CLAIM)
    job = enqueue(queue)
    died(worker)
    died(start_to_die(start_worker, CrashPoint.AFTER_RESCUE, wait=False))
    assert job.status().state is JobState.QUEUED

    start_worker(**QUICK_RESEND)

    ended_once(queue, simulator, job, calls=1, unanswered=0)


@row("rescuer", "after it has taken a poison job, before its outcome is stored")
def test_a_poisoned_job_is_set_aside_by_the_next_rescuer(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess
) -> None:
    worker = start_to_die(start_worker, CrashPoint.AFTER_ANSWER)
    job = enqueue(queue)
    died(worker)
    died(start_to_die(start_worker, CrashPoint.AFTER_POISON, wait=False, max_crashes=1))
    assert job.status().state is JobState.RUNNING

    start_worker(max_crashes=1, **QUICK_RESEND)

    outcome = job.outcome(timeout=60)
    assert isinstance(outcome, Failure)
    assert outcome.code == "poison"
    assert simulator.stats()["calls"] == 1
    assert ends(queue) == [job.id]
