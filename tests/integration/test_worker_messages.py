"""Messages in the queue that no producer of ours has sent, and the exit code of a worker that cannot continue."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
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


@pytest.mark.usefixtures("queue")
def test_a_worker_that_cannot_continue_exits_with_1(
    start_worker: StartWorker, account: str, redis_client: redis.Redis
) -> None:
    worker = start_worker()
    redis_client.lpush(queue_name(account, QUEUE), "not even an envelope")

    assert worker.wait() == 1
