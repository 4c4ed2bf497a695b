"""Batches over HTTP, with the official SDK: they are the batches of the command line."""

from __future__ import annotations

import io
import json
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch as SdkBatch

from mira_queue import MiraQueue
from mira_queue.contract.batch import Batch, BatchOrigin, BatchStatus
from tests.support.gateway_process import Gateway
from tests.support.run_process import write_lines
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

FINAL = ("completed", "failed", "expired", "cancelled")
ENDPOINT = "/v1/chat/completions"


def line(name: str, content: str, **more: Any) -> dict[str, Any]:
    body = {"model": "mira", "messages": [{"role": "user", "content": content}]}
    return {"custom_id": name, "method": "POST", "url": ENDPOINT, "body": body, **more}


def lines(count: int, mark: str) -> list[dict[str, Any]]:
    return [line(f"line-{n}", f"question {n} {mark}") for n in range(count)]


def uploaded(client: openai.OpenAI, entries: list[dict[str, Any]]) -> str:
    content = "".join(f"{json.dumps(entry)}\n" for entry in entries).encode()
    return client.files.create(file=("requests.jsonl", io.BytesIO(content)), purpose="batch").id


def created(client: openai.OpenAI, entries: list[dict[str, Any]], **options: Any) -> SdkBatch:
    return client.batches.create(
        **{
            "input_file_id": uploaded(client, entries),
            "endpoint": ENDPOINT,
            "completion_window": "24h",
            **options,
        }
    )


def ended(client: openai.OpenAI, batch_id: str) -> SdkBatch:
    wait_until("the batch has ended", lambda: client.batches.retrieve(batch_id).status in FINAL)
    return client.batches.retrieve(batch_id)


def ours(batch: SdkBatch) -> dict[str, Any]:
    """Our own fields of a batch."""
    assert batch.model_extra is not None
    found: dict[str, Any] = batch.model_extra["mira"]
    return found


def read(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(each) for each in client.files.content(file_id).text.splitlines()]


