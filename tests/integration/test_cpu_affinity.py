"""A worker's threads keep to one core, so that they do not fight for the interpreter's lock."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import pytest
from mira_worker.cpu_affinity import CpuAffinity

from mira_queue import MiraQueue
from tests.conftest import StartWorker
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process choose its core")


def cores_of(pid: int) -> set[frozenset[int]]:
    """What each of its threads may run on."""
    found = set()
    for thread in os.listdir(f"/proc/{pid}/task"):
        with suppress(ProcessLookupError):
            found.add(frozenset(os.sched_getaffinity(int(thread))))
    return found


def test_all_threads_of_a_worker_are_on_one_core_and_the_job_is_done(
    queue: MiraQueue, start_worker: StartWorker
) -> None:
    worker = start_worker()

    assert queue.enqueue([{"role": "user", "content": "Hello"}]).result(60).text
    wait_until("they share a core", lambda: [len(cores) for cores in cores_of(worker.pid)] == [1])


def test_the_core_is_one_of_those_that_the_process_was_given() -> None:
    given = os.sched_getaffinity(0)
    try:
        assert CpuAffinity().choose() in given
        assert len(os.sched_getaffinity(0)) == 1
    finally:
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), given)
