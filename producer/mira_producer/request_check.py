"""Check of requests before they cost a call: the API's limits, and the models of their account."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mira_queue.contract.account import Account
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.request_limits import limits_named
from mira_queue.contract.settings import Settings

Check = Callable[[Mapping[str, Any]], ChatRequest]


def default_model(settings: Settings, account: Account) -> str:
    """Return the model of requests that name none."""
    return account.models[0] if account.models else settings.model


def check_of(settings: Settings, account: Account) -> Check:
    """Return a function that returns a request as it would be sent. It raises InvalidRequest."""
    limits, model = limits_named(settings.check_limits), default_model(settings, account)

    def check(body: Mapping[str, Any]) -> ChatRequest:
        request = ChatRequest.checked(body, model=model, limits=limits)
        account.check_model(request.model)
        return request

    return check
