"""Retries over HTTP: a client whose response was lost gets the object of its first request."""

from __future__ import annotations

import io
import json
import random
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
import requests

from mira_queue import MiraQueue
from tests.support.cutting_proxy import Cut, CuttingProxy, Where
from tests.support.gateway_process import Gateway, started_gateway
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

COUNT = "x-stainless-retry-count"
BODY = {"model": "mira-large", "input": "Hello", "background": True}
LINE = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "mira-large", "messages": [{"role": "user", "content": "Hello"}]},
}


@pytest.fixture(scope="module")
def gateway(simulator_process: SimulatorProcess) -> Iterator[Gateway]:
    """A gateway without workers: created jobs stay queued."""
    with started_gateway(api_base=simulator_process.url, workers=0) as running:
        yield running


class Network:
    """Cuts the connection of the next request only."""

    def __init__(self) -> None:
        self._cuts: list[Cut] = []
        self._lock = threading.Lock()

    def cut_next(self, cut: Cut) -> None:
        self._cuts.append(cut)

    def choose(self) -> Cut | None:
        with self._lock:
            return self._cuts.pop() if self._cuts else None


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def client(gateway: Gateway, network: Network) -> Iterator[openai.OpenAI]:
    """The SDK with its retries, behind a network that loses connections."""
    with (
        CuttingProxy(gateway.port, network.choose) as proxy,
        openai.OpenAI(base_url=proxy.url, api_key=gateway.key, max_retries=4) as sdk,
    ):
        yield sdk


class Http(requests.Session):
    """One connection, which stays open, without retries."""

    def __init__(self, url: str, key: str, **headers: str) -> None:
        super().__init__()
        self.trust_env = False
        self._url = url
        self.headers.update({"Authorization": f"Bearer {key}", **headers})

    def create(self, path: str, timeout_s: float = 30.0, **options: Any) -> requests.Response:
        return self.post(f"{self._url}{path}", timeout=timeout_s, **options)


@pytest.fixture
def http(gateway: Gateway) -> Iterator[Http]:
    with Http(gateway.url, gateway.key) as session:
        yield session


def files(gateway: Gateway) -> set[str]:
    with gateway.client() as client:
        return {file.id for file in client.files.list(limit=10_000)}


def job_ids(gateway: Gateway) -> set[str]:
    with MiraQueue(gateway.settings) as queue:
        return {status.id for status in queue.ledger.statuses(queue.ledger.open_jobs(queue.accounts.current.id))}


LOST_RESPONSE = Cut(Where.RESPONSE, after_bytes=40)


@pytest.mark.parametrize(
    "cut",
    [
        Cut(Where.REQUEST, after_bytes=60),
        Cut(Where.WAIT),
        Cut(Where.RESPONSE),
        Cut(Where.RESPONSE, resets=True),
        LOST_RESPONSE,
    ],
    ids=["in the request", "after the request", "before the response", "by a reset", "in the response"],
)
def test_a_file_whose_connection_was_cut_is_created_once(
    gateway: Gateway, client: openai.OpenAI, network: Network, cut: Cut
) -> None:
    before = files(gateway)
    network.cut_next(cut)

    # The SDK chooses another multipart boundary for its retry.
    file = client.files.create(file=("a.jsonl", io.BytesIO(b'{"a": 1}\n' * 1000)), purpose="batch")

    assert files(gateway) - before == {file.id}
    assert client.files.content(file.id).read() == b'{"a": 1}\n' * 1000


def test_every_kind_of_object_is_created_once(gateway: Gateway, client: openai.OpenAI, network: Network) -> None:
    content = json.dumps(LINE).encode() + b"\n"
    file = client.files.create(file=("a.jsonl", content), purpose="batch")
    before = job_ids(gateway)

    network.cut_next(LOST_RESPONSE)
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"of": "this test"}
    )
    assert [each.id for each in client.batches.list() if each.metadata == {"of": "this test"}] == [batch.id]
    client.batches.cancel(batch.id)
    wait_until("the batch has ended", lambda: client.batches.retrieve(batch.id).status == "cancelled")

    network.cut_next(LOST_RESPONSE)
    response = client.responses.create(model="mira-large", input="once", background=True)
    assert len(job_ids(gateway) - before) == 1
    assert client.responses.cancel(response.id).status == "cancelled"

    network.cut_next(LOST_RESPONSE)
    upload = client.uploads.create(bytes=4, filename="b.jsonl", mime_type="text/jsonl", purpose="batch")
    network.cut_next(LOST_RESPONSE)
    part = client.uploads.parts.create(upload.id, data=b"abc\n")
    network.cut_next(LOST_RESPONSE)
    done = client.uploads.complete(upload.id, part_ids=[part.id])
    assert done.file is not None
    assert len(list((gateway.state_dir / "uploads").glob("upload_*"))) == 1
    assert client.files.content(done.file.id).read() == b"abc\n"


