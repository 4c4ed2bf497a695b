"""Clients: the official SDK with its retries, through a network that cuts connections."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import openai

from tests.chaos import workload
from tests.chaos.gateway.options import GatewayOptions

MODEL = "mira"
ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
# They take up to a minute and a half, so few creates fail. Those with a name are repeated until they succeed.
MAX_RETRIES = 12
# Shorter than a long SIGSTOP of the gateway: some requests time out, and the client closes their connections.
TIMEOUT_S = 8.0
REPEAT_AFTER_S = 1.0
# A request whose client has given up is handled by then, or will never be.
SETTLED_AFTER_S = 15.0
CANCEL_SHARE = 0.04
# Batches that wait for each other would miss most faults.
BATCH_THREADS = 4


class Kind(StrEnum):
    """Kind of object that a create makes, and its name for a client."""

    RESPONSE = "background response"
    NAMED_RESPONSE = "background response with an Idempotency-Key"
    COMPLETION = "chat completion with respond-async"
    JOB = "job of /v1/jobs"
    KEYED_JOB = "job of /v1/jobs with a key"
    FILE = "file"
    BATCH = "batch"

    @property
    def is_named(self) -> bool:
        """Return True if a client may repeat the create as often as it likes."""
        return self in (Kind.NAMED_RESPONSE, Kind.KEYED_JOB)


_SINGLE: tuple[Kind, ...] = (Kind.RESPONSE,) * 4 + (
    Kind.NAMED_RESPONSE,
    Kind.COMPLETION,
    Kind.COMPLETION,
    Kind.JOB,
    Kind.KEYED_JOB,
)
_SINGLE += (Kind.KEYED_JOB,)


@dataclass(frozen=True, slots=True)
class Create:
    """One create: the id that the client got, or the error that it got after its last retry."""

    number: int
    kind: Kind
    project: int
    id: str = ""
    error: str = ""


def kind_of(seed: int, number: int) -> Kind:
    return random.Random(f"kind:{seed}:{number}").choice(_SINGLE)


def is_cancelled(seed: int, number: int) -> bool:
    """Return True if the client cancels this response as soon as it has it."""
    draw = random.Random(f"cancel:{seed}:{number}").random()
    return kind_of(seed, number) is Kind.RESPONSE and draw < CANCEL_SHARE


def project_of(number: int) -> int:
    """Return the project of a create: the first has an endpoint for webhooks, the second gives a URL each time."""
    return number % 2


def file_name(batch: int) -> str:
    return f"batch-{batch}.jsonl"


@dataclass
class Clients:
    """Creates everything in threads. `keys` and `webhooks` are those of the two projects; an empty one: an endpoint."""

    options: GatewayOptions
    url: str
    keys: list[str]
    webhooks: list[str]
    done: list[Create] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _work: list[Future[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._sdk = [
            openai.OpenAI(base_url=self.url, api_key=key, max_retries=MAX_RETRIES, timeout=TIMEOUT_S)
            for key in self.keys
        ]
        self._pools = [ThreadPoolExecutor(self.options.clients), ThreadPoolExecutor(BATCH_THREADS)]

    def start(self) -> None:
        """Begin. The creates and the batches are spread over the time of the options."""
        start_s, length_s = time.monotonic(), self.options.minutes * 60
        for pool, count, act in (
            (self._pools[0], self.options.creates, self._create),
            (self._pools[1], self.options.batches, self._create_batch),
        ):
            for number in range(count):
                due_s = start_s + length_s * number / count
                self._work.append(pool.submit(self._at, due_s, act, number))

    @property
    def share_done(self) -> float:
        singles = sum(create.kind not in (Kind.FILE, Kind.BATCH) for create in list(self.done))
        return singles / self.options.creates

    @property
    def is_done(self) -> bool:
        return all(each.done() for each in self._work)

    def end(self) -> None:
        """Stop. Raise the exception of a client that failed unexpectedly."""
        self._ended.set()
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)
        for each in self._work:
            if not each.cancelled():
                each.result()

    def _at(self, due_s: float, act: Callable[[int], None], number: int) -> None:
        if not self._ended.wait(max(0.0, due_s - time.monotonic())):
            act(number)

    def _create(self, number: int) -> None:
        kind, project = kind_of(self.options.seed, number), project_of(number)
        create = self._record(number, kind, project, lambda: self._post(kind, self._sdk[project], number))
        if create.id and is_cancelled(self.options.seed, number):
            # A conflict: it has finished already.
            with suppress(openai.APIError):
                self._sdk[project].responses.cancel(create.id)

    def _record(self, number: int, kind: Kind, project: int, post: Callable[[], str]) -> Create:
        """Create, and record what the client got."""
        error = ""
        while not self._ended.is_set():
            try:
                create = Create(number, kind, project, post())
                self.done.append(create)
                return create
            except openai.APIError as failure:
                error = f"{type(failure).__name__}: {failure}"[:300]
            if not kind.is_named:
                break
            self._ended.wait(REPEAT_AFTER_S)
        create = Create(number, kind, project, error=error or "interrupted")
        self.done.append(create)
        return create

    def _post(self, kind: Kind, sdk: openai.OpenAI, number: int) -> str:
        content = workload.job(self.options.seed, number).content
        webhook = self.webhooks[project_of(number)]
        metadata = {"n": str(number)}
        own: dict[str, Any] = {"mira": {"webhook": webhook}} if webhook else {}
        if kind in (Kind.RESPONSE, Kind.NAMED_RESPONSE):
            name = {"Idempotency-Key": f"create {number}"} if kind.is_named else {}
            made = sdk.responses.create(
                model=MODEL, input=content, background=True, metadata=metadata, extra_body=own, extra_headers=name
            )
            return made.id
        messages: Any = workload.messages(content)
        if kind is Kind.COMPLETION:
            return sdk.chat.completions.create(
                model=MODEL,
                messages=messages,
                metadata=metadata,
                extra_body=own,
                extra_headers={"Prefer": "respond-async"},
            ).id
        job: dict[str, Any] = {"body": {"model": MODEL, "messages": messages}, "metadata": metadata}
        job |= {"webhook": webhook} if webhook else {}
        job |= {"key": f"create {number}"} if kind.is_named else {}
        found: Any = sdk.post("/jobs", body=job, cast_to=object)
        return str(found["id"])

    def _create_batch(self, number: int) -> None:
        project = project_of(number)
        sdk, webhook = self._sdk[project], self.webhooks[project]
        file = (file_name(number), self._lines(number))
        file_id = self._made(
            number,
            Kind.FILE,
            lambda name: sdk.files.create(file=file, purpose="batch", extra_headers=name).id,
            lambda: (each.id for each in sdk.files.list() if each.filename == file_name(number)),
        )
        self._made(
            number,
            Kind.BATCH,
            lambda name: self._post_batch(sdk, number, file_id, webhook, name),
            lambda: (each.id for each in sdk.batches.list() if (each.metadata or {})["n"] == str(number)),
        )

    def _made(
        self,
        number: int,
        kind: Kind,
        post: Callable[[dict[str, str]], str],
        existing: Callable[[], Iterator[str]],
    ) -> str:
        """Create until it succeeds. Half of them have a key. The others are not repeated if the object exists."""
        name = {"Idempotency-Key": f"{kind} {number}"} if number // 2 % 2 else {}
        while not self._ended.is_set():
            create = self._record(number, kind, project_of(number), lambda: post(name))
            if create.id:
                return create.id
            self._ended.wait(REPEAT_AFTER_S if name else SETTLED_AFTER_S)
            with suppress(openai.APIError):
                if not name and (an_id := next(existing(), "")):
                    return an_id
        return ""

    def _post_batch(self, sdk: openai.OpenAI, number: int, file_id: str, webhook: str, name: dict[str, str]) -> str:
        return sdk.batches.create(
            input_file_id=file_id,
            endpoint=ENDPOINT,
            completion_window="24h",
            metadata={"n": str(number)},
            extra_body={"mira": {"webhook": webhook}} if webhook else {},
            extra_headers=name,
        ).id

    def _lines(self, batch: int) -> bytes:
        lines = [
            {
                "custom_id": workload.custom_id(number),
                "method": "POST",
                "url": ENDPOINT,
                "body": {
                    "model": MODEL,
                    "messages": workload.messages(workload.job(self.options.seed, number).content),
                },
            }
            for number in self.options.numbers_of_batch(batch)
        ]
        return "".join(f"{json.dumps(line)}\n" for line in lines).encode()
