"""Every row of docs/errors.md, through a socket and the worker's client."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from mira_worker.response_meaning import Failed, Fault, Meaning, read_response

from mira_queue.contract.outcome import Completion
from tests.support.calls import client
from tests.support.errors_doc import code_of, meaning_name, wait_s
from tests.support.raw_server import RawServer, Request
from tests.support.response_cases import NOW_S, SECTIONS, Case

NOW = datetime.fromtimestamp(NOW_S, UTC)
CASES = [case for cases in SECTIONS.values() for case in cases]


def sending(case: Case) -> Callable[[Request, socket.socket], None]:
    """Send the response of a case, and end it as the case says."""

    def send(request: Request, connection: socket.socket) -> None:
        headers = [f"{name}: {value}" for name, value in case.headers.items()]
        if case.end == "length":
            headers.append(f"Content-Length: {len(case.raw)}")
        elif case.end != "closed":
            headers.append("Transfer-Encoding: chunked")
        body = case.raw if case.end in ("length", "closed") else b"%x\r\n%s\r\n" % (len(case.raw), case.raw)
        connection.sendall("\r\n".join([f"HTTP/1.1 {case.status} X", *headers, "", ""]).encode() + body)
        if case.end in ("closed", "cut"):
            connection.shutdown(socket.SHUT_RDWR)

    return send


def meaning_of(case: Case) -> Meaning:
    with RawServer(sending(case)) as server, client(server.url) as found:
        return read_response(found.post(b"{}"), NOW)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_a_response_means_what_the_table_says(case: Case) -> None:
    meaning = meaning_of(case)

    assert (meaning_name(meaning), code_of(meaning)) == (case.expected, case.code)
    assert wait_s(meaning) == pytest.approx(case.wait_s, abs=0.002)
    if isinstance(meaning, Completion):
        assert meaning.text == case.text
    else:
        assert case.says in meaning.error.detail
    if isinstance(meaning, Fault | Failed):
        assert sum(meaning.usage.values()) == case.paid
    if isinstance(meaning, Fault) and case.paid:
        # A call whose usage is known is not counted again as one that may have been billed.
        assert not meaning.may_be_billed


def test_a_connection_that_stays_open_after_the_end_of_a_stream_is_not_reused() -> None:
    case = next(case for case in CASES if case.end == "open")
    with RawServer(sending(case)) as server, client(server.url) as found:
        meanings = [read_response(found.post(b"{}"), NOW) for _ in range(2)]

    assert all(isinstance(meaning, Completion) for meaning in meanings)
    assert server.connections == 2


def test_a_stream_that_ends_cleanly_keeps_its_connection() -> None:
    case = next(case for case in CASES if "[DONE]" in case.what)
    with RawServer(sending(case)) as server, client(server.url) as found:
        for _ in range(3):
            assert isinstance(read_response(found.post(b"{}"), NOW), Completion)

    assert server.connections == 1


@pytest.mark.parametrize("name", ["X-Request-Id", "Request-Id", "apim-request-id"])
def test_an_error_carries_the_id_that_the_server_gave_the_call(name: str) -> None:
    case = Case("", "", "fault", status=500, headers={name: "req-17"})

    meaning = meaning_of(case)

    assert isinstance(meaning, Fault)
    assert meaning.error.request_id == "req-17"


def test_more_than_200_characters_of_a_broken_response_are_kept() -> None:
    meaning = meaning_of(Case("", "", "fault", body=b'{"choices": [' + b"word " * 400, end="cut"))

    assert isinstance(meaning, Fault)
    assert len(meaning.error.detail) > 900


def test_the_wait_of_a_response_that_breaks_off_is_honored() -> None:
    case = Case("", "", "rate-limited", status=429, headers={"Retry-After": "7"}, body=b"slow d", end="cut")

    assert wait_s(meaning_of(case)) == 7
