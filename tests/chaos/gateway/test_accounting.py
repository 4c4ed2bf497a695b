"""The accounting finds what a run must not have: each kind of loss, duplicate, and false webhook is counted."""

from __future__ import annotations

from typing import Any

from openai.types import Batch

from tests.chaos import workload
from tests.chaos.accounting import Remarks
from tests.chaos.gateway import accounting
from tests.chaos.gateway.clients import Create, Kind
from tests.chaos.gateway.objects import Objects
from tests.chaos.gateway.options import GatewayOptions
from tests.chaos.gateway.webhook_log import Arrival

OPTIONS = GatewayOptions(creates=10, batches=1, lines=2)


def job(number: int, state: str = "succeeded", **changes: Any) -> dict[str, Any]:
    content = workload.job(OPTIONS.seed, number).content
    return {
        "id": f"a-{number}",
        "metadata": {"n": str(number)},
        "state": state,
        "completion": {"choices": [{"message": {"content": f"Simulated answer to: {content}"}}]},
        "error": {"message": "failed"},
        "code": None,
        "unanswered_calls": 0,
        **changes,
    }


def create(number: int, an_id: str = "", **changes: Any) -> Create:
    return Create(number, Kind.RESPONSE, 0, an_id, **changes)


def test_each_create_has_one_object_which_is_the_one_that_the_client_got() -> None:
    done = [
        create(0, "resp_a0"),
        create(1, "resp_a1"),
        create(2, "resp_a2"),
        create(3, error="x"),
        create(4, error="x"),
    ]
    objects = {0: ["a0"], 1: ["a1", "b1"], 3: ["a3"], 9: ["a9"]}

    found = accounting.add_creates(done, objects, "job", Remarks())

    assert found == accounting.Found(returned=3, failed=2, unseen=1, lost=1, duplicated=1, other=0, unknown=1)
    assert accounting.add_creates([create(0, "resp_a0")], {0: ["b0"]}, "job", Remarks()).other == 1


def test_an_outcome_of_another_request_is_wrong() -> None:
    jobs = [job(0), job(1, completion=job(2)["completion"]), job(3, "cancelled"), job(4, "running")]

    found = accounting.add_job_outcomes(
        OPTIONS, Objects(jobs), lambda job_id: next(each for each in jobs if each["id"] == job_id), {}, {}, Remarks()
    )

    assert (found.wrong, found.unfinished) == (2, 1)


def test_an_answer_that_was_billed_twice_must_be_declared() -> None:
    jobs = [job(0), job(1, unanswered_calls=1)]
    calls = {workload.job(OPTIONS.seed, number).content: {"answered": 2} for number in (0, 1)}

    found = accounting.add_job_outcomes(
        OPTIONS, Objects(jobs), lambda job_id: jobs[int(job_id[-1])], calls, {}, Remarks()
    )

    assert found.hidden == 1


def test_webhooks_are_missing_repeated_or_false() -> None:
    expected = accounting.expected_webhooks(Objects([job(0), job(1), job(2, "failed"), job(4)]))
    endpoint, own = accounting.PATHS
    arrivals = {
        Arrival(endpoint, "evt_0", "response.completed", "resp_a0"): 2,
        Arrival(own, "evt_1", "response.failed", "resp_a1"): 1,
        Arrival(endpoint, "evt_2", "response.failed", "a-2"): 1,
        Arrival(endpoint, "evt_3", "response.failed", "a-2"): 1,
        Arrival(endpoint, "evt_9", "response.completed", "resp_a9"): 1,
    }

    found = accounting.add_webhooks(expected, arrivals, Remarks())

    assert found == accounting.Webhooks(expected=4, missing=1, repeated=1, false=2, several_events=1)


def test_the_counts_of_a_batch_must_be_those_of_its_lines() -> None:
    def batch(status: str, completed: int) -> Batch:
        counts = {"total": 2, "completed": completed, "failed": 0}
        return Batch.construct(status=status, metadata={"n": "0"}, request_counts=counts)

    batches = [batch("completed", 2), batch("completed", 1), batch("expired", 2)]

    assert accounting.wrong_counts(OPTIONS, batches, Remarks()) == 2