def post(client: openai.OpenAI, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Call an endpoint that the SDK does not know."""
    return client.post(path, cast_to=dict[str, Any], body=body)


def test_a_batch_is_created_polled_and_read_with_the_sdk(
    gateway: Gateway, openai_client: openai.OpenAI, simulator: SimulatorProcess
) -> None:
    entries = [*lines(40, "sdk"), line("blocked", "[[sim:moderation]]")]

    batch = created(openai_client, entries, metadata={"for": "a test"}, completion_window="2h")

    assert batch.id.startswith("batch_")
    assert (batch.object, batch.endpoint, batch.completion_window) == ("batch", ENDPOINT, "2h")
    assert batch.metadata == {"for": "a test"}
    assert batch.expires_at is not None
    assert 7195 <= batch.expires_at - batch.created_at <= 7205
    done = ended(openai_client, batch.id)
    assert done.status == "completed"
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (41, 40, 1)
    answers, errors = read(openai_client, done.output_file_id), read(openai_client, done.error_file_id)
    assert Counter(each["custom_id"] for each in answers) == Counter(each["custom_id"] for each in entries[:40])
    assert [each["custom_id"] for each in errors] == ["blocked"]
    assert done.usage is not None
    assert done.usage.total_tokens == sum(each["response"]["body"]["usage"]["total_tokens"] for each in answers)
    assert (done.model, done.input_file_id) == ("mira", batch.input_file_id)
    assert done.in_progress_at is not None
    assert done.completed_at is not None
    assert done.in_progress_at <= done.completed_at
    names = {file.id: (file.filename, file.purpose) for file in openai_client.files.list()}
    assert names[done.output_file_id or ""] == (f"{batch.id}_output.jsonl", "batch_output")
    assert names[done.error_file_id or ""] == (f"{batch.id}_errors.jsonl", "batch_output")
    assert [each["id"] for each in gateway.cli("batches", "--json").json if each["id"] == batch.id] == [batch.id]

    assert ours(done)["verified"] is None
    verdict = openai_client.get(f"/batches/{batch.id}/verify", cast_to=dict[str, Any])
    assert (verdict["complete"], verdict["lines"], verdict["answered"], verdict["failed"]) == (True, 41, 40, 1)
    assert ours(openai_client.batches.retrieve(batch.id))["verified"] is True
    page = openai_client.get(f"/batches/{batch.id}/report", cast_to=str)
    assert page.startswith("<!doctype html>")
    assert batch.id in page


def test_wrong_lines_are_errors_of_a_failed_batch(openai_client: openai.OpenAI) -> None:
    entries = [*lines(2, "wrong"), line("line-0", "again"), {"custom_id": "x", "url": ENDPOINT, "body": {"model": 7}}]

    done = ended(openai_client, created(openai_client, entries).id)

    assert done.status == "failed"
    assert done.errors is not None
    assert [(each.line, each.code) for each in done.errors.data or []] == [
        (3, "duplicate_custom_id"),
        (4, "invalid_request"),
    ]
    assert done.output_file_id is None


@pytest.mark.parametrize(
    ("options", "param", "code"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint", "invalid_value"),
        ({"completion_window": "31d"}, "completion_window", "invalid_value"),
        ({"completion_window": "59m"}, "completion_window", "invalid_value"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "invalid_value"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", "invalid_value"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 5}},
            "output_expires_after.seconds",
            "invalid_value",
        ),
        ({"extra_body": {"colour": "blue"}}, "colour", "unknown_parameter"),
        ({"extra_body": {"mira": {"max_cost": "much"}}}, "mira.max_cost", "invalid_value"),
        ({"extra_body": {"mira": {"max_cost": "1e999000"}}}, "mira.max_cost", "invalid_value"),
        ({"extra_body": {"mira": {"max_cost": "1e999999999"}}}, "mira.max_cost", "invalid_value"),
    ],
)
def test_a_wrong_parameter_is_named_when_the_batch_is_created(
    openai_client: openai.OpenAI, options: dict[str, Any], param: str | None, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        created(openai_client, lines(1, ""), **options)

    assert (caught.value.param, caught.value.code) == (param, code)


def test_a_line_for_another_endpoint_is_reported_immediately(openai_client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        created(openai_client, [line("a", "b", url="/v1/embeddings")])

    assert (caught.value.param, caught.value.code) == ("endpoint", "invalid_url")


def test_an_input_file_that_does_not_exist_or_is_no_input_is_rejected(openai_client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        created(openai_client, lines(1, ""), input_file_id="file-none")

    assert caught.value.param == "input_file_id"


@pytest.mark.parametrize("batch_id", ["batch_0", "job-1", "batch_..", "batch_%00", "%2e%2e", "batch_%2fa"])
def test_an_id_that_names_no_batch_is_not_found(openai_client: openai.OpenAI, batch_id: str) -> None:
    with pytest.raises(openai.NotFoundError):
        post(openai_client, f"/batches/{batch_id}/pause")


def test_answers_can_be_read_from_the_first_line_on_and_stay_after_a_cancel(
    openai_client: openai.OpenAI, simulator: SimulatorProcess
) -> None:
    simulator.configure(latency_s=0.3)
    batch = created(openai_client, lines(200, "partial"))

    def partial() -> list[dict[str, Any]]:
        file_id = openai_client.batches.retrieve(batch.id).output_file_id
        return read(openai_client, file_id) if file_id else []

    first = wait_until("some lines are answered", partial)
    raw = openai_client.batches.with_raw_response.retrieve(batch.id)
    assert 1000 <= int(raw.headers["openai-poll-after-ms"]) <= 60_000
    file_id = raw.parse().output_file_id
    assert file_id is not None
    with pytest.raises(openai.ConflictError) as caught:
        openai_client.files.delete(file_id)
    assert caught.value.response.headers["x-should-retry"] == "false"

    assert openai_client.batches.cancel(batch.id).status in ("cancelling", "cancelled")

    done = ended(openai_client, batch.id)
    assert done.status == "cancelled"
    assert openai_client.batches.cancel(batch.id).status == "cancelled"
    answers, errors = read(openai_client, done.output_file_id), read(openai_client, done.error_file_id)
    assert {each["custom_id"] for each in first} <= {each["custom_id"] for each in answers}
    found = Counter(each["custom_id"] for each in [*answers, *errors])
    assert found == Counter(f"line-{n}" for n in range(200))
    assert {each["error"]["code"] for each in errors} == {"batch_cancelled"}


def test_a_batch_is_paused_and_resumed_and_its_failed_lines_are_retried(
    openai_client: openai.OpenAI, simulator: SimulatorProcess
) -> None:
    simulator.configure(latency_s=0.2)
    batch = created(openai_client, [*lines(60, "pause"), line("bad", "[[sim:moderation]]")])
    wait_until("it runs", lambda: openai_client.batches.retrieve(batch.id).status == "in_progress")

    post(openai_client, f"/batches/{batch.id}/pause")

    wait_until("it is paused", lambda: ours(openai_client.batches.retrieve(batch.id))["paused"])
    assert openai_client.batches.retrieve(batch.id).status == "in_progress"
    simulator.configure(latency_s=0)
    post(openai_client, f"/batches/{batch.id}/resume")
    done = ended(openai_client, batch.id)
    assert done.status == "completed"
    with pytest.raises(openai.ConflictError) as caught:
        post(openai_client, f"/batches/{batch.id}/pause")
    assert caught.value.code == "invalid_state"
    post(openai_client, f"/batches/{batch.id}/retry", {"statuses": ["422"]})
    again = ended(openai_client, batch.id)
    assert again.request_counts is not None
    assert (again.request_counts.completed, again.request_counts.failed) == (60, 1)

    # Its answers are deleted: a retry would send every line again.
    openai_client.files.delete(again.output_file_id or "")
    with pytest.raises(openai.NotFoundError):
        openai_client.files.content(again.output_file_id or "")
    with pytest.raises(openai.ConflictError):
        post(openai_client, f"/batches/{batch.id}/retry", {"statuses": []})


def test_a_batch_of_the_command_line_is_shown_with_its_files_to_an_admin_only(
    gateway: Gateway, openai_client: openai.OpenAI, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    entries = lines(3, "cli")
    write_lines(tmp_path / "prompts.jsonl", entries)
    batch_id = gateway.cli("submit", str(tmp_path / "prompts.jsonl")).out.strip()

    done = ended(openai_client, batch_id)

    assert done.status == "completed"
    assert read(openai_client, done.input_file_id) == entries
    assert len(read(openai_client, done.output_file_id)) == 3
    of_app = gateway.client(gateway.create_key("app"))
    with pytest.raises(openai.NotFoundError):
        of_app.batches.retrieve(batch_id)
    with pytest.raises(openai.NotFoundError):
        of_app.files.content(done.output_file_id or "")
    assert [batch.id for batch in of_app.batches.list()] == []


def test_250_batches_are_paged_automatically(gateway: Gateway) -> None:
    client = gateway.client(gateway.create_key("many"))
    origin = BatchOrigin("many", "file-0")
    now_s = int(time.time())
    with MiraQueue(gateway.settings) as queue:
        for n in range(250):
            # Several of them in the same second.
            batch = Batch(f"batch_{n:032x}", BatchStatus.COMPLETED, "a", "elsewhere:/a", now_s - n // 3, origin=origin)
            queue.ledger.write_batch(batch)
        try:
            found = list(client.batches.list(limit=30))
        finally:
            for n in range(250):
                queue.ledger.forget_batch(f"batch_{n:032x}")

    assert len({batch.id for batch in found}) == len(found) == 250
    assert [batch.created_at for batch in found] == sorted((batch.created_at for batch in found), reverse=True)
    with pytest.raises(openai.BadRequestError):
        client.batches.list(after="batch_gone")


def test_a_key_limits_the_open_jobs_of_its_project(gateway: Gateway, simulator: SimulatorProcess) -> None:
    simulator.configure(latency_s=0.5)
    client = gateway.client(gateway.create_key("small", "--max-open", "20"))
    first = created(client, lines(20, "small"))
    wait_until("its lines are counted", lambda: client.batches.retrieve(first.id).status == "in_progress")

    with pytest.raises(openai.RateLimitError) as caught:
        created(client, lines(1, "small"))

    assert caught.value.code == "max_open_reached"
    simulator.configure(latency_s=0)
    assert ended(client, first.id).status == "completed"
    assert ended(client, created(client, lines(1, "small too")).id).status == "completed"


def test_no_resume_and_no_second_batch_gets_more_than_the_cost_limit_of_a_key(
    gateway: Gateway, simulator: SimulatorProcess
) -> None:
    (gateway.cli.folder / "prices.toml").write_text('currency = "USD"\n[models.mira]\nprompt = 1\ncompletion = 2\n')
    client = gateway.client(gateway.create_key("thrifty", "--max-cost-per-day", "10"))
    simulator.configure(latency_s=2)
    batch = created(client, lines(20, "thrifty"), extra_body={"mira": {"max_cost": "4"}})
    wait_until("it runs", lambda: ours(client.batches.retrieve(batch.id))["currency"])
    post(client, f"/batches/{batch.id}/pause")
    wait_until("it is paused", lambda: ours(client.batches.retrieve(batch.id))["paused"])
    simulator.configure(latency_s=0)

    with pytest.raises(openai.BadRequestError):
        post(client, f"/batches/{batch.id}/resume", {"max_cost": "much"})
    post(client, f"/batches/{batch.id}/resume", {"max_cost": ""})

    with pytest.raises(openai.RateLimitError) as caught:
        created(client, lines(1, "second"))
    assert caught.value.code == "max_cost_reached"
    assert ended(client, batch.id).status == "completed"
    with MiraQueue(gateway.settings) as queue:
        # What its own answers have cost meanwhile may be missing.
        assert 9.99 < float(queue.batches.get(batch.id).options.max_cost) <= 10
    # What the first one has reserved, and not used, is free again.
    assert ended(client, created(client, lines(1, "second")).id).status == "completed"
    (gateway.cli.folder / "prices.toml").unlink()


def test_a_project_does_not_learn_where_the_files_of_its_batch_are(gateway: Gateway) -> None:
    client = gateway.client(gateway.create_key("curious"))
    done = ended(client, created(client, [*lines(2, "curious"), line("blocked", "[[sim:moderation]]")]).id)
    client.files.delete(done.error_file_id or "")

    verdict = client.get(f"/batches/{done.id}/verify", cast_to=dict[str, Any])
    page = client.get(f"/batches/{done.id}/report", cast_to=str)
    of_operator = gateway.client().get(f"/batches/{done.id}/verify", cast_to=dict[str, Any])
    with pytest.raises(openai.ConflictError) as caught:
        post(client, f"/batches/{done.id}/retry")

    assert [each["path"] for each in verdict["missing"]["examples"]] == [done.input_file_id]
    assert str(gateway.state_dir) in of_operator["missing"]["examples"][0]["path"]
    for text in (json.dumps(verdict), page, caught.value.message):
        assert str(gateway.state_dir) not in text
    assert (caught.value.code, "deleted" in caught.value.message) == ("invalid_state", True)


def test_answers_expire_when_the_creator_wants(openai_client: openai.OpenAI) -> None:
    batch = created(openai_client, lines(2, "expiry"), output_expires_after={"anchor": "created_at", "seconds": 3600})

    done = ended(openai_client, batch.id)

    file = openai_client.files.retrieve(done.output_file_id or "")
    assert done.completed_at is not None
    assert file.expires_at == done.completed_at + 3600


def test_the_stored_input_is_linked_and_not_copied(gateway: Gateway, openai_client: openai.OpenAI) -> None:
    batch = created(openai_client, lines(1, "linked"))

    stored = gateway.state_dir / "files" / batch.input_file_id / "content"
    assert stored.samefile(gateway.state_dir / "batches" / batch.id / "input.jsonl")
    openai_client.files.delete(batch.input_file_id)
    assert ended(openai_client, batch.id).status == "completed"


@pytest.mark.parametrize("length", ["Content-Length: 0\r\n", ""])
def test_the_node_sdks_cancel_has_an_empty_body_of_the_type_json(
    gateway: Gateway, openai_client: openai.OpenAI, length: str
) -> None:
    file = openai_client.files.create(file=("a.jsonl", b'{"prompt": "hello"}\n'), purpose="batch")
    batch = openai_client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    head = (
        f"POST /v1/batches/{batch.id}/cancel HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {gateway.key}\r\n"
        f"Content-Type: application/json\r\n{length}Connection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", gateway.port), 30) as connection:
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    # A short batch may have ended before.
    assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 409 "))
    assert b"invalid_json" not in answer
