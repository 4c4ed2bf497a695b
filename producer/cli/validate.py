"""`mira-queue validate`: what is wrong with a file of requests, and what it would take; nothing is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mira_queue.contract.limits import limits_named
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.settings import Settings, load_settings
from producer.cli import output
from producer.cli.outcome import Json
from producer.run.plan import MOST_COMPLAINTS, wrong_lines
from producer.run.prices import Prices, load_prices, money
from producer.run.validate import Survey, as_json, survey
from producer.run.waiting import duration
from producer.run.words import plural, size

HELP_END = output.help_end(
    [
        ("mira-queue validate prompts.jsonl", "every wrong line; else sizes, models, tokens, cost, time"),
        ("mira-queue validate prompts.jsonl.gz --json | jq .errors", "for a script"),
    ],
    {0: "every line is fit to send", 1: "some lines are not", 2: "wrong usage or setting, or no such file"},
)


def validate(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="One JSON request a line; gzip and zstd too.")],
    prices_path: Annotated[
        Path | None, typer.Option("--prices", metavar="FILE", help="Price table. [default: ./prices.toml, if there]")
    ] = None,
    json: Json = False,
) -> None:
    """Check a file of requests; send nothing.

    Tokens are estimated from the size of the requests, and from the answers' max_tokens (4096 where a request names
    none): the answers will most often be shorter. The time is that of the rate in MIRA_RATE; without one, at least what
    the account admits decides.
    """
    settings = load_settings()
    prices = load_prices(prices_path)
    limits = limits_named(settings.check_limits)
    found = survey(
        path, lambda body: ChatRequest.checked(body, model=settings.model, limits=limits), settings.model, prices
    )
    seconds = _seconds(found.lines, settings)
    if json:
        output.json_data(as_json(found, seconds, prices.currency))
    else:
        _show(path, found, seconds, prices)
    if found.wrong:
        raise typer.Exit(output.EXIT_FAILED)


def _show(path: Path, found: Survey, seconds: float | None, prices: Prices) -> None:
    if found.wrong:
        shown = found.complaints[:MOST_COMPLAINTS]
        more = [f"... and {found.wrong - len(shown):,} more"] if found.wrong > len(shown) else []
        output.data("\n".join([*map(str, shown), *more, wrong_lines(found.wrong, found.wrong + found.lines)]))
        return
    models = ", ".join(f"{count:,} {model}" for model, count in found.models.most_common())
    rows = [
        ("requests", f"{plural(found.lines, 'line')}, all fit to send"),
        *([("repeated", f"{plural(found.repeated, 'line')}; with --dedupe not sent again")] if found.repeated else []),
        ("size", f"{size(found.bytes)}; the largest is line {found.largest_line}, {size(found.largest_bytes)}"),
        ("models", models),
        ("tokens", f"about {found.prompt_tokens:,} in; at most {found.most_completion_tokens:,} out"),
        ("cost", _cost(found, prices)),
        ("time", f"{duration(seconds)}, at MIRA_RATE" if seconds is not None else "set MIRA_RATE=60/min to know"),
    ]
    output.data("\n".join(f"{name:<10}{text}" for name, text in rows))


def _cost(found: Survey, prices: Prices) -> str:
    if not prices:
        return "give a price table to know: --prices FILE"
    if found.most_cost is None:
        unpriced = [model for model in found.models if prices.cost(model, 0, 0) is None]
        return f"the price table has no {', '.join(unpriced[:3])}"
    return f"at most about {money(found.most_cost, prices.currency)}"


def _seconds(lines: int, settings: Settings) -> float | None:
    if settings.rate is None:
        return None
    return lines / settings.rate.most * settings.rate.window.total_seconds()
