"""Actions on an account: check it now, and forget its learned limits."""

from __future__ import annotations

from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.gateway.context import Context
from mira_producer.gateway.http.errors import not_found
from mira_producer.gateway.http.threads import in_thread
from mira_producer.page.views import Redirect, action
from mira_producer.page.visitor import Visitor


def routes(context: Context) -> list[BaseRoute]:
    ledger = context.queue.ledger

    async def check(request: Request, _: Visitor) -> Response:
        account = await _account_of(request)
        await in_thread(ledger.probe_now, account)
        return Redirect(request, f"/accounts/{account}", "The account's next call starts immediately, to check it.")

    async def forget(request: Request, _: Visitor) -> Response:
        account = await _account_of(request)
        await in_thread(ledger.forget_account, account)
        await in_thread(ledger.probe_now, account, ends_waits_over=timedelta(0))
        return Redirect(request, f"/accounts/{account}", "The learned limits are forgotten. They are learned again.")

    async def _account_of(request: Request) -> str:
        account: str = request.path_params["id"]
        if account not in await in_thread(ledger.accounts):
            raise not_found("account", account)
        return account

    return [action(context, "/accounts/{id}/check", check), action(context, "/accounts/{id}/forget", forget)]
