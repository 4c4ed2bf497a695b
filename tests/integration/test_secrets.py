"""The key is nowhere but in the call; prompts are in no log; not even when a server quotes them back."""

from __future__ import annotations

import socket
from pathlib import Path

import orjson
import redis
from pydantic import SecretStr

from mira_queue import Completion, Failure, MiraQueue
from tests.conftest import OpenQueue, StartWorker
from tests.support.ledger_steps import snapshot
from tests.support.queue_process import API_KEY, WorkerProcess
from tests.support.raw_server import RawServer, Request, always, response
from tests.support.simulator_process import SimulatorProcess

TIMEOUT_S = 60
PROMPT = "the-secret-of-the-patient"


def echo(request: Request, connection: socket.socket) -> None:
    """Every answer quotes the key and the whole request, in the way that the prompt asks for."""
    quoted = f"{request.headers['authorization']} {request.body.decode()}"
    how = next(word for word in WAYS if word in quoted)
    connection.sendall(WAYS[how](quoted))


WAYS = {
    "terminal": lambda text: response(400, orjson.dumps({"detail": text})),
    "rejected": lambda text: response(401, orjson.dumps({"error": {"message": text}})),
    "unheard-of": lambda text: response(422, orjson.dumps({"input": text})),
    "fault": lambda text: response(503, text.encode()),
    "broken": lambda text: response(200, text.encode()),
    "half-stream": lambda text: response(200, b"data: " + text.encode(), "Content-Type: text/event-stream"),
    "redirect": lambda text: response(302, b"", f"Location: https://x.example/?{API_KEY}"),
}


def command_lines() -> str:
    """Of every process that can be seen."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue  # It has ended meanwhile.
    return "\n".join(found)


def assert_nothing_leaked(worker: WorkerProcess, client: redis.Redis) -> None:
    log = worker.log()
    assert worker.events("attempt")
    assert API_KEY not in log
    assert PROMPT not in log
    assert API_KEY not in repr(snapshot(client))
    assert API_KEY not in command_lines()


def test_a_server_that_quotes_key_and_prompt_puts_them_in_no_log_and_the_key_in_no_result(
    open_queue: OpenQueue, redis_client: redis.Redis, start_worker: StartWorker
) -> None:
    with RawServer(echo) as server:
        queue = open_queue(api_base=server.url)
        worker = start_worker(api_base=server.url, log_level="debug", max_attempts=1)
        jobs = [queue.enqueue([{"role": "user", "content": f"{PROMPT} {how}"}]) for how in WAYS]
        outcomes = [job.outcome(TIMEOUT_S) for job in jobs]

    assert all(isinstance(outcome, Failure) for outcome in outcomes)
    assert API_KEY not in repr(outcomes)
    assert API_KEY not in repr([job.status() for job in jobs])
    # The owner of the prompt may read it in the outcome.
    assert PROMPT in repr(outcomes)
    assert_nothing_leaked(worker, redis_client)


def test_an_ordinary_day_leaves_no_trace_of_key_and_prompts(
    queue: MiraQueue, redis_client: redis.Redis, simulator: SimulatorProcess, start_worker: StartWorker
) -> None:
    worker = start_worker(log_level="debug")
    texts = ["hello", "[[sim:503x1]]", "[[sim:429x1 retry-after=0.1]]", "[[sim:truncate]]", "[[sim:moderation]]"]
    jobs = [queue.enqueue([{"role": "user", "content": f"{PROMPT} {text}"}]) for text in texts]
    jobs.append(queue.enqueue([{"role": "user", "content": f"{PROMPT} [[sim:truncate]]"}], stream=True))
    outcomes = [job.outcome(TIMEOUT_S) for job in jobs]
    worker.stop()

    assert API_KEY not in repr(outcomes)
    assert_nothing_leaked(worker, redis_client)


def test_the_settings_do_not_show_their_secrets(queue: MiraQueue) -> None:
    for shown in (repr(queue.settings), str(queue.settings), repr(queue), repr(queue.settings.model_dump())):
        assert API_KEY not in shown


def test_a_key_that_is_a_word_changes_no_answer(open_queue: OpenQueue, start_worker: StartWorker) -> None:
    body = orjson.dumps({"choices": [{"message": {"content": "The latest test"}, "finish_reason": "stop"}], "x": 11})
    with RawServer(always(response(200, body))) as server:
        for key in ("test", "1"):
            queue = open_queue(api_base=server.url, api_key=SecretStr(key))
            worker = start_worker(api_base=server.url, api_key=key)
            outcome = queue.enqueue([{"role": "user", "content": f"key {key}"}]).outcome(TIMEOUT_S)
            worker.stop()

            assert isinstance(outcome, Completion)
            assert (outcome.text, outcome.body) == ("The latest test", orjson.loads(body))
