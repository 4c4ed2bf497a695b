"""Faults for the exceptions of the transport, in words: what is wrong, where, and what to do."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator

import urllib3

from mira_queue.contract.errors import InvalidResponse, ServiceFault, Unreachable
from mira_worker.exchange import OutOfStep


class TooLarge(urllib3.exceptions.HTTPError):
    """The response exceeds MIRA_MAX_RESPONSE_BYTES."""


_UNKNOWN_CA = "if a CA of your own or a proxy signed it, set REQUESTS_CA_BUNDLE to a file with that CA's certificate"
# By OpenSSL's code: expired, not valid yet, another host, another address.
_FIXES = {
    **dict.fromkeys((9, 10), "the server needs a new one, or the clock of this machine is wrong"),
    **dict.fromkeys((62, 64), "correct the host in MIRA_API_BASE"),
}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes. urllib3 keeps some of them as arguments."""
    found: BaseException | None = error
    while found is not None:
        yield found
        wrapped = (each for each in found.args if isinstance(each, BaseException))
        found = found.__cause__ or next(wrapped, None) or found.__context__


def _cause(error: BaseException, kind: type[Exception]) -> str:
    """Return the system's words for the first cause of a kind, or an empty string."""
    found = next((each for each in _chain(error) if isinstance(each, kind)), None)
    return str(getattr(found, "strerror", None) or found or "")


def _no_tls(error: BaseException) -> str:
    for each in _chain(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return _untrusted(each)
    reason = next((each.reason for each in _chain(error) if isinstance(each, ssl.SSLError) and each.reason), "")
    words = reason.replace("_", " ").lower()
    return f"no TLS connection{f' ({words})' if words else ''}: does the server speak TLS at this port (https)?"


def _untrusted(error: ssl.SSLCertVerificationError) -> str:
    reason = str(getattr(error, "verify_message", "")).rstrip(".") or "verification failed"
    fix = _FIXES.get(getattr(error, "verify_code", 0), _UNKNOWN_CA)
    return f"no trusted TLS connection: the certificate of the server is not valid ({reason}); {fix}"


def _no_proxy(error: BaseException) -> str:
    reason = (
        _cause(error, ssl.SSLError)
        or _cause(error, socket.gaierror)
        or _cause(error, OSError)
        or "it gave no reason"
    )
    return f"the proxy of the environment cannot be used: {reason}; correct HTTPS_PROXY or HTTP_PROXY"


def _no_connection(error: BaseException) -> str:
    if name := _cause(error, socket.gaierror):
        return f"no connection: the host is unknown ({name})"
    return f"no connection: {_cause(error, OSError) or 'refused, or the host is unknown'}"


_Words = str | Callable[[BaseException], str]
_Row = tuple[type[Exception] | tuple[type[Exception], ...], type[ServiceFault], _Words]

# The first row that matches applies: exceptions, fault, and message (empty for the exception's own message).
_ALWAYS: tuple[_Row, ...] = (((OutOfStep, TooLarge), InvalidResponse, ""),)
_TABLE: tuple[_Row, ...] = (
    *_ALWAYS,
    (urllib3.exceptions.ProxyError, Unreachable, _no_proxy),
    (urllib3.exceptions.SSLError, Unreachable, _no_tls),
    (urllib3.exceptions.NewConnectionError, Unreachable, _no_connection),
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
