"""`/v1/uploads`: a file of up to MIRA_MAX_FILE_BYTES, in parts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from typing_extensions import TypedDict

from mira_producer.gateway.context import Context
from mira_producer.gateway.description.described import Described
from mira_producer.gateway.endpoints import endpoint
from mira_producer.gateway.files.expiry import ExpiresAfter
from mira_producer.gateway.files.file_endpoints import check_purpose
from mira_producer.gateway.files.file_entry import BATCH_PURPOSE
from mira_producer.gateway.files.multipart import Form, FormFile, check_fields, safe_file_name
from mira_producer.gateway.files.upload_store import Upload, UploadObject
from mira_producer.gateway.http.errors import ApiError
from mira_producer.gateway.http.json_body import Body, Empty, Whole, json_body
from mira_producer.gateway.http.responses import json_response
from mira_producer.gateway.http.threads import in_thread
from mira_producer.gateway.retries.identity import identity_of
from mira_queue.contract.api_key import ApiKey

MAX_PART_BYTES = 64 * 1024 * 1024
MAX_PARTS = 10_000


class CreateUpload(Body):
    """Body of `POST /v1/uploads`."""

    bytes: Annotated[Whole, Field(ge=1)]
    filename: Annotated[str, Field(max_length=1000)]
    mime_type: Annotated[str, Field(max_length=200)]
    purpose: Annotated[str, WithJsonSchema({"const": BATCH_PURPOSE})]
    expires_after: ExpiresAfter | None = None


class CompleteUpload(Body):
    """Body of `POST /v1/uploads/{id}/complete`."""

    part_ids: Annotated[list[Annotated[str, Field(max_length=100)]], Field(min_length=1, max_length=MAX_PARTS)]
    md5: Annotated[str, Field(pattern="^[0-9a-fA-F]{32}$")] | None = None


class PartForm(TypedDict):
    """Form of `POST /v1/uploads/{id}/parts`: at most 64 MiB."""

    data: FormFile


class PartObject(TypedDict):
    """A part of an upload."""

    id: str
    object: Literal["upload.part"]
    created_at: int
    upload_id: str


CREATE = Described("create_upload", "Begin a file in parts.", UploadObject, CreateUpload, errors=(507,))
ADD_PART = Described("add_upload_part", "Add a part.", PartObject, form=PartForm, errors=(409, 415, 507))
COMPLETE = Described(
    "complete_upload", "Assemble the file from its parts.", UploadObject, CompleteUpload, errors=(409, 507)
)
CANCEL = Described("cancel_upload", "Cancel an upload.", UploadObject, Empty, errors=(409, 507))


def routes(context: Context) -> list[BaseRoute]:
    uploads = Uploads(context)
    return [
        endpoint(context, "POST", "/v1/uploads", uploads.create, CREATE),
        endpoint(context, "POST", "/v1/uploads/{id}/parts", uploads.add_part, ADD_PART),
        endpoint(context, "POST", "/v1/uploads/{id}/complete", uploads.complete, COMPLETE),
        endpoint(context, "POST", "/v1/uploads/{id}/cancel", uploads.cancel, CANCEL),
    ]


class Uploads:
    """Handlers of the resource."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def create(self, request: Request, key: ApiKey) -> Response:
        body = await json_body(request, CreateUpload)
        check_purpose(body.purpose)
        settings = self._context.settings
        if body.bytes > settings.max_file_bytes:
            limit = f"bytes: over the limit of {settings.max_file_bytes:,}"
            raise ApiError(413, limit, code="request_too_large", param="bytes")
        expiry = body.expires_after
        ttl_s = expiry.seconds if expiry else round(settings.file_ttl.total_seconds())
        name = safe_file_name(body.filename)
        upload = await in_thread(
            self._context.uploads.create, identity_of(request), body.bytes, name, key.project, ttl_s
        )
        return json_response(upload.to_object())

    async def add_part(self, request: Request, key: ApiKey) -> Response:
        upload = await self._found(request, key)
        part = await in_thread(self._context.uploads.begin_part, upload)
        with part:
            await Form("data", part, MAX_PART_BYTES, _check_part).receive(request)
            part_id = await in_thread(self._context.uploads.add_part, identity_of(request), upload, part)
        shown = PartObject(id=part_id, object="upload.part", created_at=int(time.time()), upload_id=upload.id)
        return json_response(shown)

    async def complete(self, request: Request, key: ApiKey) -> Response:
        body = await json_body(request, CompleteUpload)
        upload = await self._found(request, key)
        completed, file = await in_thread(self._context.uploads.complete, upload, body.part_ids, body.md5)
        return json_response(completed.to_object(file))

    async def cancel(self, request: Request, key: ApiKey) -> Response:
        await json_body(request, Empty)
        upload = await self._found(request, key)
        return json_response((await in_thread(self._context.uploads.cancel, upload)).to_object())

    async def _found(self, request: Request, key: ApiKey) -> Upload:
        return await in_thread(self._context.uploads.get, request.path_params["id"], key)


def _check_part(fields: Mapping[str, str]) -> None:
    check_fields(fields, frozenset())
