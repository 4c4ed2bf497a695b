"""`/`: the overview, live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.gateway.context import Context
from mira_producer.gateway.http.threads import in_thread
from mira_producer.page.accounts.account_reader import account_states
from mira_producer.page.accounts.account_state import AccountState
from mira_producer.page.batches.batch_state import BatchState
from mira_producer.page.overview.activity_numbers import ActivityNumbers, numbers_of
from mira_producer.page.overview.failed_jobs import failed_by_account
from mira_producer.page.overview.recent_batches import recent_batches
from mira_producer.page.overview.waits import Wait, waits_of
from mira_producer.page.rendering import fragment, render
from mira_producer.page.views import live, view
from mira_producer.page.visitor import Audience, Visitor
from mira_producer.page.workers.worker_reader import read_workers
from mira_producer.page.workers.worker_state import WorkerState

# Parts that change, by the id of their element.
PARTS = ("waits", "numbers", "activity", "errors", "accounts", "workers", "batches")


@dataclass(frozen=True, slots=True)
class Overview:
    """All that the overview shows. `batches` are the open ones among the most recent.

    `failed_jobs` are the numbers of single jobs that the account has rejected, by code.
    """

    waits: list[Wait]
    failed_jobs: list[tuple[str, int]]
    numbers: ActivityNumbers
    accounts: list[AccountState]
    workers: list[WorkerState]
    batches: list[BatchState]

    @property
    def in_flight(self) -> int:
        return sum(account.in_flight.used for account in self.accounts)

    @property
    def open_jobs(self) -> int:
        return sum(account.open_jobs for account in self.accounts)

    @property
    def pending_lines(self) -> int:
        return sum(state.pending for state in self.batches)


def routes(context: Context) -> list[BaseRoute]:
    async def show(request: Request, visitor: Visitor) -> Response:
        shown = await in_thread(_read, context, visitor.audience)
        return render(request, visitor, "overview.html", live="/live/overview", shown=shown, parts=PARTS)

    async def read(request: Request, audience: Audience) -> Mapping[str, str]:
        shown = await in_thread(_read, context, audience)
        return {part: fragment(request, audience, f"parts/overview_{part}.html", shown=shown) for part in PARTS}

    return [view(context, "/", show), live(context, "/live/overview", read)]


def _read(context: Context, audience: Audience) -> Overview:
    ledger = context.queue.ledger
    ids = ledger.accounts()
    accounts = account_states(context, ids)
    batches = recent_batches(context, audience)
    activities = ledger.activities(ids)
    now_ms = activities[0].now_ms if activities else 0
    open_batches = [state for state in batches if state.is_open]
    return Overview(
        waits_of(accounts, open_batches),
        failed_by_account(ledger, audience),
        numbers_of(activities, now_ms, context.price_table.prices()),
        accounts,
        read_workers(ledger, ids, [state.batch for state in batches], audience),
        open_batches,
    )
