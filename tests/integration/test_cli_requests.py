"""What `mira-queue enqueue` makes of its options; nobody takes the jobs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis

from mira_queue.contract.names import request_key
from tests.support.cli_process import Call, call_in_process


@pytest.fixture
def call(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIRA_REDIS_URL", redis_url)
    return call_in_process(monkeypatch, capsys)


def test_every_part_of_the_request_is_in_the_queue(call: Call, redis_client: redis.Redis) -> None:
    Path("body.json").write_text('{"messages": [{"role": "user", "content": "x"}], "seed": 7}')
    _, whole, _ = call("enqueue", "--request", "body.json", "--model", "mira-pro", "--field", 'stop=["END"]')
    _, parts, _ = call("enqueue", "--json", "--system", "s", "--field", "temperature=0.5", "u")
    _, piped, _ = call("enqueue", "-", stdin="piped: ü\n")

    ids = [whole.strip(), json.loads(parts)["id"], piped.strip()]
    assert [json.loads(redis_client.get(request_key(job_id)) or "") for job_id in ids] == [
        {"model": "mira-pro", "messages": [{"role": "user", "content": "x"}], "seed": 7, "stop": ["END"]},
        {
            "model": "mira",
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
            "temperature": 0.5,
        },
        {"model": "mira", "messages": [{"role": "user", "content": "piped: ü\n"}]},
    ]


def test_the_same_key_is_the_same_job_and_with_another_request_an_error(call: Call) -> None:
    first = call("enqueue", "--key", "k", "hello")
    second = call("enqueue", "--key", "k", "hello")
    code, out, err = call("enqueue", "--key", "k", "good bye")

    assert first == second
    assert (code, out) == (2, "")
    assert "idempotency key 'k' belongs to job" in err
