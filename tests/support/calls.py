"""Calls of the Mira client to a server of a test's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from mira_worker.transport import HttpResponse, MiraClient, NoResponse
from pydantic import SecretStr

from mira_queue.contract.endpoint import AUTHORIZATION
from mira_queue.contract.errors import ServiceFault
from tests.support.queue_process import API_KEY
from tests.support.raw_server import COMPLETION, response

KEY = SecretStr(API_KEY)
OK = response(200, COMPLETION, "Content-Type: application/json")
MAX_BYTES = 100_000
# Every call that must finish is faster. A call that must be cut off has a shorter limit.
PATIENCE = timedelta(seconds=30)


@contextmanager
def client(
    base: str,
    total: timedelta = PATIENCE,
    connect: timedelta = PATIENCE,
    headers: Mapping[str, str] | None = None,
    key_header: str = AUTHORIZATION,
) -> Iterator[MiraClient]:
    found = MiraClient(
        base,
        KEY,
        {name: SecretStr(text) for name, text in (headers or {}).items()},
        key_header=key_header,
        connect_timeout=connect,
        total_timeout=total,
        max_response_bytes=MAX_BYTES,
        connections=2,
    )
    try:
        yield found
    finally:
        found.close()


def post(
    base: str, body: bytes = b"{}", total: timedelta = PATIENCE, connect: timedelta = PATIENCE
) -> HttpResponse | NoResponse:
    with client(base, total, connect) as found:
        return found.post(body)


def fault(answer: HttpResponse | NoResponse) -> ServiceFault:
    assert isinstance(answer, NoResponse), answer
    return answer.error
