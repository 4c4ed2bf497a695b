"""`mira-queue keys`: API keys of the gateway."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer

from mira_producer.cli import console, options
from mira_producer.cli.options import Json
from mira_producer.cli.own_simulator import SERVE_GROUP, simulated
from mira_producer.client import MiraQueue
from mira_producer.cost.prices import load_prices
from mira_producer.text import plural
from mira_queue.contract.api_key import ApiKey, Scope, checked_cost, checked_key_name, new_key_id, new_secret
from mira_queue.contract.project_limits import ProjectUsage, amount_text
from mira_queue.runtime.settings_loader import load_settings

COLUMNS = ("id", "name", "scope", "open", "max_open", "cost_today", "max_cost_per_day", "account", "created")

CREATE_HELP_END = console.help_end(
    [
        ("mira-queue keys create --name app1", "print a key for an app, alone on standard output"),
        ("mira-queue keys create --name app1 --max-open 1000", "at most 1,000 open jobs"),
        ("mira-queue keys create --name board --scope read", "a key that changes nothing"),
    ],
    {0: "created: the key is on standard output", 1: "the queue could not be reached", 2: "wrong usage or setting"},
)
LIST_HELP_END = console.help_end([("mira-queue keys list", "all keys")], {0: "shown", 2: "wrong usage or setting"})
REVOKE_HELP_END = console.help_end(
    [("mira-queue keys revoke key_2f6c0d9be1a74c55", "one key"), ("mira-queue keys revoke app1", "all keys of app1")],
    {0: "revoked", 1: "there is no such key", 2: "wrong usage or setting"},
)

HELP_END = console.help_end(
    [("mira-queue keys create --name app1", "print a key for an app"), ("mira-queue keys list", "all keys")],
    {0: "done", 1: "failed; the message says why", 2: "wrong usage or setting"},
)

app = typer.Typer(help="Create, list, and revoke API keys of the gateway.", epilog=HELP_END)

OfSimulated = Annotated[bool, typer.Option("--simulated", help="Of a gateway that was started with --simulate.")]


@app.command(epilog=CREATE_HELP_END)
def create(
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the key, and of its project.")],
    scope: Annotated[
        Scope, typer.Option(help="read: no changes; submit: also changes; admin: also other projects.")
    ] = Scope.SUBMIT,
    max_open: Annotated[int, typer.Option(min=0, metavar="N", help="Maximum number of open jobs; 0: no limit.")] = 0,
    max_cost_per_day: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Maximum cost per day, in the currency of the price table.")
    ] = None,
    prices_path: options.PriceTable = None,
    account: Annotated[
        str | None, typer.Option(metavar="NAME", help="Account of its jobs. [default: that of the gateway]")
    ] = None,
    of_simulated: OfSimulated = False,
) -> None:
    """Create an API key, and print it alone on standard output. It is stored as a digest, and never shown again.

    Files, batches, and jobs belong to the project of the key that created them. Keys with the same name have the same
    project: to replace a key, create another one with its name, and revoke the old one by its id. The limits count the
    jobs and batches of the whole project. A day is one of UTC. A limit of the cost needs a price table, and so does the
    gateway.
    """
    key = ApiKey(
        new_key_id(),
        _checked("--name", checked_key_name, name),
        scope,
        int(time.time()),
        max_open,
        _checked("--max-cost-per-day", checked_cost, max_cost_per_day) if max_cost_per_day else "",
        account or "",
    )
    if max_cost_per_day and not load_prices(prices_path):
        reason = "needs a price table: --prices FILE, or prices.toml here. Start the gateway with the same table"
        raise typer.BadParameter(reason, param_hint="--max-cost-per-day")
    secret = new_secret(simulated=of_simulated)
    with queue_of(of_simulated) as queue:
        queue.accounts.named(account)
        queue.ledger.add_api_key(secret, key)
    console.message(f"API key {key.id} of project {key.project}, with the scope {key.scope}. It is shown only now:")
    console.data(secret.get_secret_value())


@app.command("list", epilog=LIST_HELP_END)
def list_keys(of_simulated: OfSimulated = False, as_json: Json = False) -> None:
    """List the API keys, with the open jobs and today's cost of their projects. The keys are stored nowhere."""
    with queue_of(of_simulated) as queue:
        found = queue.ledger.api_keys()
        rows = list(zip(found, queue.ledger.usages_of([key.project for key in found]), strict=True))
    if as_json:
        console.json_data([{**asdict(key), **_usage(usage)} for key, usage in rows])
    elif found:
        console.table(COLUMNS, [_row(key, usage) for key, usage in rows])
    else:
        console.message("no API keys: mira-queue keys create makes one, and so does the first mira-queue serve")


@app.command(epilog=REVOKE_HELP_END)
def revoke(
    which: Annotated[str, typer.Argument(metavar="KEY", help="Id of a key, or the name of all keys of a project.")],
    of_simulated: OfSimulated = False,
) -> None:
    """Revoke API keys. Within a second, gateways reject them. Accepted jobs and batches continue."""
    with queue_of(of_simulated) as queue:
        count = queue.ledger.revoke_api_keys(which)
    if not count:
        console.error(f"no API key has the id or the name {which[:80]!r}: mira-queue keys list shows all")
        raise typer.Exit(console.EXIT_FAILED)
    console.message(f"revoked: {plural(count, 'API key')}")


@contextmanager
def queue_of(of_simulated: bool) -> Iterator[MiraQueue]:
    """The queue of a gateway that was started here, with --simulate or without."""
    settings = load_settings()
    with MiraQueue(simulated(settings, SERVE_GROUP) if of_simulated else settings) as queue:
        yield queue


def _checked(option: str, check: Callable[[str], str], text: str) -> str:
    try:
        return check(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _usage(usage: ProjectUsage) -> dict[str, int | str]:
    """Return the usage of a project: amounts are text, because that is exact."""
    amounts = {"cost_today": amount_text(usage.cost), "reserved_cost": amount_text(usage.reserved)}
    return {"open": usage.open, **amounts}


def _row(key: ApiKey, usage: ProjectUsage) -> list[str]:
    shown = {**asdict(key), **_usage(usage), "created": console.local_time(key.created_at * 1000)}
    return [str(shown[name] or "") for name in COLUMNS]
