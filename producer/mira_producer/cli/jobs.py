"""`mira-queue jobs`: list recent single jobs, and cancel or retry all that match."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from mira_producer.cli import console
from mira_producer.cli.options import Json, Metadata, notes_of, time_option
from mira_producer.cli.status import COLUMNS as STATUS_COLUMNS
from mira_producer.cli.status import row_of
from mira_producer.client import MiraQueue
from mira_producer.text import plural
from mira_queue.contract.job_filter import MAX_LIMIT, JobFilter
from mira_queue.contract.states import JobState

COLUMNS = (*STATUS_COLUMNS, "model", "priority", "metadata")

HELP_END = console.help_end(
    [
        ("mira-queue jobs --state failed --since 2h", "jobs that were accepted in the last two hours, and failed"),
        ("mira-queue jobs --code balance_used_up --retry", "after you have topped up the account; asks first"),
        ("mira-queue jobs --metadata tenant=7 --cancel --yes", "cancel all jobs with this note that have not finished"),
        ("mira-queue jobs --after ID", "the next page, with the last ID of this one"),
    ],
    {0: "shown, or done", 1: "nothing was changed: the question was not answered with y", 2: "wrong usage or setting"},
)


def jobs(
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    code: Annotated[
        str | None, typer.Option(metavar="CODE", help="Only jobs that failed with this code (docs/errors.md).")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Only jobs for this model.")] = None,
    metadata: Metadata = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only jobs accepted since then: 2h or 90m ago, an ISO time.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only jobs accepted before then.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LIMIT, metavar="N", help="Show at most N jobs.")] = 20,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Show the jobs that follow this one.")] = None,
    is_cancel: Annotated[bool, typer.Option("--cancel", help="Cancel all that match and have not finished.")] = False,
    is_retry: Annotated[bool, typer.Option("--retry", help="Retry all that match and have failed.")] = False,
    is_sure: Annotated[bool, typer.Option("--yes", help="Do not ask before --cancel or --retry.")] = False,
    as_json: Json = False,
) -> None:
    """List recent single jobs, the newest first.

    Listed are the last 10,000 jobs that have not finished, and the last 10,000 of each final state and of each error
    code. Lines of files are not listed: see mira-queue batches. With --json, times are Unix milliseconds.

    With --cancel or --retry, the command counts the jobs that match, asks, and acts on all, not only on --limit.
    """
    if is_cancel and is_retry:
        raise typer.BadParameter("give one of the two: --cancel or --retry", param_hint="--retry")
    first, end = (
        time_option(text, name, datetime.now(UTC), is_past=True)
        for text, name in ((since, "--since"), (until, "--until"))
    )
    wanted = JobFilter.checked(state=state, code=code, model=model, metadata=notes_of(metadata), since=first, until=end)
    with MiraQueue() as queue:
        if is_cancel:
            _act("cancel", "cancelled", queue.count_cancellable, queue.cancel_matching, wanted, is_sure, as_json)
        elif is_retry:
            _act("retry", "queued again", queue.count_retryable, queue.retry_matching, wanted, is_sure, as_json)
        else:
            _show(queue, wanted, limit, after or "", as_json)


def _show(queue: MiraQueue, wanted: JobFilter, limit: int, after: str, as_json: bool) -> None:
    # One more, to know whether there is a next page.
    found = queue.ledger.listed(wanted, after=after, limit=limit + 1)
    shown = found[:limit]
    if as_json:
        console.json_data([asdict(job) for job in shown])
        return
    if not shown:
        console.message("no jobs match" if wanted != JobFilter() or after else "no jobs: mira-queue enqueue adds one")
        return
    notes = [" ".join(f"{key}={value}" for key, value in job.metadata.items()) for job in shown]
    rows = [(*row_of(job), job.model, job.priority, note) for job, note in zip(shown, notes, strict=True)]
    console.table(COLUMNS, rows)
    if len(found) > limit:
        console.message(f"more: --after {shown[-1].id}")


def _act(
    verb: str,
    done: str,
    matching: Callable[[JobFilter], int],
    act: Callable[[JobFilter], int],
    wanted: JobFilter,
    is_sure: bool,
    as_json: bool,
) -> None:
    """Count first, ask, then act."""
    if not is_sure:
        count = matching(wanted)
        if not sys.stdin.isatty():
            raise typer.BadParameter(f"to {verb} {plural(count, 'job')}, add --yes", param_hint=f"--{verb}")
        if not typer.confirm(f"{verb} {plural(count, 'job')}?", err=True):
            raise typer.Exit(console.EXIT_FAILED)
    changed = act(wanted)
    if as_json:
        console.json_data({"done": changed})
    else:
        console.message(f"{plural(changed, 'job')} {'is' if changed == 1 else 'are'} {done}")
