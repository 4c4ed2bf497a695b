"""`mira-queue webhooks`: recent deliveries of webhooks, and dead ones that can be sent again."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mira_producer.cli import console
from mira_producer.cli.keys import OfSimulated, queue_of
from mira_producer.cli.options import Json
from mira_producer.text import plural
from mira_queue.contract.delivery import DeliveryState
from mira_queue.contract.names import MAX_RECENT_DELIVERIES
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.webhooks import Delivery

COLUMNS = ("id", "state", "attempts", "last_result", "event", "project", "target", "created")

LIST_HELP_END = console.help_end(
    [
        ("mira-queue webhooks list", "the last deliveries of all projects"),
        ("mira-queue webhooks list --state dead", "those that nothing sends again, unless you do"),
    ],
    {0: "shown", 2: "wrong usage or setting"},
)
RESEND_HELP_END = console.help_end(
    [
        ("mira-queue webhooks resend whd_2f6c0d9be1a74c55", "one dead delivery"),
        ("mira-queue webhooks resend --all", "all that `list --state dead` shows"),
    ],
    {0: "sent again", 1: "a delivery does not exist, or is not dead", 2: "wrong usage or setting"},
)
HELP_END = console.help_end(
    [
        ("mira-queue webhooks list", "the last deliveries"),
        ("mira-queue webhooks resend --all", "send dead deliveries again"),
    ],
    {0: "done", 1: "failed; the message says why", 2: "wrong usage or setting"},
)

app = typer.Typer(help="List deliveries of webhooks, and send dead ones again.", epilog=HELP_END)


@app.command("list", epilog=LIST_HELP_END)
def list_deliveries(
    state: Annotated[DeliveryState | None, typer.Option(help="Only deliveries in this state.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=MAX_RECENT_DELIVERIES, metavar="N", help="Maximum number of deliveries.")
    ] = 20,
    of_simulated: OfSimulated = False,
    as_json: Json = False,
) -> None:
    """List recent deliveries, the newest first. A gateway (mira-queue serve) makes them.

    pending: an attempt follows. dead: no attempt follows, because the last one has failed, the receiver wants no more,
    or too many deliveries waited for it.
    """
    with queue_of(of_simulated) as queue:
        found = queue.ledger.recent_deliveries(state=state, limit=limit)
    if as_json:
        console.json_data([_shown(each) for each in found])
    elif found:
        console.table(COLUMNS, [_row(each) for each in found])
    else:
        console.message("no deliveries match" if state else "no deliveries: docs/webhooks.md says how to get events")


@app.command(epilog=RESEND_HELP_END)
def resend(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of dead deliveries.")] = None,
    all_dead: Annotated[bool, typer.Option("--all", help="All dead deliveries that are listed.")] = False,
    of_simulated: OfSimulated = False,
) -> None:
    """Send dead deliveries again. Their attempts begin again, with one that is due immediately."""
    if bool(ids) == all_dead:
        raise typer.BadParameter("expected ids of dead deliveries, or --all")
    with queue_of(of_simulated) as queue:
        missing = [each for each in ids or () if not _resend(queue.ledger, queue.ledger.dead_delivery(each))]
        count = len(ids or ()) - len(missing)
        if all_dead:
            dead = queue.ledger.recent_deliveries(state=DeliveryState.DEAD, limit=MAX_RECENT_DELIVERIES)
            count = sum(_resend(queue.ledger, each) for each in dead)
    console.message(f"sent again: {plural(count, 'webhook')}")
    if missing:
        console.error(f"no dead delivery has the id {missing[0][:80]!r}: see mira-queue webhooks list --state dead")
        raise typer.Exit(console.EXIT_FAILED)


def _resend(ledger: Ledger, delivery: Delivery | None) -> bool:
    return delivery is not None and ledger.resend_delivery(delivery)


def _shown(found: Delivery) -> dict[str, Any]:
    return {
        "id": found.id,
        "state": found.state,
        "attempts": found.attempts,
        "last_result": found.result,
        "event": found.event.type,
        "subject": found.event.subject,
        "project": found.event.project,
        "target": found.target,
        "created_ms": found.created_ms,
        "attempted_ms": found.attempted_ms,
        "next_attempt_ms": found.due_ms,
    }


def _row(found: Delivery) -> list[str]:
    shown = {**_shown(found), "created": console.local_time(found.created_ms)}
    return [str(shown[name]) for name in COLUMNS]
