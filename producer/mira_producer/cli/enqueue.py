"""`mira-queue enqueue`: put one chat job into the queue."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from mira_producer.cli import console
from mira_producer.cli.missing_key import no_key
from mira_producer.cli.options import AccountName, Json, Metadata, Webhook, notes_of, time_option
from mira_producer.cli.result import OUTCOME_CODES, Timeout, Wait, show, wait_for
from mira_producer.client import MiraQueue, checked_key
from mira_producer.request_check import check_of
from mira_producer.request_fields import check_field_names
from mira_producer.webhooks.target import checked_webhook
from mira_queue.contract.account import Account
from mira_queue.contract.job_options import JobOptions, Priority
from mira_queue.ledger.records import NewJob

STDIN = "-"

HELP_END = console.help_end(
    [
        ("mira-queue enqueue 'Why is the sky blue?'", "print the job's id, for mira-queue result ID"),
        ("mira-queue enqueue --wait --timeout 60 --system 'Answer in one line.' - < question.txt", "print the answer"),
        ("mira-queue enqueue --model mira-pro --field temperature=0.2 --field 'stop=[\"END\"]' 'Hello'", "more fields"),
        ("mira-queue enqueue --request body.json --key order-17", "the same key twice is one job"),
        ("mira-queue enqueue --delay 2h --priority low --metadata tenant=7 'Hello'", "later, after all other jobs"),
    ],
    {**OUTCOME_CODES, 0: "accepted: the id is on standard output; with --wait: the answer is on standard output"},
)


def enqueue(
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT | -", help="The user message. - reads it from standard input.")
    ] = None,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="A system message before the prompt.")] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="The model. [MIRA_MODEL]")] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=JSON", help="Any other field of the request. Can be repeated."),
    ] = None,
    request: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A complete request body, a JSON object. - reads it from standard input."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="An idempotency key: the same key and the same request are one job."),
    ] = None,
    account: AccountName = None,
    delay: Annotated[
        str | None, typer.Option(metavar="TIME", help="Start it later: after 90m or 24h, or at an ISO time.")
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="It fails if it has not started by then: 24h, 90m, an ISO time.")
    ] = None,
    priority: Annotated[
        Priority, typer.Option(help="Among the single jobs of the account. low: after all others.")
    ] = Priority.NORMAL,
    metadata: Metadata = None,
    webhook: Webhook = None,
    wait: Wait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Put one chat job into the queue.

    When the id is printed, the job is durable. A worker (mira-queue worker) makes the call to the API, now or after it
    is started. The names of --field are checked; the fields of --request are sent as they are.
    """
    if key == "":
        raise _wrong("--key", "is empty: name a key, or leave out the option")
    named = {} if model is None else {"model": model}
    body = {**_body(prompt, system, request), **_fields(field or []), **named}
    now = datetime.now(UTC)
    options = JobOptions.checked(
        now,
        not_before=time_option(delay, "--delay", now),
        deadline=time_option(deadline, "--deadline", now),
        priority=priority,
        metadata=notes_of(metadata),
    )
    with MiraQueue() as queue:
        options = replace(options, webhook=checked_webhook(webhook, queue.settings))
        owner = queue.accounts.named(account)
        checked = check_of(queue.settings, owner)(body)
        job = queue.accept([NewJob.single(checked, checked_key("--key", key), options=options)], owner)[0]
        if not wait and timeout is None:
            if as_json:
                console.json_data({"id": job.id})
            else:
                console.data(job.id)
            _hint(queue, owner)
            return
        # Printed before the wait, so that a user who interrupts it can get the answer later.
        console.error(f"job {job.id} is accepted; waiting for its answer")
        show(job.id, wait_for(queue, job, timeout), as_json)


def _hint(queue: MiraQueue, owner: Account) -> None:
    """Say so if no worker is here for the job, and none can be started with these settings."""
    if owner.key is None and not any(worker.account == owner.id for worker in queue.ledger.live_workers()):
        console.error(f"no worker serves this job: {no_key(queue.settings, owner)}, and start mira-queue worker")


def _body(prompt: str | None, system: str | None, request: str | None) -> dict[str, Any]:
    if (prompt is None) == (request is None):
        raise _wrong("PROMPT", "give one of the two: a prompt, or --request FILE")
    if request is not None:
        if system is not None:
            raise _wrong("--system", "needs a prompt; a request has its own messages")
        return _request(request)
    text = sys.stdin.buffer.read() if prompt == STDIN else (prompt or "").encode(errors="surrogateescape")
    if not text.strip():
        raise _wrong("PROMPT", "is empty")
    messages = [{"role": "user", "content": _decoded(text, "PROMPT")}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return {"messages": messages}


def _request(name: str) -> dict[str, Any]:
    try:
        raw = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
        body = orjson.loads(_decoded(raw, "--request"))
    except OSError as error:
        raise _wrong("--request", f"{name}: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise _wrong("--request", f"{name} is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise _wrong("--request", f'{name}: expected a JSON object such as {{"messages": [...]}}')
    return body


def _fields(texts: list[str]) -> dict[str, Any]:
    fields = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise _wrong("--field", f"{text}: expected NAME=JSON, such as temperature=0.2")
        if name in ("messages", "model"):
            raise _wrong("--field", f"{name}: use PROMPT, --request, or --model instead")
        try:
            fields[name] = orjson.loads(value)
        except orjson.JSONDecodeError:
            fix = f"text needs quotes: --field '{name}=\"{value}\"'"
            raise _wrong("--field", f"{name}: {value} is not JSON; {fix}") from None
    check_field_names(fields)
    return fields


def _decoded(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _wrong(where, f"is not UTF-8 (byte {error.start})") from None


def _wrong(where: str, text: str) -> typer.BadParameter:
    return typer.BadParameter(text, param_hint=where)
