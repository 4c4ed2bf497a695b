"""Faults for the exceptions of the transport, in words: what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Callable

import urllib3

from mira_queue.contract.errors import InvalidResponse, ServiceFault, Unreachable
from mira_queue.runtime.connection_problem import connection_problem
from mira_worker.exchange import OutOfStep


class TooLarge(urllib3.exceptions.HTTPError):
    """The response exceeds MIRA_MAX_RESPONSE_BYTES."""


def _unconnected(error: BaseException) -> str:
    return "; ".join(connection_problem(error))


_UNCONNECTED = (urllib3.exceptions.ProxyError, urllib3.exceptions.SSLError, urllib3.exceptions.NewConnectionError)
_Words = str | Callable[[BaseException], str]
_Row = tuple[type[Exception] | tuple[type[Exception], ...], type[ServiceFault], _Words]

# The first row that matches applies: exceptions, fault, and message (empty for the exception's own message).
_ALWAYS: tuple[_Row, ...] = (((OutOfStep, TooLarge), InvalidResponse, ""),)
_TABLE: tuple[_Row, ...] = (
    *_ALWAYS,
    (_UNCONNECTED, Unreachable, _unconnected),
    (urllib3.exceptions.ConnectTimeoutError, Unreachable, "no connection in time (MIRA_CONNECT_TIMEOUT)"),
    (urllib3.exceptions.ReadTimeoutError, Unreachable, "no response in time (MIRA_REQUEST_TIMEOUT)"),
    (urllib3.exceptions.ProtocolError, Unreachable, "the connection broke"),
    ((urllib3.exceptions.HTTPError, OSError, ValueError), Unreachable, "the call failed"),
)
# The table for a response that had begun.
_TABLE_AFTER_HEADERS: tuple[_Row, ...] = (
    *_ALWAYS,
    (
        urllib3.exceptions.ReadTimeoutError,
        InvalidResponse,
        "the response was not complete in time (MIRA_REQUEST_TIMEOUT)",
    ),
    (
        (urllib3.exceptions.HTTPError, OSError, ValueError),
        InvalidResponse,
        "the response broke off or cannot be decoded",
    ),
)


def translate(error: Exception, *, has_begun: bool = False, where: str = "") -> ServiceFault:
    """Return the fault for an exception of the transport, which is its cause.

    `has_begun` is True if the status and the headers of a response had arrived. `where` is added to the message of a
    server that was not reached: its host, and the proxy.
    """
    for kinds, fault, words in _TABLE_AFTER_HEADERS if has_begun else _TABLE:
        if isinstance(error, kinds):
            message = (words if isinstance(words, str) else words(error)) or str(error)
            found = fault(f"{message} ({where})" if where and fault is Unreachable else message)
            found.__cause__ = error
            return found
    raise error
