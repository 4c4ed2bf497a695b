"""`/batches/new`: upload a file, check it, fix its invalid lines, see what it costs, and start a batch."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.gateway.batches.batch_body import CreateBatch
from mira_producer.gateway.batches.batch_operations import BatchOperations
from mira_producer.gateway.context import Context
from mira_producer.gateway.files.file_endpoints import found_file, receive_file
from mira_producer.gateway.files.file_entry import FileEntry
from mira_producer.gateway.http.errors import ApiError, invalid, not_found, translated
from mira_producer.gateway.http.json_body import checked
from mira_producer.gateway.http.threads import in_thread
from mira_producer.gateway.http.whole_number import whole_number
from mira_producer.gateway.retries.identity import new_identity
from mira_producer.page.batches.edited_file import store_edited
from mira_producer.page.batches.file_checks import MAX_EDITED_CHARS, MAX_SHOWN, FileCheck, FileChecks
from mira_producer.page.rendering import render
from mira_producer.page.views import Redirect, action, view
from mira_producer.page.visitor import Visitor
from mira_queue.contract.batch import ENDPOINT
from mira_queue.contract.errors import MiraQueueError

# A small file is checked within this. For a larger one, the page shows how far the check is.
PATIENCE_S = 1.5
MAX_COUNT = 10**15
# Each character of an edited line has at most 4 bytes, and 3 characters for each byte in the body.
MAX_EDIT_BYTES = MAX_SHOWN * MAX_EDITED_CHARS * 12
WINDOWS = {"1h": "1 hour", "6h": "6 hours", "24h": "24 hours", "3d": "3 days", "7d": "7 days", "30d": "30 days"}
DEFAULT_WINDOW = "24h"
_LINE = re.compile(r"line-(\d{1,15})")


def routes(context: Context) -> list[BaseRoute]:
    checks, operations = FileChecks(context), BatchOperations(context)

    async def input_of(request: Request, visitor: Visitor) -> FileEntry:
        file = await found_file(context, request.path_params["id"], visitor.key)
        if not context.files.holds(file):
            raise not_found("file", file.id)
        return file

    async def show_check(
        request: Request, visitor: Visitor, status: int = 200, *, form: Mapping[str, str] | None = None, error: str = ""
    ) -> Response:
        check = await checks.check(await input_of(request, visitor), visitor.key.account, PATIENCE_S)
        return render(
            request,
            visitor,
            "batch_check.html",
            status,
            check=check,
            form=form or {"completion_window": DEFAULT_WINDOW, "on_account_error": "pause"},
            error=error,
            windows=WINDOWS,
            copy_identity=new_identity(),
        )

    async def choose(request: Request, visitor: Visitor) -> Response:
        return render(request, visitor, "new_batch.html")

    async def upload(request: Request, visitor: Visitor) -> Response:
        file = await receive_file(context, request, visitor.key)
        return Redirect(request, f"/batches/new/{file.id}")

    async def show(request: Request, visitor: Visitor) -> Response:
        return await show_check(request, visitor)

    async def edit(request: Request, visitor: Visitor) -> Response:
        file, form = await input_of(request, visitor), request.state.form
        copy = await in_thread(store_edited, context, file, _texts(form), _identity(form, "copy"))
        return Redirect(request, f"/batches/new/{copy.id}")

    async def start(request: Request, visitor: Visitor) -> Response:
        form = request.state.form
        identity = _identity(form, "identity")
        if (earlier := await operations.created(identity)) is not None and visitor.sees(earlier.origin.project):
            notice = "This batch was started before. It keeps the options of its start."
            return Redirect(request, f"/batches/{earlier.id}", notice, is_error=True)
        check = await checks.check(await input_of(request, visitor), visitor.key.account, PATIENCE_S)
        try:
            if not check.is_valid:
                raise invalid(None, "the file has not been checked, or has invalid lines")
            _check_prices(check, form)
            body = checked(CreateBatch, _fields(check.file.id, form))
            batch = await operations.create(body, visitor.key, identity, visitor.name)
        except (ApiError, MiraQueueError) as raised:
            error = raised if isinstance(raised, ApiError) else translated(raised)
            if error is None or error.status >= 500:
                raise
            return await show_check(request, visitor, error.status, form=form, error=error.message)
        check.started(identity)
        return Redirect(request, f"/batches/{batch.id}", "The batch has started.")

    async def delete(request: Request, visitor: Visitor) -> Response:
        file = await input_of(request, visitor)
        await in_thread(context.files.delete, file.id)
        return Redirect(request, "/batches/new", f"{file.filename} was deleted.")

    one = "/batches/new/{id}"
    return [
        view(context, "/batches/new", choose),
        action(context, "/batches/new", upload),
        view(context, one, show),
        action(context, f"{one}/lines", edit, max_form_bytes=MAX_EDIT_BYTES),
        action(context, f"{one}/start", start),
        action(context, f"{one}/delete", delete),
    ]


def _texts(form: Mapping[str, str]) -> dict[int, str]:
    """Return the edited lines by their number. Raises ApiError."""
    found = {int(place[1]): text for name, text in form.items() if (place := _LINE.fullmatch(name))}
    if not found or len(found) > MAX_SHOWN:
        raise invalid(None, f"expected 1 to {MAX_SHOWN} edited lines, got {len(found)}")
    return found


def _identity(form: Mapping[str, str], name: str) -> str:
    """Return the identity of what a form creates: it becomes part of a path. Raises ApiError."""
    try:
        return str(uuid.UUID(form.get(name, "")))
    except ValueError:
        raise invalid(name, "the form is damaged: reload the page") from None


def _fields(file_id: str, form: Mapping[str, str]) -> dict[str, Any]:
    """Return the body of `POST /v1/batches` with the same options. Raises ApiError."""
    return {
        "input_file_id": file_id,
        "endpoint": ENDPOINT,
        "completion_window": form.get("completion_window", DEFAULT_WINDOW),
        "mira": {
            "on_account_error": form.get("on_account_error", "pause"),
            "dedupe": "dedupe" in form,
            "ordered": "ordered" in form,
            "max_requests": whole_number("max_requests", form.get("max_requests") or "0", 0, MAX_COUNT),
            "max_tokens": whole_number("max_tokens", form.get("max_tokens") or "0", 0, MAX_COUNT),
            "max_cost": form.get("max_cost", "").strip(),
        },
    }


def _check_prices(check: FileCheck, form: Mapping[str, str]) -> None:
    """Raise ApiError if the cost is limited, and a model has no price: the batch would fail."""
    missing = check.models_without_price
    if form.get("max_cost", "").strip() and missing:
        raise invalid("max_cost", f"the gateway's price table has no price for {', '.join(missing[:3])}")
