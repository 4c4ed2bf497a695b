"""`mira-queue validate`: check a file of requests, and estimate tokens, cost, and time. It sends nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from mira_producer.cli import console
from mira_producer.cli.options import Json
from mira_producer.cli.problems import invalid_lines, problem_lines
from mira_producer.cost.prices import Prices, load_prices, money
from mira_producer.engine.survey import Survey, as_json, seconds_of, survey
from mira_producer.request_check import check_of, default_model
from mira_producer.text import duration, plural
from mira_queue.contract.account import Account
from mira_queue.contract.errors import QueueUnavailable
from mira_queue.contract.pace import Estimate
from mira_queue.contract.settings import Settings
from mira_queue.ledger.connection import connect
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.server import QueueServer
from mira_queue.runtime.accounts_file import load_accounts
from mira_queue.runtime.settings_loader import load_settings

UNKNOWN_TIME = "unknown until the account's limit is known: set one with MIRA_RATE"

HELP_END = console.help_end(
    [
        ("mira-queue validate prompts.jsonl", "every invalid line; otherwise sizes, models, tokens, cost, time"),
        ("mira-queue validate prompts.jsonl.gz --json | jq .errors", "for a script"),
    ],
    {0: "every line is valid", 1: "some lines are invalid", 2: "wrong usage or setting, or no such file"},
)


def validate(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="One JSON request per line; gzip and zstd too.")],
    prices_path: Annotated[
        Path | None, typer.Option("--prices", metavar="FILE", help="Price table. [default: ./prices.toml, if there]")
    ] = None,
    json: Json = False,
) -> None:
    """Check a file of requests. Nothing is sent.

    Tokens are estimated from the size of the requests and from their max_tokens (4096 if a request has none). Most
    answers are shorter. The time is that of the slowest known limit: MIRA_RATE, or a learned limit of the account. The
    learned limits are known if the queue's server is running.
    """
    settings = load_settings()
    prices = load_prices(prices_path)
    account = load_accounts(settings).current
    found = survey(path, check_of(settings, account), default_model(settings, account), prices)
    time = seconds_of(found.lines, account.limits, learned(settings, account))
    if json:
        console.json_data(as_json(found, time[0] if time else None, prices.currency))
    else:
        _show(found, time, prices)
        for line in problem_lines(found.wrong_names.lines(), len(found.wrong_names.found)):
            console.error(f"warning: {path}, {line}")
    if found.problems.count:
        raise typer.Exit(console.EXIT_FAILED)


def _show(found: Survey, time: tuple[float, str] | None, prices: Prices) -> None:
    if wrong := found.problems.count:
        console.data(
            "\n".join([*problem_lines(found.problems.first, wrong), invalid_lines(wrong, wrong + found.lines)])
        )
        return
    models = ", ".join(f"{count:,} {model}" for model, count in found.models.most_common())
    rows = [
        ("requests", f"{plural(found.lines, 'line')}, all valid"),
        *([("repeated", f"{plural(found.repeated, 'line')}; --dedupe sends them once")] if found.repeated else []),
        ("size", f"{decimal(found.bytes)}; the largest is line {found.largest_line}, {decimal(found.largest_bytes)}"),
        ("models", models),
        ("tokens", f"about {found.prompt_tokens:,} in; at most {found.max_completion_tokens:,} out"),
        ("cost", _cost(found, prices)),
        ("time", f"{duration(time[0])}, at {time[1]}" if time else UNKNOWN_TIME),
    ]
    console.data("\n".join(f"{name:<10}{text}" for name, text in rows))


def _cost(found: Survey, prices: Prices) -> str:
    if not prices:
        return "unknown without a price table: --prices FILE"
    if found.max_cost is None:
        unpriced = [model for model in found.models if prices.cost(model, 0, 0) is None]
        return f"unknown: the price table has no {', '.join(unpriced[:3])}"
    return f"at most about {money(found.max_cost, prices.currency)}"


def learned(settings: Settings, account: Account) -> Estimate:
    """Return the learned limits of the account, if the queue's server is running. It is not started for that."""
    url = QueueServer(settings).url_if_running()
    if url is None:
        return Estimate()
    try:
        with connect(url) as client:
            ledger = Ledger(client, result_ttl=settings.result_ttl, keeps_results=False)
            return ledger.pace_view(account.id).estimate
    except QueueUnavailable:
        # The check of the file does not need the server. A run that needs it reports the error.
        return Estimate()
