"""`/v1/jobs` through a socket: jobs with the options of mira-queue."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from mira_queue import MiraQueue
from tests.support.gateway_process import Gateway
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

Call = Callable[..., tuple[int, Any]]
BODY = {"messages": [{"role": "user", "content": "Hello"}]}

pytestmark = pytest.mark.usefixtures("simulator")


@pytest.fixture
def call(gateway: Gateway) -> Call:
    def request(method: str, path: str, body: Any = None, key: str = gateway.key, **query: Any) -> tuple[int, Any]:
        with requests.Session() as session:
            session.trust_env = False
            headers = {"Authorization": f"Bearer {key}"}
            url = f"{gateway.url}/jobs{path}"
            response = session.request(method, url, json=body, params=query, headers=headers, timeout=30)
            return response.status_code, response.json()

    return request


def test_a_job_is_accepted_and_has_its_outcome(call: Call) -> None:
    status, job = call("POST", "", {"body": BODY, "key": "order 7", "metadata": {"tenant": "7"}})
    _, again = call("POST", "", {"body": BODY, "key": "order 7"})

    assert (status, job["object"], job["key"], job["metadata"]) == (200, "job", "order 7", {"tenant": "7"})
    assert again["id"] == job["id"]
    done = wait_until(
        "it is answered",
        lambda: call("GET", f"/{job['id']}")[1] if call("GET", f"/{job['id']}")[1]["completion"] else None,
    )
    assert done["completion"]["choices"][0]["message"]["content"] == "Simulated answer to: Hello"
    assert (done["state"], done["error"]) == ("succeeded", None)
    status, conflict = call("POST", "", {"body": {**BODY, "temperature": 1}, "key": "order 7"})
    assert (status, conflict["error"]["code"]) == (422, "idempotency_key_reused")
    assert conflict["error"]["param"] == "key"


def test_the_idempotency_keys_of_a_project_are_its_own(call: Call, gateway: Gateway) -> None:
    key = gateway.create_key("own")
    with MiraQueue(gateway.settings) as queue:
        foreign = queue.enqueue([{"role": "user", "content": "Another"}], key="own:k", delay=timedelta(hours=1))
        of_both = [call("POST", "", {"body": BODY, "key": "k", "delay": 3600}, each)[1] for each in (key, gateway.key)]
        _, again = call("POST", "", {"body": BODY, "key": "k", "delay": 3600}, key)
        status, conflict = call("POST", "", {"body": {**BODY, "temperature": 1}, "key": "k"}, key)

        assert len({foreign.id, *(job["id"] for job in of_both)}) == 3
        assert (again["id"], again["key"]) == (of_both[0]["id"], "k")
        assert (status, conflict["error"]["param"]) == (422, "key")
        # The ledger's own names of the key and the job are nothing that a caller can use.
        assert of_both[0]["id"] not in conflict["error"]["message"]
        assert "own" not in conflict["error"]["message"]
        for job_id in (foreign.id, *(job["id"] for job in of_both)):
            assert call("POST", f"/{job_id}/cancel")[1]["state"] == "cancelled"


@pytest.mark.parametrize("action", ["cancel", "retry"])
@pytest.mark.parametrize("wanted", [{"code": ""}, {"state": ""}, {"metadata": {}}, {"since": ""}])
def test_an_empty_filter_does_not_match_all_jobs(call: Call, action: str, wanted: dict[str, Any]) -> None:
    status, found = call("POST", f"/{action}", {**wanted, "dry_run": True})

    assert (status, found["error"]["param"]) == (400, *wanted)


def test_delay_deadline_and_priority_are_those_of_the_job(call: Call) -> None:
    now = datetime.now(UTC)
    soon, late = now + timedelta(hours=1), now + timedelta(hours=2)
    options = {"not_before": soon.timestamp(), "deadline": late.isoformat(), "priority": "low"}

    _, job = call("POST", "", {"body": BODY, **options})

    assert (job["state"], job["priority"]) == ("waiting", "low")
    assert job["waiting_until"] == pytest.approx(soon.timestamp(), abs=5)
    assert job["deadline"] == pytest.approx(late.timestamp(), abs=5)
    assert call("POST", f"/{job['id']}/cancel")[1]["state"] == "cancelled"


def test_jobs_are_listed_in_pages_and_all_that_match_are_acted_on(call: Call, gateway: Gateway) -> None:
    key, other = gateway.create_key("lists"), gateway.create_key("others")
    delayed = {"body": BODY, "delay": 3600, "priority": "low"}
    ids = [call("POST", "", {**delayed, "metadata": {"n": str(n)}}, key)[1]["id"] for n in range(3)]

    _, first = call("GET", "", None, key, limit=2, state="waiting")
    _, second = call("GET", "", None, key, limit=2, state="waiting", after=first["last_id"])
    assert [job["id"] for job in [*first["data"], *second["data"]]] == ids[::-1]
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert [job["id"] for job in call("GET", "", None, key, **{"metadata[n]": "1"})[1]["data"]] == [ids[1]]
    assert call("GET", "", None, other)[1]["data"] == []
    assert call("GET", "", None, other, after=ids[0])[0] == 404

    assert call("POST", "/cancel", {"dry_run": True}, key)[1]["count"] == 3
    assert call("POST", "/cancel", {}, other)[1]["count"] == 0
    assert call("POST", f"/{ids[0]}/cancel", None, key)[1]["state"] == "cancelled"
    assert call("POST", "/cancel", {"metadata": {"n": "1"}}, key)[1]["count"] == 1
    assert call("POST", "/cancel", {}, key)[1]["count"] == 1
    assert {job["state"] for job in call("GET", "", None, key)[1]["data"]} == {"cancelled"}


def test_a_key_with_a_limit_rejects_jobs_above_it(call: Call, gateway: Gateway) -> None:
    key = gateway.create_key("few", "--max-open", "2")
    delayed = {"body": BODY, "delay": 3600}

    found = [call("POST", "", delayed, key) for _ in range(3)]

    assert [status for status, _ in found] == [200, 200, 429]
    assert found[2][1]["error"]["code"] == "max_open_reached"
    assert call("POST", "/cancel", {}, key)[1]["count"] == 2
    assert call("POST", "", {"body": BODY}, key)[0] == 200


def test_a_list_continues_after_a_job_that_was_deleted_meanwhile(call: Call, gateway: Gateway) -> None:
    key = gateway.create_key("deleting")
    with gateway.client(key) as client:
        ids = [client.responses.create(model="mira", input=f"{n}", background=True).id for n in range(4)]
        _, first = call("GET", "", None, key, limit=2)
        client.responses.delete(ids[2])

    _, second = call("GET", "", None, key, limit=2, after=first["last_id"])

    assert [job["id"].replace("-", "") for job in second["data"]] == [
        an_id.removeprefix("resp_") for an_id in ids[1::-1]
    ]
    assert call("GET", "", None, gateway.create_key("strange"), after=first["last_id"])[0] == 404


def test_an_error_names_parameters_of_the_api(call: Call) -> None:
    for name, instead in (("countdown", "delay"), ("idempotency_key", "Idempotency-Key"), ("priority", "service_tier")):
        status, found = call("POST", "", {"body": {**BODY, name: 1}})
        assert (status, found["error"]["param"]) == (400, f"body.{name}")
        assert instead in found["error"]["message"]
        assert "=" not in found["error"]["message"]
        assert "command line" not in found["error"]["message"]
    status, found = call("POST", "", {"body": BODY, "not_before": "2030-01-31T18:00:00"})
    assert (status, found["error"]["param"]) == (400, "not_before")
    assert "datetime" not in found["error"]["message"]


def test_failed_jobs_are_retried_one_or_all(call: Call, simulator: SimulatorProcess, gateway: Gateway) -> None:
    key = gateway.create_key("failing")
    ids = [
        call("POST", "", {"body": {"messages": [{"role": "user", "content": "[[sim:422]]"}]}}, key)[1]["id"]
        for _ in range(2)
    ]
    wait_until("they fail", lambda: len(call("GET", "", None, key, code="unprocessable")[1]["data"]) == 2)

    status, job = call("POST", f"/{ids[0]}/retry", None, key)
    assert (status, job["state"]) in ((200, "queued"), (200, "running"), (200, "failed"))
    wait_until("it fails again", lambda: len(call("GET", "", None, key, code="unprocessable")[1]["data"]) == 2)
    assert call("POST", "/retry", {"code": "unprocessable"}, key)[1]["count"] == 2
    wait_until("both fail again", lambda: len(call("GET", "", None, key, state="failed")[1]["data"]) == 2)
    status, conflict = call("POST", f"/{ids[0]}/cancel", None, key)
    assert (status, conflict["error"]["code"]) == (409, "invalid_state")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"body": BODY, "countdown": 60}, "countdown"),
        ({"body": BODY, "eta": "now"}, "eta"),
        ({"body": {**BODY, "timeout": 3}}, "body.timeout"),
        ({"body": {"messages": "Hello"}}, "body.messages"),
        ({"body": BODY, "deadline": "tomorrow"}, "deadline"),
        ({"body": BODY, "priority": "urgent"}, "priority"),
        ({"body": BODY, "delay": -1}, "delay"),
        ({"body": BODY, "account": "nobody"}, "account"),
        ({"body": BODY, "metadata": {"k": 1}}, "metadata.k"),
        ({}, "body"),
    ],
)
def test_a_wrong_option_is_named(call: Call, body: dict[str, Any], param: str) -> None:
    status, found = call("POST", "", body)

    assert (status, found["error"]["param"]) == (400, param)
