"""`mira-queue limits`: what was learned of each account's limits, and what is let through now."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

import typer

from mira_producer.cli import console
from mira_producer.cli.outcome import Json
from mira_producer.client import MiraQueue
from mira_queue.contract.pace import Limit
from mira_queue.ledger.accounts import PaceView

Forget = Annotated[bool, typer.Option("--forget", help="Forget what was learned; calls in flight and waits stay.")]

COLUMNS = ("account", "base", "calls", "in_flight", "gate", "flying", "waiting")

HELP_END = console.help_end(
    [
        ("mira-queue limits", "what is known of each account that this queue has used"),
        ("mira-queue limits --forget", "learn anew, after a change of the plan, say"),
    ],
    {0: "shown", 2: "wrong usage or setting"},
)


def limits(forget: Forget = False, as_json: Json = False) -> None:
    """Show what is known of the accounts' limits, and their gates.

    Limits are learned from the API's own refusals.

    \b
    account    a hash of base URL and key
    calls      most calls in any so long; "?": none were refused yet
    in_flight  most calls at a time; "up to": so many are tried, none were refused yet
    gate       open, or until when nothing leaves, and why: limit (a Retry-After), faults (an outage)
    flying     calls in flight now
    waiting    worker processes that wait for a place

    A limit is followed by how often it was met at just this number, and since when it is known.
    """
    with MiraQueue() as queue:
        views = [queue.ledger.pace_view(account) for account in queue.ledger.accounts()]
        if forget:
            for view in views:
                queue.ledger.forget_account(view.account)
            console.message(f"forgotten: the limits of {len(views)} account{'' if len(views) == 1 else 's'}")
            return
    if as_json:
        console.json_data([_data(view) for view in views])
    elif views:
        console.table(COLUMNS, [_row(view) for view in views])
    else:
        console.message("no account was used yet")


def _row(view: PaceView) -> tuple[str, ...]:
    estimate = view.estimate
    return (
        view.account,
        view.base,
        _limit(estimate.rate, " in " + _seconds(estimate.rate.retry_after_ms) if estimate.rate else ""),
        _limit(estimate.in_flight, "") if estimate.in_flight else f"up to {estimate.start}",
        _gate(view),
        str(view.in_flight),
        str(view.waiting),
    )


def _limit(limit: Limit | None, window: str) -> str:
    if limit is None:
        return "?"
    looking = f", trying {limit.allowed}" if limit.step else ""
    return (
        f"{limit.max_calls}{window} (met {limit.confirmations}x, since {console.local_time(limit.since_ms)}{looking})"
    )


def _gate(view: PaceView) -> str:
    if view.open_for:
        until_ms = view.now_ms + round(view.open_for / timedelta(milliseconds=1))
        return f"{view.breaker}, until {console.local_time(until_ms)}"
    return f"{view.breaker}, a probe is next or out" if view.breaker else "open"


def _seconds(duration_ms: int) -> str:
    return f"{duration_ms / 1000:g} s"


def _data(view: PaceView) -> dict[str, Any]:
    return {
        "account": view.account,
        "base": view.base,
        **asdict(view.estimate),
        "gate": view.breaker or "open",
        "closed_ms": round(view.open_for / timedelta(milliseconds=1)),
        "flying": view.in_flight,
        "waiting": view.waiting,
    }
