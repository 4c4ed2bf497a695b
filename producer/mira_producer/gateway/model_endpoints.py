"""`/v1/models`: the models of the caller's account, as far as they are configured."""

from __future__ import annotations

from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from typing_extensions import TypedDict

from mira_producer.gateway.context import Context
from mira_producer.gateway.description.described import Described
from mira_producer.gateway.endpoints import endpoint
from mira_producer.gateway.http.errors import not_found
from mira_producer.gateway.http.objects import Listing
from mira_producer.gateway.http.paging import listing
from mira_producer.gateway.http.responses import json_response
from mira_producer.request_check import default_model
from mira_queue.contract.api_key import ApiKey


class ModelObject(TypedDict):
    """A model. `owned_by` is the id of the account."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


LIST = Described("list_models", "List the models of the key's account.", Listing[ModelObject])
RETRIEVE = Described("retrieve_model", "Return a model.", ModelObject)


def routes(context: Context) -> list[BaseRoute]:
    def models_of(key: ApiKey) -> list[ModelObject]:
        account = context.queue.accounts.named(key.account or None)
        # The first one is the default. An account without a list allows others, too: the API knows which.
        names = account.models or (default_model(context.settings, account),)
        return [{"id": name, "object": "model", "created": 0, "owned_by": account.id} for name in names]

    async def list_models(_: Request, key: ApiKey) -> Response:
        return json_response(listing(models_of(key), has_more=False))

    async def retrieve(request: Request, key: ApiKey) -> Response:
        wanted = request.path_params["id"]
        for model in models_of(key):
            if model["id"] == wanted:
                return json_response(model)
        raise not_found("model", wanted)

    return [
        endpoint(context, "GET", "/v1/models", list_models, LIST),
        endpoint(context, "GET", "/v1/models/{id:path}", retrieve, RETRIEVE),
    ]
