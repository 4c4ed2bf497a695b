"""`mira-queue run`: answer every request of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mira_producer.cli import console, options
from mira_producer.cli.foreground import run as run_file
from mira_producer.cli.paths import output_paths
from mira_producer.cli.simulator_options import split_options
from mira_producer.cost.prices import load_prices
from mira_producer.engine.options import check_options
from mira_queue.runtime.accounts_file import load_accounts, with_account
from mira_queue.runtime.settings_loader import load_settings

HELP_END = console.help_end(
    [
        ("mira-queue run prompts.jsonl", "answers in prompts.answers.jsonl, errors in prompts.errors.jsonl"),
        (
            "mira-queue run prompts.jsonl -o answers.jsonl --errors errors.jsonl",
            "answers and errors in files that you name",
        ),
        ("mira-queue run prompts.jsonl --report report.html", "also write a page about the run"),
        ("mira-queue run prompts.jsonl --simulate", "a dry run: no key, no bill, no real answers"),
        (
            "mira-queue run prompts.jsonl --simulate --simulator-options '--limits mira --scale 0.1'",
            "a dry run with the limits of Mira, ten times as fast",
        ),
    ],
    {
        0: "every line is answered",
        1: "every line has finished, and some are in the error file; or the queue could not be reached",
        2: "wrong usage, input or setting: nothing was sent",
        3: "stopped by the account (401, 402, 403), the budget or a file: fix it, and run again",
        130: "interrupted: run again",
    },
)


def run(
    input_path: Annotated[Path, typer.Argument(metavar="INPUT.jsonl", help="One JSON request per line.")],
    output_path: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Answers. [default: INPUT.answers.jsonl]")
    ] = None,
    errors_path: Annotated[
        Path | None,
        typer.Option(
            "--errors", metavar="FILE", help="Failed lines. [default: INPUT.errors.jsonl, next to the answers]"
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, max=64, metavar="N", help="Worker processes to start; 0: other workers run the jobs.")
    ] = 1,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, max=1000, metavar="N", help="Maximum concurrent calls per worker. [MIRA_CONCURRENCY]"),
    ] = None,
    on_account_error: options.AccountErrors = "pause",
    deadline: options.Deadline = None,
    dedupe: options.Dedupe = False,
    ordered: options.Ordered = False,
    changed: options.Changed = None,
    max_requests: options.MaxRequests = None,
    max_tokens: options.MaxTokens = None,
    max_cost: options.MaxCost = None,
    prices_path: options.PriceTable = None,
    report_path: Annotated[
        Path | None, typer.Option("--report", metavar="FILE.html", help="At the end, write a page about the run.")
    ] = None,
    simulate: options.Simulate = False,
    simulate_without_key: options.SimulateWithoutKey = False,
    simulator_options: options.SimulatorOptions = "",
    account: options.AccountName = None,
    as_json: options.Json = False,
) -> None:
    """Answer every request of a file.

    A line is a request body ({"messages": [...]}), a prompt ({"prompt": "..."}), or a line of the batch format
    ({"custom_id": ..., "body": {...}}). "custom_id" names the line in the output. Without it, the line number does. All
    lines are checked before the first is sent.

    The output file is the record of the run: after any stop, run the same command again to resume. A line that has an
    answer or a permanent error is never sent again. A line that the account rejected (401, 402, 403) is sent again. To
    retry the other failed lines, move the error file away. If the request of a finished line has changed, nothing is
    sent until you choose --changed rerun, --changed keep, or another output file.

    A run is a batch: from another terminal, status, pause, resume, cancel, results and report work on it, by the id
    that it prints.

    A budget includes what earlier runs used, as far as the two files say (tokens: the usage of the answers; calls: one
    per line). Part of the budget is reserved for each line before it is submitted. Only calls in flight can exceed the
    budget, if their answers are longer than earlier ones.
    """
    settings = load_settings(**({} if concurrency is None else {"concurrency": concurrency}))
    settings = with_account(settings, account)
    if simulate_without_key and load_accounts(settings).current.key is None:
        console.message("MIRA_API_KEY is not set: using the simulator")
        simulate = True
    if simulator_options and not (simulate or simulate_without_key):
        raise typer.BadParameter("is for --simulate", param_hint="--simulator-options")
    words = split_options(simulator_options)
    output_path, errors_path = output_paths(input_path, output_path, errors_path, simulate)
    wanted = options.batch_options(
        on_account_error, deadline, dedupe, ordered, max_requests, max_tokens, max_cost, changed
    )
    check_options(wanted, load_prices(prices_path))
    result = run_file(
        input_path,
        output_path,
        errors_path,
        wanted,
        settings,
        Console(stderr=True),
        prices=prices_path,
        report=report_path,
        workers=workers,
        simulator=words if simulate else None,
    )
    if as_json:
        console.json_data(result)
    raise typer.Exit(result["exit_code"])
