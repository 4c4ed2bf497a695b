"""`mira-queue metrics`: what Prometheus is told of the queue, and that the exporter outlives the queue's server."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.request import urlopen

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from mira_queue import MiraQueue
from mira_queue.contract.account import Account
from mira_queue.contract.batch import Batch, BatchStatus
from mira_queue.contract.call_times import CallTimes
from mira_queue.contract.names import Lane
from mira_queue.contract.pace import Estimate, Limit, ReleasedPermit
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.pace import call_name
from mira_queue.ledger.records import NewJob
from tests.support.cli_process import Call, Cli, call_in_process
from tests.support.ledger_steps import (
    ACCOUNT,
    COMPLETION,
    FAILURE,
    LONG,
    accepted,
    ask,
    new_job,
    request,
    running,
    waiting,
)
from tests.support.waiting import wait_until

BASE = "https://api.example/v1"
DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
DASHBOARD = DOCS.parent / "grafana" / "mira-queue.json"
RATE = Limit(60, 6_500, 1_700_000_000_000, step=1)
IN_FLIGHT = Limit(3, 5_000, 1_700_000_000_000)

Numbers = dict[tuple[str, ...], float]


@pytest.fixture
def call(redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    monkeypatch.setenv("MIRA_REDIS_URL", redis_url)
    return call_in_process(monkeypatch, capsys)


@pytest.fixture
def cli(redis_url: str, tmp_path: Path) -> Cli:
    return Cli(tmp_path, redis_url=redis_url)


@pytest.fixture
def ledger(queue: MiraQueue) -> Ledger:
    queue.ledger.report_alive("an-account", BASE, timedelta(minutes=1))
    return queue.ledger


def numbers(text: str) -> Numbers:
    """Each number by its name and the values of its labels; those of the account and its base are left out."""
    found: Numbers = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("account", "an-account") == "an-account"
            assert labels.pop("base", BASE) == BASE
            found[(sample.name.removeprefix("mira_queue_"), *labels.values())] = sample.value
    return found


@pytest.fixture
def now(call: Call) -> Callable[[], Numbers]:
    """What is told now."""

    def configured() -> Numbers:
        code, out, err = call("metrics", "--once")
        assert (code, err) == (0, "")
        return numbers(out)

    return configured


@contextmanager
def exporter(cli: Cli, *arguments: str, **settings: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The exporter, and its address."""
    log = cli.folder / "log"
    with cli.start("metrics", "--port", "0", *arguments, log=log, **settings) as process:
        try:
            said = wait_until("it serves", lambda: re.findall(r"http://\S+", log.read_text()))
            yield process, said[0]
        finally:
            process.kill()


def scrape(url: str) -> Numbers:
    with urlopen(url, timeout=30) as answer:
        return numbers(answer.read().decode())


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


def test_a_rate_limited_call_is_counted_and_opens_the_breaker(ledger: Ledger, now: Callable[[], Numbers]) -> None:
    lease = running(ledger)
    _, (permit,) = ask(ledger, lease)
    assert now()["calls_in_flight",] == 1
    # Said twice, as where two processes learn at once, or where an answer was lost: it is one refusal.
    for _ in range(2):
        ledger.record_rate_limit("an-account", call_name(lease), permit, LONG)
        ledger.open_breaker("an-account", LONG)
    assert ask(ledger, running(ledger))[1][0].verdict == "wait"

    found = now()

    assert (found["calls_sent_total",], found["calls_rate_limited_total",], found["calls_in_flight",]) == (1, 1, 0)
    assert (found["breaker_open", "limit"], found["breaker_open", "faults"]) == (1, 0)
    assert (found["breaker_openings_total", "limit"], found["breaker_openings_total", "faults"]) == (1, 0)
    assert 0 < found["breaker_remaining_seconds",] <= LONG.total_seconds()
    assert found["processes_waiting",] == 1


def test_a_breaker_that_opens_again_after_its_probe_was_due_is_counted_again(
    ledger: Ledger, now: Callable[[], Numbers]
) -> None:
    for at_ms in (1, 50, 151):
        ledger.open_breaker("an-account", timedelta(milliseconds=100), "faults", now_ms=at_ms)

    found = now()

    assert (found["breaker_openings_total", "faults"], found["breaker_openings_total", "limit"]) == (2, 0)
    # Its probe is due: until that is answered, nothing else leaves.
    assert (found["breaker_open", "faults"], found["breaker_remaining_seconds",]) == (1, 0)


