"""`/v1/files`: upload, list, retrieve, content, delete."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Annotated, Literal, NotRequired, Required

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from typing_extensions import TypedDict

from mira_producer.gateway.context import Context
from mira_producer.gateway.description.described import TEXT, Described, Parameter
from mira_producer.gateway.description.pages import AFTER, ORDER, limit
from mira_producer.gateway.endpoints import endpoint
from mira_producer.gateway.files.content import content_response
from mira_producer.gateway.files.expiry import MAX_TTL_S, MIN_TTL_S
from mira_producer.gateway.files.file_entry import BATCH_PURPOSE, FileEntry, FileObject
from mira_producer.gateway.files.multipart import Form, FormFile, check_fields
from mira_producer.gateway.http.errors import invalid, not_found
from mira_producer.gateway.http.objects import Deleted, Listing
from mira_producer.gateway.http.paging import cut, listing, page_of
from mira_producer.gateway.http.responses import json_response
from mira_producer.gateway.http.threads import in_thread
from mira_producer.gateway.http.whole_number import whole_number
from mira_producer.gateway.retries.identity import identity_of
from mira_queue.contract.api_key import ApiKey
from mira_queue.contract.file_id import file_id_of, identity_of_file
from mira_queue.contract.problem import MISSING_PARAMETER
from mira_queue.contract.webhook import digest_of_identity

MAX_LISTED = 10_000
ANCHOR, SECONDS = "expires_after[anchor]", "expires_after[seconds]"
_FIELDS = frozenset({"purpose", ANCHOR, SECONDS})

# Form of `POST /v1/files`. Its names are no names of Python.
FileForm = TypedDict(
    "FileForm",
    {
        "file": Required[FormFile],
        "purpose": Required[Literal["batch"]],
        "expires_after[anchor]": NotRequired[Literal["created_at"]],
        "expires_after[seconds]": NotRequired[Annotated[int, Field(ge=MIN_TTL_S, le=MAX_TTL_S)]],
    },
)
CREATE = Described("create_file", "Upload a file.", FileObject, form=FileForm, errors=(415, 507))
LIST = Described(
    "list_files",
    "List files, the newest first.",
    Listing[FileObject],
    query=(AFTER, limit(MAX_LISTED, MAX_LISTED), ORDER, Parameter("purpose", "Only files with this purpose.")),
)
RETRIEVE = Described("retrieve_file", "Return a file, without its content.", FileObject)
DELETE = Described("delete_file", "Delete a file.", Deleted, errors=(409,))
CONTENT = Described(
    "retrieve_file_content",
    "Return the content of a file, as far as it is written.",
    media={"application/octet-stream": TEXT},
    statuses={206: "A part of the file"},
    headers=(Parameter("Range", "A part of the file: `bytes=0-99`."),),
    errors=(416,),
)


def routes(context: Context) -> list[BaseRoute]:
    files = Files(context)
    return [
        endpoint(context, "POST", "/v1/files", files.create, CREATE),
        endpoint(context, "GET", "/v1/files", files.list_all, LIST),
        endpoint(context, "GET", "/v1/files/{id}", files.retrieve, RETRIEVE),
        endpoint(context, "DELETE", "/v1/files/{id}", files.delete, DELETE),
        endpoint(context, "GET", "/v1/files/{id}/content", files.content, CONTENT),
    ]


class Files:
    """Handlers of the resource."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def create(self, request: Request, key: ApiKey) -> Response:
        return json_response((await receive_file(self._context, request, key)).to_object())

    async def list_all(self, request: Request, key: ApiKey) -> Response:
        page = page_of(request, max_limit=MAX_LISTED, default_limit=MAX_LISTED)
        purpose = request.query_params.get("purpose")
        found = await in_thread(self._all)
        seen = [each for each in found if key.sees(each.project) and purpose in (None, each.purpose)]
        # The ids sort by time.
        part, has_more = cut(seen, page, lambda each: each.id, page.after or None)
        return json_response(listing([each.to_object() for each in part], has_more=has_more))

    async def retrieve(self, request: Request, key: ApiKey) -> Response:
        return json_response((await self._found(request, key)).to_object())

    async def content(self, request: Request, key: ApiKey) -> Response:
        return await content_response(request, await self._found(request, key))

    async def delete(self, request: Request, key: ApiKey) -> Response:
        file = await self._found(request, key)
        if self._context.files.holds(file):
            digest = digest_of_identity(identity_of_file(file.id))
            await in_thread(self._context.queue.ledger.set_deleted, digest, file.project, file.created_at)
            await in_thread(self._context.files.delete, file.id)
        else:
            await in_thread(self._context.batch_files.delete, file)
        return json_response(Deleted(id=file.id, object="file", deleted=True))

    async def _found(self, request: Request, key: ApiKey) -> FileEntry:
        return await found_file(self._context, request.path_params["id"], key)

    def _all(self) -> list[FileEntry]:
        return list(chain(self._context.files.all(), self._context.batch_files.all()))


async def receive_file(context: Context, request: Request, key: ApiKey) -> FileEntry:
    """Store the file of a multipart body, as its stream arrives. Raises ApiError."""
    target = await in_thread(context.files.begin)
    with target:
        form = Form("file", target, context.settings.max_file_bytes, _check)
        await form.receive(request)
        check_purpose(form.fields.get("purpose"))
        seconds = form.fields.get(SECONDS)
        ttl_s = int(seconds) if seconds else round(context.settings.file_ttl.total_seconds())
        assert form.filename is not None
        file_id = file_id_of(identity_of(request))
        return await in_thread(target.finish, file_id, form.filename, BATCH_PURPOSE, key.project, ttl_s)


async def found_file(context: Context, file_id: str, key: ApiKey, param: str = "id") -> FileEntry:
    """Return a file that the key sees. Raises ApiError (404)."""
    found = await in_thread(context.files.get, file_id) or await in_thread(context.batch_files.get, file_id)
    if found is None or not key.sees(found.project):
        raise not_found("file", file_id, param)
    return found


def check_purpose(purpose: str | None) -> None:
    """Raises ApiError. Files for anything but batches have no use here."""
    if purpose is None:
        raise invalid("purpose", "this parameter is required", MISSING_PARAMETER)
    if purpose != BATCH_PURPOSE:
        raise invalid("purpose", f"expected {BATCH_PURPOSE}, got {purpose[:40]!r}")


def check_ttl(anchor: str | None, seconds: str | None) -> None:
    """Raises ApiError."""
    if anchor is not None and anchor != "created_at":
        raise invalid(ANCHOR, f"expected created_at, got {anchor[:40]!r}")
    if seconds is not None:
        whole_number(SECONDS, seconds, MIN_TTL_S, MAX_TTL_S)


def _check(fields: Mapping[str, str]) -> None:
    check_fields(fields, _FIELDS)
    if "purpose" in fields:
        check_purpose(fields["purpose"])
    check_ttl(fields.get(ANCHOR), fields.get(SECONDS))
