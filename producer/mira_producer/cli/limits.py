"""`mira-queue limits`: what was learned about each account's limits, and whether its calls are held back."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import typer

from mira_producer.cli import console
from mira_producer.cli.options import Json
from mira_producer.client import MiraQueue
from mira_producer.text import plural
from mira_queue.contract.known_fields import stored_fields
from mira_queue.contract.pace import Limit
from mira_queue.ledger.accounts import PaceView
from mira_queue.ledger.script_runner import in_ms

COLUMNS = ("account", "base", "rate_limit", "concurrency_limit", "breaker", "in_flight", "waiting")

HELP_END = console.help_end(
    [
        ("mira-queue limits", "every account that this queue has used"),
        ("mira-queue limits --forget", "learn again, for example after a change of the plan"),
    ],
    {0: "shown", 2: "wrong usage or setting"},
)


def limits(
    forget: Annotated[
        bool, typer.Option("--forget", help="Forget the learned limits. If the account waits, send a call immediately.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show each account's learned limits and circuit breaker.

    Limits are learned from the API's 429 responses.

    \b
    account            name, or a hash of base URL and key
    rate_limit         calls per time; "?" until the first 429
    concurrency_limit  calls in flight; "up to 8" until the first 429
    breaker            closed, or open until a time because of a limit (Retry-After)
                       or faults (an outage); half-open while a probe decides
    in_flight          calls in flight now
    waiting            worker processes that wait for a permit

    In parentheses: how often a limit was confirmed, and since when it is known.
    """
    with MiraQueue() as queue:
        views = queue.ledger.pace_views(queue.ledger.accounts())
        if forget:
            for view in views:
                queue.ledger.forget_account(view.account)
                queue.ledger.probe_now(view.account, ends_waits_over=timedelta(0))
            console.message(f"forgot the limits of {plural(len(views), 'account')}")
            return
    if as_json:
        console.json_data([_data(view) for view in views])
    elif views:
        console.table(COLUMNS, [_row(view) for view in views])
    else:
        console.message("no account has been used yet")


def _row(view: PaceView) -> tuple[str, ...]:
    return (
        view.account,
        view.base,
        *limit_texts(view),
        breaker_text(view),
        str(view.in_flight),
        str(view.waiting),
    )


def limit_texts(view: PaceView) -> tuple[str, str]:
    """Return the learned rate limit and concurrency limit."""
    rate, in_flight = view.estimate.rate, view.estimate.in_flight
    return (
        _limit(rate, f" per {rate.retry_after_ms / 1000:g} s") if rate else "?",
        _limit(in_flight) if in_flight else f"up to {view.estimate.start}",
    )


def breaker_text(view: PaceView) -> str:
    """Return the state of the circuit breaker, with its reason and its end."""
    reason = f" ({view.breaker})" if view.breaker else ""
    until = f" until {console.local_time(view.now_ms + in_ms(view.open_for))}" if view.open_for else ""
    return f"{_breaker(view)}{reason}{until}"


def _limit(limit: Limit, window: str = "") -> str:
    probing = f", trying {limit.allowed}" if limit.step else ""
    since = console.local_time(limit.since_ms)
    return f"{limit.max_calls}{window} (confirmed {limit.confirmations}x since {since}{probing})"


def _breaker(view: PaceView) -> str:
    return "open" if view.open_for else "half-open" if view.breaker else "closed"


def _data(view: PaceView) -> dict[str, Any]:
    return {
        "account": view.account,
        "base": view.base,
        **stored_fields(view.estimate),
        "breaker": _breaker(view),
        "breaker_reason": view.breaker or None,
        "breaker_remaining_ms": in_ms(view.open_for),
        "server_message": view.message or None,
        "calls_in_flight": view.in_flight,
        "processes_waiting": view.waiting,
    }
