"""`mira-queue limits`: what is known of the accounts, in the words of a person and of a script."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from mira_producer.cli.console import local_time
from pydantic import SecretStr

from mira_queue.contract.account import unnamed_id
from mira_queue.contract.known_fields import stored_fields
from mira_queue.contract.pace import ConfiguredLimits, Estimate, Limit
from mira_queue.ledger.ledger import Ledger
from tests.support.cli_process import Cli
from tests.support.ledger_steps import LONG, running
from tests.support.queue_process import API_KEY
from tests.support.run_process import prompts, write_lines

BASE = "https://api.example/v1"
SINCE_MS = 1_700_000_000_000
RATE = Limit(60, 6_500, SINCE_MS, confirmations=4)
IN_FLIGHT = Limit(3, 5_000, SINCE_MS, confirmations=2, step=1)
KNOWN = Estimate(rate=RATE, in_flight=IN_FLIGHT, start=8, max_accepted=3, margin_ms=65, unrelated=(3_600_000,))
HEADING = ["account", "base", "rate_limit", "concurrency_limit", "breaker", "in_flight", "waiting"]


@pytest.fixture
def cli(redis_url: str, tmp_path: Path) -> Cli:
    return Cli(tmp_path, redis_url=redis_url, api_base=BASE)


def ask(ledger: Ledger, account: str, process: str) -> str:
    """A process asks for a call of one more job, where one may be in flight."""
    _, (permit,) = ledger.acquire_permits(
        account,
        process,
        [(running(ledger, account=account), 0)],
        configured=ConfiguredLimits(in_flight=1),
        call_lease=LONG,
        probe_lease=LONG,
        ask_again=LONG,
    )
    return permit.verdict


def rows(text: str) -> list[dict[str, str]]:
    heading, *lines = (line.split("\t") for line in text.splitlines())
    assert heading == HEADING
    return [dict(zip(heading, line, strict=True)) for line in lines]


def test_validate_says_how_long_a_file_takes_at_the_limit_that_was_learned(
    ledger: Ledger, redis_url: str, tmp_path: Path
) -> None:
    account = unnamed_id(BASE, SecretStr(API_KEY))
    ledger.store_estimate(account, ledger.estimate(account)[0], Estimate(rate=RATE))
    write_lines(tmp_path / "input.jsonl", prompts(120))

    shown = Cli(tmp_path, redis_url=redis_url, api_base=BASE, api_key=API_KEY)("validate", "input.jsonl")

    assert "time      13 s, at the account's limit: 60 in 6.5 s" in shown.out


def test_before_the_first_call_there_is_nothing_to_show(cli: Cli) -> None:
    shown, as_json, forgotten = cli("limits"), cli("limits", "--json"), cli("limits", "--forget")

    assert (shown.code, shown.out, shown.err.count("\n")) == (0, "", 1)
    assert (as_json.code, as_json.json, as_json.err) == (0, [], "")
    assert (forgotten.code, forgotten.out) == (0, "")
    assert "0 accounts" in forgotten.err


def test_each_account_is_a_line_that_says_what_is_known(cli: Cli, ledger: Ledger) -> None:
    ledger.report_alive("first", BASE, timedelta(minutes=1))
    ledger.store_estimate("first", 0, KNOWN)
    ledger.report_alive("second", "https://other.example/v1", timedelta(minutes=1))
    assert [ask(ledger, "second", name) for name in ("one", "two")] == ["go", "wait"]

    shown = cli("limits")

    since = local_time(SINCE_MS)
    assert (shown.code, shown.err) == (0, "")
    assert rows(shown.out) == [
        {
            "account": "first",
            "base": BASE,
            "rate_limit": f"60 per 6.5 s (confirmed 4x since {since})",
            "concurrency_limit": f"3 (confirmed 2x since {since}, trying 4)",
            "breaker": "closed",
            "in_flight": "0",
            "waiting": "0",
        },
        {
            "account": "second",
            "base": "https://other.example/v1",
            "rate_limit": "?",
            "concurrency_limit": "up to 2",
            "breaker": "closed",
            "in_flight": "1",
            "waiting": "1",
        },
    ]


def test_an_open_breaker_has_a_reason_and_an_end_and_with_a_probe_it_is_half_open(cli: Cli, ledger: Ledger) -> None:
    for account in ("limited", "out of order", "probing"):
        ledger.report_alive(account, BASE, timedelta(minutes=1))
    ledger.open_breaker("limited", LONG)
    ledger.open_breaker("out of order", LONG, "faults")
    ledger.open_breaker("probing", timedelta(0))

    breakers = {row["account"]: row["breaker"] for row in rows(cli("limits").out)}

    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(rf"open \(limit\) until {time}", breakers["limited"])
    assert re.fullmatch(rf"open \(faults\) until {time}", breakers["out of order"])
    assert breakers["probing"] == "half-open (limit)"


def test_a_script_gets_the_whole_estimate(cli: Cli, ledger: Ledger) -> None:
    ledger.report_alive("first", BASE, timedelta(minutes=1))
    ledger.store_estimate("first", 0, KNOWN)
    ledger.open_breaker("first", LONG)
    assert ask(ledger, "first", "one") == "wait"

    shown = cli("limits", "--json")
    (account,) = shown.json

    assert (shown.code, shown.err) == (0, "")
    assert 0 < account.pop("breaker_remaining_ms") <= LONG / timedelta(milliseconds=1)
    assert account == {
        "account": "first",
        "base": BASE,
        **stored_fields(KNOWN),
        "unrelated": [3_600_000],
        "breaker": "open",
        "breaker_reason": "limit",
        "calls_in_flight": 0,
        "processes_waiting": 1,
        "server_message": None,
    }


def test_what_is_forgotten_is_learned_anew_and_an_open_breaker_lets_a_probe_start(cli: Cli, ledger: Ledger) -> None:
    for account in ("first", "second"):
        ledger.report_alive(account, BASE, timedelta(minutes=1))
    version = ledger.store_estimate("first", 0, KNOWN)
    ledger.store_estimate("second", 0, KNOWN)
    ledger.open_breaker("first", LONG)

    forgotten = cli("limits", "--forget")

    assert (forgotten.code, forgotten.out) == (0, "")
    assert "2 accounts" in forgotten.err
    assert ledger.estimate("first") == (version + 1, Estimate())
    first, second = rows(cli("limits").out)
    assert (first["rate_limit"], first["concurrency_limit"], second["rate_limit"]) == ("?", "up to 2", "?")
    assert first["breaker"] == "half-open (limit)"


def test_wrong_usage_is_two(cli: Cli) -> None:
    assert cli("limits", "everything").code == 2