def test_a_learned_limit_shows_and_one_that_is_not_known_is_no_zero(ledger: Ledger, now: Callable[[], Numbers]) -> None:
    before = now()
    version = ledger.store_estimate("an-account", 0, Estimate(rate=RATE, start=8))
    assert ledger.store_estimate("an-account", 0, Estimate()) == 0
    between = now()
    ledger.store_estimate("an-account", version, Estimate(rate=RATE, in_flight=IN_FLIGHT))
    after = now()

    assert not {("rate_limit_calls",), ("concurrency_limit_calls",), ("allowed_calls",)} & before.keys()
    assert (before["allowed_in_flight_calls",], before["estimate_changes_total",]) == (2, 0)
    assert (between["rate_limit_calls",], between["rate_limit_window_seconds",], between["allowed_calls",]) == (
        60,
        6.5,
        61,
    )
    assert (between["allowed_in_flight_calls",], between["estimate_changes_total",]) == (8, 1)
    assert ("concurrency_limit_calls",) not in between
    assert (after["concurrency_limit_calls",], after["allowed_in_flight_calls",]) == (3, 3)
    assert after["estimate_changes_total",] == 2


def test_the_queues_counts_are_told(queue: MiraQueue, ledger: Ledger, now: Callable[[], Numbers]) -> None:
    running(ledger)
    waiting(ledger)
    account = Account(ACCOUNT, BASE)
    queue.accept([new_job(), new_job()], account)
    queue.accept([NewJob(request(), f"line-{number}", lane=Lane.BULK) for number in range(60)], account)
    for number, status in enumerate((BatchStatus.IN_PROGRESS, BatchStatus.IN_PROGRESS, BatchStatus.COMPLETED)):
        ledger.write_batch(Batch(f"batch_{number}", status, "x.jsonl", "here", 1, total=50, answered=30, failed=2))

    found = now()

    assert found["up",] == 1
    assert [found["jobs_queued", lane] for lane in ("first", "normal", "bulk")] == [0, 2, 60]
    # Fifty lines go to a message.
    assert [found["messages", lane] for lane in ("first", "normal", "bulk")] == [0, 2, 2]
    assert (found["jobs_leased",], found["jobs_waiting",], found["workers",]) == (1, 1, 1)
    assert (found["batches", "in_progress"], found["batches", "validating"]) == (2, 0)
    assert ("batches", "completed") not in found
    assert [found["batch_lines", state] for state in ("total", "answered", "failed")] == [100, 60, 4]
    assert found["server_memory_bytes",] > 0


def test_a_scrape_asks_as_often_of_a_long_queue_as_of_an_empty_one(
    queue: MiraQueue, ledger: Ledger, redis_client: redis.Redis
) -> None:
    def asked() -> int:
        before: int = redis_client.info("stats")["total_commands_processed"]
        ledger.queue_stats()
        return int(redis_client.info("stats")["total_commands_processed"]) - before

    ledger.queue_stats()
    when_empty = asked()
    ledger.accept(ACCOUNT, [new_job() for _ in range(500)])

    assert asked() == when_empty


