"""Command line of the chaos run: `python -m tests.chaos` or `make chaos`."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.chaos.driver import NotEmpty, run_chaos
from tests.chaos.options import ChaosOptions
from tests.chaos.scorecard import Score, table
from tests.chaos.system import MiraQueueSystem, StockSystem, System

EXIT_LOSS = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(context_settings={"max_content_width": 120})
def chaos(
    jobs: Annotated[int, typer.Option(min=10, help="Total number of jobs: single jobs and batch lines.")] = 5_000,
    faults: Annotated[int, typer.Option(min=0, help="Faults of all kinds.")] = 60,
    seed: Annotated[int, typer.Option(help="Equal seeds inject the same faults at the same share of the work.")] = 1,
    minutes: Annotated[float | None, typer.Option(help="Time limit; default: computed from jobs and faults.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 3,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Concurrent calls per worker.")] = 16,
    producers: Annotated[int, typer.Option(min=1, max=64, help="Producers of single jobs.")] = 2,
    accounts: Annotated[int, typer.Option(min=1, max=2, help="Accounts, each with its own key and API.")] = 2,
    batch_share: Annotated[float, typer.Option(min=0, max=0.9, help="Share of the jobs that are batch lines.")] = 0.25,
    latency: Annotated[
        str | None,
        typer.Option(metavar="MIN-MAX", help="Seconds per call; default: long enough for all faults."),
    ] = None,
    lease: Annotated[float, typer.Option(min=1, help="MIRA_LEASE of the workers, seconds.")] = 3.0,
    rescue: Annotated[float, typer.Option(min=0.1, help="MIRA_RESCUE_INTERVAL, seconds.")] = 1.0,
    grace: Annotated[float, typer.Option(min=0, help="MIRA_GRACE, seconds.")] = 5.0,
    backlog: Annotated[int | None, typer.Option(min=1, help="Maximum queued jobs; default: a tenth.")] = None,
    redis_url: Annotated[
        str | None,
        typer.Option(
            envvar="CHAOS_REDIS_URL",
            help="Use this server. It must be empty; it is not killed; it is cleared at the end.",
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting, such as request_timeout=5; repeatable."),
    ] = None,
    simulator: Annotated[
        list[str] | None,
        typer.Option("--sim", metavar="NAME=VALUE", help="A setting of the simulator, such as rate=300; repeatable."),
    ] = None,
    stock: Annotated[bool, typer.Option("--stock", help="Stock Celery instead of mira-queue.")] = False,
    both: Annotated[
        bool, typer.Option("--both", help="Run mira-queue, then stock Celery, and show both in one table.")
    ] = False,
    visibility_timeout: Annotated[int, typer.Option(min=1, help="Visibility timeout of stock Celery, seconds.")] = 20,
    compare: Annotated[
        list[Path] | None, typer.Option(exists=True, help="Scorecard of an earlier run (--json) to show in the table.")
    ] = None,
    json_path: Annotated[
        Path | None,
        typer.Option("--json", help="Write the scorecards to this file; '-' is standard output."),
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="New directory that keeps logs, journals, and files.")] = None,
) -> None:
    """Inject faults at random moments. Then check that no job is lost, duplicated, wrong, or sent where it must not be.

    The exit code is 1 if any count is over its limit (losses of stock Celery are only reported), and 2 for wrong usage.
    """
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    lowest, _, highest = (latency or "").partition("-")
    try:
        options = ChaosOptions(
            jobs=jobs,
            faults=faults,
            seed=seed,
            workers=workers,
            concurrency=concurrency,
            producers=producers,
            accounts=accounts,
            batch_share=batch_share,
            latency_s=(float(lowest), float(highest or lowest)) if latency else None,
            lease_s=lease,
            rescue_s=rescue,
            grace_s=grace,
            backlog=backlog,
            minutes=minutes,
            redis_url=redis_url,
            settings=dict(_pair(text) for text in setting or []),
            simulator={name: json.loads(value) for name, value in map(_pair, simulator or [])},
            visibility_timeout_s=visibility_timeout,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    systems: list[System] = (
        [MiraQueueSystem(), StockSystem()] if both else [StockSystem() if stock else MiraQueueSystem()]
    )
    console = Console(stderr=True)
    earlier = [Score.from_dict(entry) for path in compare or [] for entry in json.loads(path.read_text())]
    try:
        scores = [_run(options, system, console, keep) for system in systems]
    except KeyboardInterrupt:
        console.print("interrupted: all processes were stopped")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except (NotEmpty, FileExistsError) as error:
        console.print(str(error), markup=False)
        raise typer.Exit(EXIT_USAGE) from None
    _show(scores, earlier, json_path, console)
    if not scores[0].is_clean and not stock:
        raise typer.Exit(EXIT_LOSS)


def _run(options: ChaosOptions, system: System, console: Console, keep: Path | None) -> Score:
    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    options = replace(options, accounts=min(options.accounts, len(system.keys)))
    folder = keep / system.name.replace(" ", "-") if keep else None
    say(f"{system.name}: {options.jobs:,} jobs, {options.faults} faults, seed {options.seed}")
    return run_chaos(options, system, say, folder)


def _show(scores: list[Score], earlier: list[Score], json_path: Path | None, console: Console) -> None:
    content = json.dumps([score.to_dict() for score in scores], indent=1)
    if json_path is not None and os.fspath(json_path) == "-":
        print(content)
    else:
        Console().print(table([*scores, *earlier]))
    if json_path is not None and os.fspath(json_path) != "-":
        json_path.write_text(content)
    for score in scores:
        for line in score.remarks:
            console.print(f"{score.system}: {line}", highlight=False, markup=False, soft_wrap=True)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set {text}: expected NAME=VALUE")
    return name.lower().removeprefix("mira_"), value


if __name__ == "__main__":
    app()