def test_requests_that_were_both_answered_are_two_objects(gateway: Gateway, http: Http) -> None:
    before = job_ids(gateway)

    first = http.create("/responses", json=BODY, headers={COUNT: "0"}).json()
    second = http.create("/responses", json=BODY, headers={COUNT: "0"}).json()
    # The client has used the connection again: it has all responses.
    third = http.create("/responses", json=BODY, headers={COUNT: "1"}).json()

    assert len({first["id"], second["id"], third["id"]}) == len(job_ids(gateway) - before) == 3


def test_another_body_or_api_key_is_another_request(gateway: Gateway, client: openai.OpenAI, network: Network) -> None:
    other = gateway.create_key("other")
    network.cut_next(LOST_RESPONSE)
    with pytest.raises(openai.APIConnectionError):
        client.with_options(max_retries=0).responses.create(model="mira-large", input="lost", background=True)
    lost = {"model": "mira-large", "input": "lost", "background": True}

    with Http(gateway.url, gateway.key, **{COUNT: "1"}) as ours, Http(gateway.url, other, **{COUNT: "1"}) as theirs:

        def retry(http: Http, path: str, body: dict[str, Any]) -> str:
            return str(http.create(path, json=body).json()["id"])

        ids = {
            retry(ours, "/responses", lost),
            retry(theirs, "/responses", lost),
            retry(ours, "/responses", {**lost, "input": "other"}),
            # The first retry has the identity of the lost request now.
            retry(ours, "/responses", lost),
        }
    assert len(ids) == 4


def chat(http: Http, count: int, content: str, timeout_s: float) -> requests.Response:
    body = {"model": "mira-large", "messages": [{"role": "user", "content": content}]}
    return http.create("/chat/completions", timeout_s, json=body, headers={COUNT: str(count)})


def test_a_retry_of_a_completion_that_was_cancelled_with_its_connection_creates_it_again(
    gateway: Gateway, http: Http
) -> None:
    before = job_ids(gateway)
    with pytest.raises(requests.ReadTimeout):
        chat(http, 0, "abandoned", 0.5)
    wait_until("the job was cancelled", lambda: job_ids(gateway) == before)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(chat, http, 1, "abandoned", 3.0)
        wait_until("the retry is queued", lambda: len(job_ids(gateway) - before) == 1)
        with pytest.raises(requests.ReadTimeout):
            waiting.result()
    wait_until("the job was cancelled", lambda: job_ids(gateway) == before)


def test_a_gateway_that_is_killed_after_creating_leaves_one_object(simulator_process: SimulatorProcess) -> None:
    """Its retry reaches another gateway, which first has to find out that this one does not live any more."""
    with started_gateway(api_base=simulator_process.url, workers=0) as gateway:
        with Http(gateway.url, gateway.key) as http, ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(chat, http, 0, "killed", 30.0)
            wait_until("the job is queued", lambda: len(job_ids(gateway)) == 1)
            (created,) = job_ids(gateway)
            gateway.process.send_signal(signal.SIGKILL)
            with pytest.raises(requests.ConnectionError):
                waiting.result()
        gateway.process.wait()

        with gateway.cli.start("serve", "--port", "0", "--workers", "0", log=gateway.log) as second:
            try:
                assert second.stdout is not None
                url = second.stdout.readline().strip().partition("=")[2]
                with Http(url, gateway.key, Prefer="respond-async") as http:
                    found = chat(http, 1, "killed", 30.0)
                    another = chat(http, 0, "killed", 30.0)
                assert found.json()["id"] == f"chatcmpl-{created.replace('-', '')}"
                assert another.json()["id"] != found.json()["id"]
                assert len(job_ids(gateway)) == 2
            finally:
                second.terminate()
                second.wait()


