"""`mira-queue accounts`: the accounts of the queue, and `accounts adopt`, which moves jobs between them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from mira_producer.adoption import Adopted
from mira_producer.adoption import adopt as adopt_jobs
from mira_producer.cli import console
from mira_producer.cli.limits import breaker_text, limit_texts
from mira_producer.cli.options import AccountName, Json
from mira_producer.client import MiraQueue
from mira_producer.text import plural
from mira_queue.contract.account import Account
from mira_queue.contract.known_fields import stored_fields
from mira_queue.ledger.queue_stats import AccountStats

COLUMNS = ("account", "base", "key", "open_jobs", "workers", "rate_limit", "concurrency_limit", "breaker")

LIST_HELP_END = console.help_end(
    [
        ("mira-queue accounts", "every account of the queue and of accounts.toml"),
        ("mira-queue accounts --json | jq '.[] | select(.workers == 0 and .open_jobs > 0)'", "jobs without a worker"),
    ],
    {0: "shown", 2: "wrong usage or setting"},
)
ADOPT_HELP_END = console.help_end(
    [
        ("mira-queue accounts adopt 3f0c9a7d5e21b864", "its key was replaced by the current MIRA_API_KEY"),
        ("mira-queue accounts adopt 3f0c9a7d5e21b864 --account prod", "from now on, the account has a name"),
    ],
    {0: "its jobs have moved", 1: "refused: the message says why", 2: "wrong usage or setting"},
)

app = typer.Typer(invoke_without_command=True)


@app.callback(epilog=LIST_HELP_END)
def accounts(context: typer.Context, as_json: Json = False) -> None:
    """Show each account: its base URL, open jobs, workers, and limits.

    \b
    account     name, or a hash of base URL and key
    key         yes: this machine has it; current: jobs belong to this account if they name no other
    open_jobs   jobs that have not finished. A worker runs those of accounts whose key it has.
    workers     worker processes that serve the account

    `mira-queue limits` explains the other columns.
    """
    if context.invoked_subcommand is not None:
        return
    with MiraQueue() as queue:
        known = {account.id: account for account in queue.accounts}
        # An account without a name and without a key has no job of its own.
        here = [each.id for each in known.values() if each.is_named or each.key is not None]
        stats = queue.ledger.account_stats(sorted({*queue.ledger.accounts(), *here}))
        current = queue.accounts.current.id
    if as_json:
        console.json_data([_data(each, known.get(each.pace.account), current) for each in stats])
        return
    if not stats:
        console.message("no account has been used yet")
        return
    console.table(COLUMNS, [_row(each, known.get(each.pace.account), current) for each in stats])
    for each in stats:
        if each.open_jobs and not each.pace.workers:
            name = each.pace.account
            console.message(f"no worker serves account {name}: {plural(each.open_jobs, 'open job')}")


@app.command(epilog=ADOPT_HELP_END)
def adopt(
    old: Annotated[str, typer.Argument(metavar="OLD", help="Id of the account whose jobs move; see accounts.")],
    account: AccountName = None,
    allow_other_base: Annotated[
        bool, typer.Option("--allow-other-base", help="Send the prompts of its jobs to another base URL.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Move the open jobs and batches of an account to the current account, or to a named one.

    Use it if the key of an account without a name has changed. A named account keeps its jobs when its key changes.
    Jobs that a live worker runs stay where they are, and finish there. If the base URL of a named account has changed,
    name that account twice: `accounts adopt prod --account prod --allow-other-base`.
    """
    with MiraQueue() as queue:
        new = queue.accounts.named(account)
        adopted = adopt_jobs(queue, old, new, allow_other_base=allow_other_base)
        if as_json:
            console.json_data({"account": new.id, **asdict(adopted)})
            return
        for line in _lines(adopted, new):
            console.message(line)
        if problem := queue.no_worker(new.id):
            console.message(f"{problem}: start one with mira-queue worker")


def _lines(adopted: Adopted, new: Account) -> list[str]:
    batches = f" and {adopted.batches:,} of its batches" if adopted.batches else ""
    lines = [f"{plural(adopted.jobs, 'open job')}{batches} now belong to account {new.id} ({new.base})"]
    if adopted.running:
        lines.append(f"{plural(adopted.running, 'job')} stay: a live worker runs them")
    if adopted.duplicates:
        lines.append(f"{plural(adopted.duplicates, 'job')} stay: account {new.id} has jobs with their idempotency keys")
    return lines


def _row(stats: AccountStats, account: Account | None, current: str) -> tuple[str, ...]:
    pace = stats.pace
    return (
        pace.account,
        pace.base or (account.base if account else ""),
        _key_text(account, current),
        str(stats.open_jobs),
        str(pace.workers),
        *limit_texts(pace),
        breaker_text(pace),
    )


def _key_text(account: Account | None, current: str) -> str:
    if account is None or account.key is None:
        return "no"
    return "current" if account.id == current else "yes"


def _data(stats: AccountStats, account: Account | None, current: str) -> dict[str, Any]:
    pace = stats.pace
    return {
        "account": pace.account,
        "base": pace.base or (account.base if account else None),
        "has_key": account is not None and account.key is not None,
        "is_current": pace.account == current,
        "open_jobs": stats.open_jobs,
        "queued": sum(stats.queued.values()),
        "leased": stats.leased,
        "waiting": stats.waiting,
        "workers": pace.workers,
        "calls_in_flight": pace.in_flight,
        **stored_fields(pace.estimate),
        "configured": account.limits._asdict() if account else None,
    }
