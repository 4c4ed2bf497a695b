"""Limits of API keys over a real socket: open jobs and lines, and the cost of a day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.integration.test_gateway_batches import created, ended, lines
from tests.support.gateway_process import Gateway, started_gateway
from tests.support.simulator_process import SimulatorProcess

PRICES = 'currency = "USD"\n[models.mira]\nprompt = 1000\ncompletion = 2000\n'
MESSAGES: list[Any] = [{"role": "user", "content": "Hello"}]
FREE_MODEL = "mira-max"

pytestmark = pytest.mark.usefixtures("simulator")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prices") / "table.toml"
    path.write_text(PRICES)
    return path


@pytest.fixture(scope="module")
def gateway(simulator_process: SimulatorProcess, table: Path) -> Iterator[Gateway]:
    with started_gateway("--prices", str(table), api_base=simulator_process.url) as running:
        yield running


def completion(client: openai.OpenAI) -> Any:
    return client.chat.completions.create(model="mira", messages=MESSAGES)


def response(client: openai.OpenAI) -> Any:
    return client.responses.create(model="mira", input="Hello", background=True)


def job(client: openai.OpenAI, **options: Any) -> Any:
    body = {"body": {"model": "mira", "messages": MESSAGES}, **options}
    return client.post("/jobs", cast_to=dict[str, Any], body=body)


def listed(gateway: Gateway, name: str) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = [each for each in gateway.cli("keys", "list", "--json").json if each["name"] == name]
    return found


def test_the_cost_of_a_day_stops_every_kind_of_job_and_is_listed(gateway: Gateway, table: Path) -> None:
    key = gateway.create_key("thrifty", "--max-cost-per-day", "0.001", "--prices", str(table))
    client = gateway.client(key)

    usage = completion(client).usage

    found = listed(gateway, "thrifty")
    cost = (usage.prompt_tokens * 1000 + usage.completion_tokens * 2000) / 1e6
    assert float(found["cost_today"]) == pytest.approx(cost)
    assert cost > 0.001
    assert (found["open"], found["reserved_cost"]) == (0, "0")
    kinds: list[Callable[[openai.OpenAI], Any]] = [completion, response, job, lambda each: created(each, lines(1, "a"))]
    for create in kinds:
        with pytest.raises(openai.RateLimitError) as caught:
            create(client)
        assert (caught.value.code, caught.value.type) == ("max_cost_reached", "insufficient_quota")
        assert caught.value.response.headers["x-should-retry"] == "false"


def test_the_cost_of_a_batch_and_of_jobs_is_one_sum(gateway: Gateway, table: Path) -> None:
    key = gateway.create_key("both", "--max-cost-per-day", "100", "--prices", str(table))
    client = gateway.client(key)

    done = ended(client, created(client, lines(3, "sum"), extra_body={"mira": {"max_cost": "40"}}).id)
    of_batch = float(listed(gateway, "both")["cost_today"])
    usage = completion(client).usage

    assert done.usage is not None
    assert of_batch == pytest.approx((done.usage.input_tokens * 1000 + done.usage.output_tokens * 2000) / 1e6)
    assert float(listed(gateway, "both")["cost_today"]) - of_batch == pytest.approx(
        (usage.prompt_tokens * 1000 + usage.completion_tokens * 2000) / 1e6
    )


def test_a_model_without_a_price_is_rejected_for_a_key_with_a_cost_limit(gateway: Gateway, table: Path) -> None:
    limited = gateway.create_key("priced", "--max-cost-per-day", "1", "--prices", str(table))

    with pytest.raises(openai.BadRequestError) as caught:
        gateway.client(limited).responses.create(model=FREE_MODEL, input="Hello", background=True)

    assert (caught.value.code, caught.value.param) == ("model_without_price", "model")
    # Without a limit, no price is needed.
    assert gateway.client().responses.create(model=FREE_MODEL, input="Hello", background=True).id


def test_a_cost_limit_without_a_price_table_is_an_error_before_the_key_exists(gateway: Gateway) -> None:
    before = gateway.cli("keys", "list", "--json").json

    done = gateway.cli("keys", "create", "--name", "early", "--max-cost-per-day", "1")

    assert (done.code, done.out) == (2, "")
    assert "--prices" in done.err
    assert gateway.cli("keys", "list", "--json").json == before


def test_of_concurrent_requests_no_more_than_the_limit_are_open(gateway: Gateway) -> None:
    key = gateway.create_key("few", "--max-open", "7")

    def create(number: int) -> str:
        with gateway.client(key) as client:
            try:
                if number % 4:
                    job(client, delay=3600)
                    return "job"
                created(client, lines(2, f"few {number}"), extra_body={"mira": {"max_requests": 1}})
            except openai.RateLimitError as error:
                return error.code or ""
            return "batch"

    with ThreadPoolExecutor(12) as pool:
        found = Counter(pool.map(create, range(24)))

    # A batch is at its limit after one line, and the other one stays open.
    assert found["job"] + found["batch"] <= listed(gateway, "few")["open"] <= 7
    assert found.keys() <= {"job", "batch", "max_open_reached"}
    client = gateway.client(key)
    client.post("/jobs/cancel", cast_to=dict[str, Any], body={})
    for batch in client.batches.list():
        client.batches.cancel(batch.id)
        assert ended(client, batch.id).status == "cancelled"
    assert listed(gateway, "few")["open"] == 0


def test_a_batch_with_more_lines_than_the_limit_is_rejected_as_a_whole(gateway: Gateway) -> None:
    client = gateway.client(gateway.create_key("small", "--max-open", "5"))

    with pytest.raises(openai.RateLimitError) as caught:
        created(client, lines(20, "many"))

    assert caught.value.code == "max_open_reached"
    assert list(client.batches.list()) == []
    assert ended(client, created(client, lines(5, "few enough")).id).status == "completed"
    assert listed(gateway, "small")["open"] == 0