def test_an_idempotency_key_names_one_request(gateway: Gateway, http: Http) -> None:
    def post(path: str, body: dict[str, Any], key: str) -> requests.Response:
        return http.create(path, json=body, headers={"Idempotency-Key": key})

    first, again = post("/responses", BODY, "key-1"), post("/responses", BODY, "key-1")
    assert first.json()["id"] == again.json()["id"]
    assert post("/responses", BODY, "key-2").json()["id"] != first.json()["id"]

    for path, body in (("/responses", {**BODY, "input": "Bye"}), ("/jobs", BODY)):
        conflict = post(path, body, "key-1")
        assert (conflict.status_code, conflict.json()["error"]["code"]) == (422, "idempotency_key_reused")
    with gateway.client(max_retries=2) as client, pytest.raises(openai.UnprocessableEntityError):
        client.responses.create(model="mira-large", input="Bye", extra_headers={"Idempotency-Key": "key-1"})

    assert post("/responses", {**BODY, "input": 7}, "key-3").status_code == 400
    assert post("/responses", BODY, "key-3").status_code == 200
    too_long = post("/responses", BODY, "k" * 256)
    assert (too_long.status_code, too_long.json()["error"]["param"]) == (400, "Idempotency-Key")


def test_an_idempotency_key_of_two_requests_at_the_same_time_is_one_object(gateway: Gateway, http: Http) -> None:
    before = files(gateway)

    def upload(_: int) -> str:
        done = http.create(
            "/files",
            data={"purpose": "batch"},
            files={"file": ("a.jsonl", b"{}\n" * 1000)},
            headers={"Idempotency-Key": "file-1"},
        )
        return str(done.json()["id"])

    with ThreadPoolExecutor(4) as pool:
        ids = set(pool.map(upload, range(4)))

    assert len(ids) == 1
    assert files(gateway) - before == ids


def test_a_retry_at_the_limit_of_open_jobs_gets_its_job_and_another_request_an_error(
    gateway: Gateway, network: Network
) -> None:
    key = gateway.create_key("few", "--max-open", "1")
    with (
        CuttingProxy(gateway.port, network.choose) as proxy,
        openai.OpenAI(base_url=proxy.url, api_key=key, max_retries=1) as client,
    ):
        network.cut_next(LOST_RESPONSE)
        created = client.responses.create(model="mira-large", input="one", background=True)

        with pytest.raises(openai.RateLimitError) as over:
            client.responses.create(model="mira-large", input="two", background=True)
        assert over.value.code == "max_open_reached"

        client.responses.cancel(created.id)
        assert client.responses.create(model="mira-large", input="two", background=True).status == "queued"


def test_an_object_that_was_deleted_is_not_created_again_under_its_idempotency_key(gateway: Gateway) -> None:
    def named(client: openai.OpenAI, key: str) -> openai.OpenAI:
        return client.with_options(default_headers={"Idempotency-Key": key})

    with gateway.client() as client:
        first = named(client, "deleted 1").responses.create(model="mira-large", input="once", background=True)
        file = named(client, "deleted 2").files.create(file=("a.jsonl", b"{}\n"), purpose="batch")
        client.responses.delete(first.id)
        client.files.delete(file.id)

        with pytest.raises(openai.ConflictError) as caught:
            named(client, "deleted 1").responses.create(model="mira-large", input="once", background=True)
        assert caught.value.code == "object_deleted"
        assert caught.value.response.headers["x-should-retry"] == "false"
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(first.id)


def test_connections_that_are_cut_at_random_moments_duplicate_and_lose_nothing(gateway: Gateway) -> None:
    """The short form of `python -m bench.gateway_retries`."""
    dice = random.Random(8)

    def choose() -> Cut | None:
        if dice.random() > 0.25:
            return None
        where = dice.choice(list(Where))
        return Cut(where, dice.randrange(600), dice.random() * 0.01, resets=dice.random() < 0.5)

    before = job_ids(gateway)
    with (
        CuttingProxy(gateway.port, choose) as proxy,
        openai.OpenAI(base_url=proxy.url, api_key=gateway.key, max_retries=20) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        created = list(
            pool.map(lambda n: client.responses.create(model="mira-large", input=f"{n}", background=True).id, range(40))
        )

    assert proxy.cuts >= 5
    assert len(set(created)) == len(job_ids(gateway) - before) == 40
