"""Words for a connection that could not be made: what is wrong, and a fix. The same for workers and `doctor`."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import urllib3

_OWN_CA = "if a CA of your own or a proxy signed it, set REQUESTS_CA_BUNDLE to a file with that CA's certificate"
# By OpenSSL's code: not valid yet, expired; another host, another address.
_CERTIFICATE_FIXES = {
    **dict.fromkeys((9, 10), "the server needs a new one, or the clock of this machine is wrong"),
    **dict.fromkeys((62, 64), "correct the host in MIRA_API_BASE"),
}


def connection_problem(error: BaseException) -> tuple[str, str]:
    """Return what is wrong and how to fix it, for an exception of urllib3 before a request was sent."""
    chain = list(_chain(error))
    # PySocks has errors of its own, and need not be installed.
    if any(isinstance(each, urllib3.exceptions.ProxyError) or type(each).__module__ == "socks" for each in chain):
        fix = "correct HTTPS_PROXY or HTTP_PROXY, or add the host to NO_PROXY"
        return f"the proxy of the environment cannot be used: {_system_words(chain) or 'it gave no reason'}", fix
    for each in chain:
        if isinstance(each, ssl.SSLCertVerificationError):
            reason = str(getattr(each, "verify_message", "")).rstrip(".") or "verification failed"
            fix = _CERTIFICATE_FIXES.get(getattr(each, "verify_code", 0), _OWN_CA)
            return f"no trusted TLS connection: the certificate of the server is not valid ({reason})", fix
    if any(isinstance(each, ssl.SSLError | urllib3.exceptions.SSLError) for each in chain):
        words = _system_words(chain)
        fix = "correct MIRA_API_BASE (http:// or another port), if the server does not speak TLS there"
        return f"no TLS connection{f' ({words})' if words else ''}", fix
    fix = "correct MIRA_API_BASE, or check the network"
    if any(isinstance(each, socket.gaierror) for each in chain):
        return f"no connection: the host is unknown ({_system_words(chain)})", fix
    return f"no connection: {_system_words(chain) or 'refused, or the host is unknown'}", fix


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes. urllib3 keeps some of them as arguments."""
    found: BaseException | None = error
    while found is not None:
        yield found
        wrapped = (each for each in found.args if isinstance(each, BaseException))
        found = found.__cause__ or next(wrapped, None) or found.__context__


def _system_words(chain: list[BaseException]) -> str:
    """Return the words of the operating system or of OpenSSL: they are the last cause."""
    found = next((each for each in reversed(chain) if isinstance(each, OSError)), None)
    if isinstance(found, ssl.SSLError) and found.reason:
        return found.reason.replace("_", " ").lower()
    return str(getattr(found, "strerror", None) or found or "")
