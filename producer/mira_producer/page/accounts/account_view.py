"""`/accounts/{id}`: one account with its learned limits over time, live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.gateway.context import Context
from mira_producer.gateway.http.errors import not_found
from mira_producer.gateway.http.threads import in_thread
from mira_producer.page.accounts.account_reader import account_states
from mira_producer.page.accounts.account_state import AccountState
from mira_producer.page.accounts.limit_chart import LimitChart, charts_of
from mira_producer.page.overview.recent_batches import recent_batches
from mira_producer.page.overview.waits import Wait, waits_of
from mira_producer.page.rendering import fragment, render
from mira_producer.page.views import live, view
from mira_producer.page.visitor import Audience, Visitor
from mira_producer.page.workers.worker_reader import read_workers
from mira_producer.page.workers.worker_state import WorkerState
from mira_queue.contract.pace import LimitChange

# Parts that change, by the id of their element.
PARTS = ("state", "numbers", "limits", "workers")


@dataclass(frozen=True, slots=True)
class ShownAccount:
    """All that the view shows. `changes` are those of the learned limits, the newest first."""

    account: AccountState
    waits: list[Wait]
    charts: list[LimitChart]
    changes: list[LimitChange]
    workers: list[WorkerState]


def routes(context: Context) -> list[BaseRoute]:
    async def show(request: Request, visitor: Visitor) -> Response:
        shown = await in_thread(_read, context, request.path_params["id"], visitor.audience)
        path = f"/live/accounts/{shown.account.id}"
        return render(request, visitor, "account.html", live=path, shown=shown, parts=PARTS)

    async def read(request: Request, audience: Audience) -> Mapping[str, str]:
        shown = await in_thread(_read, context, request.path_params["id"], audience)
        return {
            f"account-{part}": fragment(request, audience, f"parts/account_{part}.html", shown=shown) for part in PARTS
        }

    return [view(context, "/accounts/{id}", show), live(context, "/live/accounts/{id}", read)]


def _read(context: Context, account_id: str, audience: Audience) -> ShownAccount:
    ledger = context.queue.ledger
    if account_id not in ledger.accounts():
        raise not_found("account", account_id)
    (account,) = account_states(context.queue, [account_id])
    changes = ledger.limit_changes(account_id)
    batches = [state.batch for state in recent_batches(context, audience)]
    (pace,) = ledger.pace_views([account_id])
    return ShownAccount(
        account,
        waits_of([account], []),
        charts_of(changes, pace.now_ms),
        changes[::-1],
        read_workers(ledger, [account_id], batches, audience),
    )