def test_the_docs_list_every_metric_and_no_other(call: Call) -> None:
    _, out, _ = call("metrics", "--once")

    served = set(re.findall(r"^# TYPE (\S+) ", out, re.MULTILINE))
    listed = set(re.findall(r"^\| (mira_queue_\w+) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    assert served == listed


def test_the_dashboard_uses_every_metric_and_no_other(call: Call) -> None:
    _, out, _ = call("metrics", "--once")
    served = set(re.findall(r"^# TYPE (\S+) ", out, re.MULTILINE))
    expressions = " ".join(
        target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]
    )
    # A histogram is queried by its buckets.
    used = {name.removesuffix("_bucket") for name in re.findall(r"mira_queue_\w+", expressions)}

    assert used == served


def test_ends_tokens_and_times_are_counted_and_the_cost_has_the_prices_of_the_table(
    ledger: Ledger, now: Callable[[], Numbers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not [name for name in now() if name[0] == "cost_total"]
    (tmp_path / "prices.toml").write_text('currency = "USD"\n[models.mira]\nprompt = 2\ncompletion = 10\n')
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 500_000}
    for group, outcome in (("", COMPLETION), ("a file", replace(COMPLETION, usage=usage)), ("", FAILURE)):
        lease = running(ledger, group=group)
        while not (permit := ask(ledger, lease)[1][0]).may_start:
            pass
        ledger.release_permits(
            "an-account", [ReleasedPermit(call_name(lease), permit, times=CallTimes(duration_ms=700, waited_ms=20))]
        )
        assert ledger.finish(lease, outcome)
    ledger.cancel(accepted(ledger))

    found = now()

    ends = {name[1:]: value for name, value in found.items() if name[0] == "jobs_ended_total"}
    assert ends == {
        ("", "job", "succeeded"): 1,
        ("", "line", "succeeded"): 1,
        (FAILURE.code, "job", "failed"): 1,
        ("", "job", "cancelled"): 1,
    }
    assert [found["tokens_total", kind, "mira"] for kind in ("prompt", "completion")] == [1_000_000, 500_000]
    assert found["cost_total", "USD", "mira"] == 7
    buckets = [found["call_duration_seconds_bucket", end] for end in ("0.5", "1", "+Inf")]
    assert (buckets, found["call_duration_seconds_sum",]) == ([0, 3, 3], 2.1)
    assert [found["permit_wait_seconds_bucket", end] for end in ("0.01", "0.1")] == [0, 3]


def test_the_number_of_workers_follows_the_jobs_and_is_printed_for_a_scaler(
    queue: MiraQueue, ledger: Ledger, call: Call, now: Callable[[], Numbers]
) -> None:
    assert (now()["workers_wanted",], now()["oldest_queued_job_seconds",]) == (0, 0)
    ledger.store_estimate(ACCOUNT, 0, Estimate(in_flight=replace(IN_FLIGHT, max_calls=70)))
    queue.accept([NewJob(request(), f"line-{number}", lane=Lane.BULK) for number in range(100)], Account(ACCOUNT, BASE))

    code, out, err = call("metrics", "--json")

    assert (code, err) == (0, "")
    shown = json.loads(out)
    # 70 calls, 32 slots each.
    assert (shown["workers_wanted"], shown["workers"], shown["slots_per_worker"]) == (3, 1, 32)
    assert shown["accounts"] == [{"account": ACCOUNT, "jobs": 100, "calls": 70, "workers_wanted": 3}]
    assert (now()["workers_wanted",], now()["usable_calls",], now()["live_workers",]) == (3, 70, 1)


def test_the_exporter_outlives_the_queues_server(cli: Cli) -> None:
    with exporter(cli, redis_url=f"redis://127.0.0.1:{free_port()}/0") as (process, url):
        assert scrape(url) == {("up",): 0}
        assert scrape(url) == {("up",): 0}
        assert process.poll() is None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_serves_on_loopback_until_a_signal_ends_it(cli: Cli, number: signal.Signals, code: int) -> None:
    with exporter(cli) as (process, url):
        assert url.startswith("http://127.0.0.1:")
        assert scrape(url)["up",] == 1
        assert scrape(url)["up",] == 1
        process.send_signal(number)

        assert process.wait(30) == code
        assert (cli.folder / "log").read_text() == f"metrics at {url}\n"


def test_a_port_that_is_taken_is_one_line(cli: Cli) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        ended = cli("metrics", "--port", str(port))

    assert ended.code == 2
    assert ended.err == f"mira-queue: cannot listen on 127.0.0.1, port {port}: Address already in use\n"


def test_a_host_that_is_none_is_one_line(cli: Cli) -> None:
    ended = cli("metrics", "--host", "no such host", "--port", "0")

    assert ended.code == 2
    assert re.fullmatch(r"mira-queue: cannot listen on no such host, port 0: .+\n", ended.err)


def test_once_without_a_server_is_one_line(cli: Cli) -> None:
    ended = cli("metrics", "--once", redis_url=f"redis://127.0.0.1:{free_port()}/0")

    assert (ended.code, ended.out) == (1, "")
    assert "MIRA_REDIS_URL" in ended.err
    assert ended.err.count("\n") == 1
