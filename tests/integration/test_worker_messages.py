"""Messages in the queue that no producer of ours has sent, and the exit code of a worker that cannot continue."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import Any

import redis

from mira_queue import MiraQueue
from mira_queue.contract.names import QUEUE, TASK, queue_name
from tests.conftest import StartWorker
from tests.support.waiting import wait_until

SECRET = "a prompt of another program"
HEADERS = {"task": TASK, "id": "x", "retries": 0, "eta": None, "expires": None}
MALFORMED = [
    (b"{}", HEADERS),
    (b"{}", {}),
    (b"null", HEADERS),
    (b"\xff\xfe", HEADERS),
    (json.dumps([SECRET, {}, {}]).encode(), HEADERS),
    (b"[[], {}, 7]", HEADERS),
    (b"[[], {}, {}]", {**HEADERS, "task": "another.task"}),
    (b'[["x"], {}, {}]', {**HEADERS, "eta": "soon"}),
]

# Entries of a queue that kombu cannot read.
GARBAGE = [
    SECRET.encode(),
    b"\xff\xfe",
    b"[]",
    b"7",
    b"{}",
    json.dumps({"body": "", "properties": SECRET}).encode(),
    json.dumps({"body": "not base64", "properties": {"body_encoding": "base64", "delivery_tag": "x"}}).encode(),
    json.dumps({"body": "", "properties": {"delivery_tag": []}}).encode(),
    json.dumps({"body": "", "properties": {"delivery_tag": "x", "body_encoding": "rot13"}}).encode(),
]


def envelope(body: bytes, headers: dict[str, Any]) -> str:
    """Return an element of a queue as kombu reads it."""
    properties = {
        "correlation_id": "x",
        "delivery_mode": 2,
        "delivery_info": {"exchange": QUEUE, "routing_key": QUEUE},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": base64.b64encode(body).decode() + "".join(headers),
    }
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": properties,
        }
    )


def test_a_malformed_message_is_dropped_and_logged_once_with_its_size(
    start_worker: StartWorker, queue: MiraQueue, account: str, redis_client: redis.Redis
) -> None:
    worker = start_worker()
    name = queue_name(account, QUEUE)
    for body, headers in MALFORMED:
        redis_client.lpush(name, envelope(body, headers))
    job = queue.enqueue([{"role": "user", "content": "hello"}])

    assert job.result(timeout=60).text
    wait_until("all are logged", lambda: len(worker.events("malformed_message")) == len(MALFORMED))
    assert sorted(line["bytes"] for line in worker.events("malformed_message")) == sorted(
        len(body) for body, _ in MALFORMED
    )
    assert SECRET not in worker.log()
    assert worker.stop() == 0
    assert redis_client.hlen("unacked") == redis_client.llen(name) == 0


def test_what_is_no_message_is_dropped_and_no_worker_ends(
    start_worker: StartWorker, queue: MiraQueue, account: str, redis_client: redis.Redis
) -> None:
    worker = start_worker()
    name = queue_name(account, QUEUE)
    for entry in GARBAGE:
        redis_client.lpush(name, entry)
    job = queue.enqueue([{"role": "user", "content": "hello"}])

    assert job.result(timeout=60).text
    wait_until("all are logged", lambda: len(worker.events("malformed_message")) == len(GARBAGE))
    assert SECRET not in worker.log()
    assert worker.stop() == 0
    assert redis_client.hlen("unacked") == redis_client.llen(name) == 0


BROKEN_WORKER = """
import sys
from celery import Celery, bootsteps
from mira_worker.tasks import run_worker

class Broken(bootsteps.StartStopStep):
    def start(self, parent):
        raise RuntimeError("cannot continue")

app = Celery(broker="memory://")
app.steps["worker"].add(Broken)
sys.exit(run_worker(app, ["--quiet", "worker", "--pool", "solo"]))
"""


def test_a_worker_that_cannot_continue_exits_with_1() -> None:
    assert subprocess.run([sys.executable, "-c", BROKEN_WORKER], capture_output=True, timeout=60).returncode == 1
