"""Every exception that the transport can raise is translated, keeping its cause; a new one fails a test here."""

from __future__ import annotations

import inspect

import pytest
import requests
import urllib3
from mira_worker.transport_errors import translate
from requests import exceptions as theirs

from mira_queue.contract.errors import InvalidResponse, ServiceFault, Unreachable


def subclasses(module: object, root: type[Exception]) -> list[type[Exception]]:
    return [kind for _, kind in inspect.getmembers(module, inspect.isclass) if issubclass(kind, root)]


# What requests raises comes up where it chooses the way to the API, before anything is sent.
KNOWN = subclasses(theirs, requests.RequestException) + subclasses(urllib3.exceptions, urllib3.exceptions.HTTPError)


def made(kind: type[Exception]) -> Exception:
    """One of them, whatever its constructor wants."""
    return kind.__new__(kind)


@pytest.mark.parametrize("has_begun", [False, True])
@pytest.mark.parametrize("kind", KNOWN, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_exception_of_the_transport_becomes_a_fault_of_the_service(
    kind: type[Exception], has_begun: bool
) -> None:
    error = made(kind)

    fault = translate(error, has_begun=has_begun)

    assert isinstance(fault, ServiceFault)
    assert fault.__cause__ is error
    assert fault.detail


def test_what_happens_before_a_response_is_an_unreachable_server() -> None:
    kinds = [
        urllib3.exceptions.ProxyError,
        urllib3.exceptions.SSLError,
        urllib3.exceptions.ConnectTimeoutError,
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.NameResolutionError,
        urllib3.exceptions.ReadTimeoutError,
        urllib3.exceptions.ProtocolError,
        theirs.InvalidHeader,
        OSError,
        ValueError,
    ]

    assert {type(translate(made(kind))) for kind in kinds} == {Unreachable}


@pytest.mark.parametrize(
    "kind",
    [
        urllib3.exceptions.ReadTimeoutError,
        urllib3.exceptions.ProtocolError,
        urllib3.exceptions.IncompleteRead,
        urllib3.exceptions.InvalidChunkLength,
        urllib3.exceptions.DecodeError,
        ConnectionResetError,
    ],
    ids=lambda kind: kind.__name__,
)
def test_a_response_that_had_begun_is_a_broken_one(kind: type[Exception]) -> None:
    assert type(translate(made(kind), has_begun=True)) is InvalidResponse


def test_a_connection_that_never_was_is_said_to_be_none() -> None:
    assert "no connection" in translate(made(urllib3.exceptions.NewConnectionError)).detail


def test_what_is_no_fault_of_the_transport_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        translate(ZeroDivisionError())
