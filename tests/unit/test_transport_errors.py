"""Every exception that the transport can raise is translated, keeping its cause; a new one fails a test here."""

from __future__ import annotations

import inspect

import pytest
import requests
import urllib3
from requests import exceptions as theirs

from mira_queue.contract.errors import BrokenAnswer, ServiceFault, Unreachable
from worker.mira_client import translate


def subclasses(module: object, root: type[Exception]) -> list[type[Exception]]:
    return [kind for _, kind in inspect.getmembers(module, inspect.isclass) if issubclass(kind, root)]


KNOWN = subclasses(theirs, requests.RequestException) + subclasses(urllib3.exceptions, urllib3.exceptions.HTTPError)


def made(kind: type[Exception]) -> Exception:
    """One of them, whatever its constructor wants."""
    return kind.__new__(kind)


@pytest.mark.parametrize("kind", KNOWN, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_exception_of_the_transport_becomes_a_fault_of_the_service(kind: type[Exception]) -> None:
    error = made(kind)

    fault, may_be_billed = translate(error)

    assert isinstance(fault, ServiceFault)
    assert fault.__cause__ is error
    assert fault.detail
    assert isinstance(may_be_billed, bool)


@pytest.mark.parametrize(
    ("kind", "fault", "may_be_billed"),
    [
        (theirs.ProxyError, Unreachable, False),
        (theirs.SSLError, Unreachable, False),
        (theirs.ConnectTimeout, Unreachable, False),
        (theirs.ReadTimeout, Unreachable, True),
        (theirs.ConnectionError, Unreachable, True),
        (theirs.ChunkedEncodingError, BrokenAnswer, True),
        (theirs.ContentDecodingError, BrokenAnswer, True),
        (urllib3.exceptions.IncompleteRead, BrokenAnswer, True),
        (urllib3.exceptions.ReadTimeoutError, BrokenAnswer, True),
        (theirs.InvalidHeader, Unreachable, True),
        (OSError, Unreachable, True),
        (ValueError, Unreachable, True),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_table_says_whose_fault_it_is_and_whether_it_may_be_billed(
    kind: type[Exception], fault: type[ServiceFault], may_be_billed: bool
) -> None:
    found, billed = translate(made(kind))

    assert (type(found), billed) == (fault, may_be_billed)


@pytest.mark.parametrize("reason", [urllib3.exceptions.NewConnectionError, urllib3.exceptions.NameResolutionError])
def test_a_connection_that_never_was_cannot_have_been_billed(reason: type[Exception]) -> None:
    retries = made(urllib3.exceptions.MaxRetryError)
    retries.reason = made(reason)  # type: ignore[attr-defined]

    fault, may_be_billed = translate(theirs.ConnectionError(retries))

    assert "no connection" in fault.detail
    assert may_be_billed is False


def test_what_is_no_fault_of_the_transport_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        translate(ZeroDivisionError())
