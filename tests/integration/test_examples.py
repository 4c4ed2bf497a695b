"""The examples as their users start them: real servers, called over HTTP, their jobs done by a real worker."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

import examples
from tests.support.queue_process import QUICK, WorkerProcess, environment
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

ROOT = Path(examples.__file__).parent.parent
COMMANDS = {
    "flask": ("flask", "--app", "examples.flask_app", "run", "--port", "0"),
    "fastapi": ("uvicorn", "--factory", "examples.fastapi_app:create_app", "--port", "0"),
}
CALL_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30


class App:
    """A running example."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the environment does not know our loopback

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        return self._session.request(method, self.url + path, timeout=CALL_TIMEOUT_S, **options)

    def ask(self, text: Any, **headers: str) -> requests.Response:
        return self.call("POST", "/questions", json={"text": text}, headers=headers)

    def ended(self, job_id: str) -> requests.Response:
        """What the app says of the job once it has ended; until then it says 202."""

        def look() -> list[requests.Response]:
            response = self.call("GET", f"/questions/{job_id}")
            return [] if response.status_code == 202 else [response]

        return wait_until("the job has ended", look)[0]

    def close(self) -> None:
        self._session.close()


@contextmanager
def started(name: str, folder: Path, **settings: Any) -> Iterator[App]:
    """The example as a process in a folder of its own, where no `.env` is."""
    log = folder / f"{name}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", *COMMANDS[name]],
            cwd=folder,
            env={**environment(**QUICK, **settings), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=stream,
            stderr=stream,
        )
    try:

        def address() -> str | None:
            assert process.poll() is None, log.read_text()
            found = re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text(), re.IGNORECASE)
            return found[1] if found else None

        app = App(wait_until(f"{name} listens", address))
        yield app
        app.close()
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module", params=COMMANDS)
def app(
    request: pytest.FixtureRequest,
    redis_url: str,
    simulator_process: SimulatorProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[App]:
    """Each example, beside the module's worker."""
    folder = tmp_path_factory.mktemp("app")
    with started(request.param, folder, redis_url=redis_url, api_base=simulator_process.url) as running:
        yield running


def test_a_question_is_taken_at_once_and_answered_when_asked_again(
    app: App, worker: WorkerProcess, simulator: SimulatorProcess
) -> None:
    asked = app.ask("Why is the sky blue?")

    assert asked.status_code == 202
    job_id = asked.json()["id"]
    assert asked.json() == {"id": job_id, "status": f"/questions/{job_id}"}
    ended = app.ended(job_id)
    assert ended.status_code == 200
    assert ended.json()["state"] == "succeeded"
    assert ended.json()["text"] == "Simulated answer to: Why is the sky blue?"
    assert ended.json()["usage"]["total_tokens"] > 0


def test_a_question_that_is_still_open_says_so(app: App, worker: WorkerProcess, simulator: SimulatorProcess) -> None:
    job_id = app.ask("Take your time [[sim:slow=2]]").json()["id"]

    now = app.call("GET", f"/questions/{job_id}")
    assert now.status_code == 202
    assert now.json()["state"] in ("queued", "running")
    assert app.ended(job_id).status_code == 200


def test_a_repeated_question_with_its_key_is_the_same_job_and_is_billed_once(
    app: App, worker: WorkerProcess, simulator: SimulatorProcess
) -> None:
    key = str(uuid.uuid4())
    first, again = (app.ask("Only once", **{"Idempotency-Key": key}) for _ in range(2))

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    app.ended(first.json()["id"])
    assert app.ask("Only once", **{"Idempotency-Key": key}).json() == first.json()
    assert simulator.stats()["calls"] == 1

    other = app.ask("Another question", **{"Idempotency-Key": key})
    assert other.status_code == 409
    assert first.json()["id"] in other.json()["reason"]


@pytest.mark.parametrize("text", ["x" * 32_001, "[" * 21], ids=["too long", "open brackets"])
def test_a_question_that_the_api_would_refuse_is_refused_with_its_field(
    app: App, worker: WorkerProcess, simulator: SimulatorProcess, text: str
) -> None:
    refused = app.ask(text)

    assert refused.status_code == 400
    assert "messages[0].content" in refused.text
    assert refused.json()["reason"]
    assert simulator.stats()["calls"] == 0


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[1]", b'"text"', b"{}", b'{"text": null}', b'{"text": 5}'])
def test_a_body_that_is_no_question_is_the_callers_error(app: App, redis_client: Any, body: bytes) -> None:
    refused = app.call("POST", "/questions", data=body, headers={"Content-Type": "application/json"})

    assert refused.status_code in (400, 422)
    assert refused.json()
    assert redis_client.keys("mira:job:*") == []


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_question_is_not_found(app: App, method: str) -> None:
    missing = app.call(method, f"/questions/{uuid.uuid4()}")

    assert missing.status_code == 404
    assert "no job" in missing.json()["reason"]


def test_a_question_that_failed_says_why(app: App, worker: WorkerProcess, simulator: SimulatorProcess) -> None:
    failed = app.ended(app.ask("[[sim:moderation]]").json()["id"])

    assert failed.status_code == 502
    assert failed.json()["state"] == "failed"
    assert failed.json()["error"]["code"] == "content_blocked"
    assert failed.json()["error"]["status"] == 422


def test_a_question_can_be_cancelled_until_it_has_ended(
    app: App, worker: WorkerProcess, simulator: SimulatorProcess
) -> None:
    job_id = app.ask("Never mind [[sim:slow=3]]").json()["id"]
    cancelled = app.call("DELETE", f"/questions/{job_id}")

    assert (cancelled.status_code, cancelled.json()) == (200, {"cancelled": True})
    assert app.ended(job_id).json()["error"]["code"] == "cancelled"

    answered = app.ask("Too late").json()["id"]
    app.ended(answered)
    assert app.call("DELETE", f"/questions/{answered}").json() == {"cancelled": False}
    assert app.ended(answered).status_code == 200


def test_a_quick_question_is_answered_in_one_call_or_says_why_not(
    worker: WorkerProcess, redis_url: str, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    with started("fastapi", tmp_path, redis_url=redis_url, api_base=simulator.url) as app:
        quick = app.call("POST", "/quick-questions", json={"text": "Quickly"})
        failed = app.call("POST", "/quick-questions", json={"text": "[[sim:400]]"})

    assert (quick.status_code, quick.json()["text"]) == (200, "Simulated answer to: Quickly")
    assert failed.status_code == 502
    assert failed.json()["reason"].startswith("bad_request (400): ")


def test_a_queue_that_is_not_there_is_said_in_time(
    tmp_path: Path, simulator: SimulatorProcess, closed_port: int
) -> None:
    nobody = f"redis://127.0.0.1:{closed_port}/0"
    with started("flask", tmp_path, redis_url=nobody, api_base=simulator.url) as app:
        unavailable = app.ask("Is somebody there?")

    assert unavailable.status_code == 503
    assert unavailable.json()["reason"]
