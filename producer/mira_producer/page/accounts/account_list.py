"""`/accounts`: all accounts that the queue has used, live."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.gateway.context import Context
from mira_producer.gateway.http.threads import in_thread
from mira_producer.page.accounts.account_reader import account_states
from mira_producer.page.rendering import fragment, render
from mira_producer.page.views import live, view
from mira_producer.page.visitor import Audience, Visitor


def routes(context: Context) -> list[BaseRoute]:
    async def show(request: Request, visitor: Visitor) -> Response:
        accounts = await in_thread(account_states, context.queue)
        return render(request, visitor, "account_list.html", live="/live/accounts", accounts=accounts)

    async def read(request: Request, audience: Audience) -> Mapping[str, str]:
        accounts = await in_thread(account_states, context.queue)
        return {"accounts": fragment(request, audience, "parts/account_cards.html", accounts=accounts)}

    return [view(context, "/accounts", show), live(context, "/live/accounts", read)]
