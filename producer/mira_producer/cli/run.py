"""`mira-queue run`: a file of requests becomes a file of answers."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mira_producer.cli import console
from mira_producer.cli.deadline import parse_deadline
from mira_producer.cli.foreground import RunOptions
from mira_producer.cli.foreground import run as run_file
from mira_producer.cli.paths import default_output
from mira_producer.cost.budget import BudgetLimits
from mira_producer.cost.prices import Prices, load_prices
from mira_producer.engine.options import OnAccountError
from mira_queue.runtime.settings_loader import load_settings

HELP_END = console.help_end(
    [
        ("mira-queue run prompts.jsonl", "answers in prompts.answers.jsonl, errors in prompts.errors.jsonl"),
        ("mira-queue run prompts.jsonl -o answers.jsonl --errors errors.jsonl", "the same, in files you name"),
        ("mira-queue run prompts.jsonl --report report.html", "... and a page to look at when it has ended"),
        ("mira-queue run prompts.jsonl --simulate", "a rehearsal: no key, no bill, no real answers"),
        ("mira-queue run prompts.jsonl --simulate --simulator-options '--limits mira --scale 0.1'", "... with limits"),
    ],
    {
        0: "every line is answered",
        1: "it ran to the end, and some lines are in the error file",
        2: "wrong usage, input or setting: nothing was sent",
        3: "stopped by the account (401, 402, 403) or the budget: mend it, or raise it, and run again",
        130: "interrupted: run again",
    },
)


def run(
    input_path: Annotated[Path, typer.Argument(metavar="INPUT.jsonl", help="One JSON request a line.")],
    output_path: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Answers. [default: INPUT.answers.jsonl]")
    ] = None,
    errors_path: Annotated[
        Path | None, typer.Option("--errors", metavar="FILE", help="Failed lines. [default: INPUT.errors.jsonl]")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, max=64, metavar="N", help="Worker processes to start; 0: others do the work.")
    ] = 1,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=1000, metavar="N", help="Calls at a time, of each; else MIRA_CONCURRENCY.")
    ] = None,
    on_account_error: Annotated[
        OnAccountError,
        typer.Option(help="On 401, 402 and 403: stop, and leave the lines for later; or note one error a line."),
    ] = "pause",
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="Lines not ended by then are not run: 24h, 90m, an ISO time.")
    ] = None,
    dedupe: Annotated[
        bool, typer.Option("--dedupe", help="Send identical requests once; each line gets the answer.")
    ] = False,
    ordered: Annotated[
        bool, typer.Option("--ordered", help="In the end, put the files in the order of the input.")
    ] = False,
    max_requests: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after so many calls of these files.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after so many tokens, in and out.")
    ] = None,
    max_cost: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Stop at this cost, in the currency of the price table.")
    ] = None,
    prices_path: Annotated[
        Path | None, typer.Option("--prices", metavar="FILE", help="Price table. [default: ./prices.toml, if there]")
    ] = None,
    report_path: Annotated[
        Path | None, typer.Option("--report", metavar="FILE.html", help="At the end, a page with drawings of the run.")
    ] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Against a simulator, which is started and stopped with the run.")
    ] = False,
    simulate_without_key: Annotated[
        bool, typer.Option("--simulate-without-key", help="The same, but only when MIRA_API_KEY is not set.")
    ] = False,
    simulator_options: Annotated[
        str, typer.Option(metavar="OPTIONS", help="For the simulator; see mira-queue simulate --help.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON to standard output.")] = False,
) -> None:
    """Answer every request of a file, whatever happens on the way.

    A line is a request body ({"messages": [...]}), a prompt ({"prompt": "..."}), or one of the batch format
    ({"custom_id": ..., "body": {...}}). "custom_id" names the line in the output; without one its number does. All
    lines are checked before the first is sent.

    The output file is the record of what is done: run the same command again after any stop, and it goes on there. An
    answered line is never sent again, nor is a failed one: to try those again, move the error file away.

    A budget includes what earlier runs used, as far as the two files say (tokens: the answers' usage; calls: one a
    line). Something is set aside for a line before it is handed in, and settled when it has ended; where answers turn
    out longer than those before, the calls that workers have in hand can exceed it, and nothing else.
    """
    settings = load_settings(**({} if concurrency is None else {"concurrency": concurrency}))
    if simulate_without_key and settings.api_key is None:
        console.message("MIRA_API_KEY is not set: using the simulator")
        simulate = True
    if simulator_options and not (simulate or simulate_without_key):
        raise typer.BadParameter("is for --simulate", param_hint="--simulator-options")
    prices = load_prices(prices_path)
    cost = _cost(max_cost, prices)
    output_default, errors_default = default_output(input_path, simulate)
    options = RunOptions(
        input=input_path,
        output=output_path or output_default,
        errors=errors_path or errors_default,
        workers=workers,
        simulate=simulate,
        simulator_options=_words(simulator_options),
        on_account_error=on_account_error,
        deadline=deadline_time(deadline),
        dedupe=dedupe,
        ordered=ordered,
        prices=prices,
        budget=BudgetLimits(max_requests, max_tokens, cost) if max_requests or max_tokens or cost else None,
        report=report_path,
    )
    result = run_file(options, settings, Console(stderr=True))
    if as_json:
        console.json_data(asdict(result))
    raise typer.Exit(result.exit_code)


def deadline_time(text: str | None) -> datetime | None:
    """The time that --deadline says."""
    try:
        return None if text is None else parse_deadline(text, datetime.now(UTC))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--deadline") from None


def _cost(text: str | None, prices: Prices) -> Decimal | None:
    if text is None:
        return None
    try:
        cost = Decimal(text)
    except InvalidOperation:
        cost = Decimal("NaN")
    if not cost.is_finite() or cost <= 0:
        raise typer.BadParameter(
            f"expected an amount above 0, such as 10 or 0.50, got {text!r}", param_hint="--max-cost"
        )
    if not prices:
        raise typer.BadParameter("needs a price table: --prices FILE, or prices.toml here", param_hint="--max-cost")
    return cost


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--simulator-options") from None
