"""The API: the key's form, and whether the base URL can be reached. No call is made that could be billed."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
import urllib.request
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

import certifi

from mira_producer.cli.config import masked
from mira_producer.cli.doctor.finding import Finding, ok, problem, reason, warning
from mira_queue.contract.settings import Settings, variable

MIRA_HOST = "vmira.ai"
MIRA_KEY = re.compile(r"sk-mira-[0-9a-f]{40}", re.IGNORECASE)
PATIENCE_S = 5.0
# A Date header knows whole seconds, and may be a moment old.
CLOCKS_APART_S = 5.0


def check_key(settings: Settings) -> Iterator[Finding]:
    """Its form; whether it is valid only a call tells."""
    name = variable("api_key")
    if settings.api_key is None:
        yield problem("API key", f"{name} is not set: workers need it", f"set {name} in the environment or in .env")
        return
    key = settings.api_key.get_secret_value()
    if _is_mira(settings) and not MIRA_KEY.fullmatch(key):
        fix = f"compare {name} with the key in your account: was it cut, or is it another service's?"
        yield warning("API key", "is not sk-mira- and 40 hex digits, as Mira's keys are", fix)
    else:
        yield ok("API key", f"{masked(key)} (its form; whether the API takes it, only a call tells)")


def check_api(settings: Settings) -> Iterator[Finding]:
    """Connects as a worker would, through the environment's proxy if there is one, and asks without key for headers."""
    base = urlsplit(settings.api_base)
    name = variable("api_base")
    if base.scheme == "http" and not _is_near(base.hostname or ""):
        fix = f"use https:// in {name}"
        yield warning("API", f"{settings.api_base} is not encrypted: key and prompts can be read on the way", fix)
    proxy = _proxy(base)
    via = f" through the proxy {proxy.hostname}:{proxy.port}" if proxy else ""
    try:
        began_s = time.monotonic()
        status, date = _head(base, proxy)
        took_ms = (time.monotonic() - began_s) * 1000
    except ssl.SSLCertVerificationError as error:
        fix = "is a proxy in between that encrypts anew? Then REQUESTS_CA_BUNDLE names its certificates"
        yield problem("API", f"{base.hostname}{via}: its certificate is not valid ({error.verify_message})", fix)
        return
    except socket.gaierror:
        yield problem("API", f"{base.hostname}{via}: no such host", f"correct {name}; is there a network?")
        return
    except (OSError, http.client.HTTPException) as error:
        yield problem("API", f"{base.hostname}{via}: {reason(error, settings)}", f"correct {name}; is there a network?")
        return
    if status >= 500:
        yield warning("API", f"{settings.api_base}{via} answers {status}", "nothing: jobs wait until it is well again")
    else:
        yield ok("API", f"{settings.api_base}{via} answers within {took_ms:.0f} ms")
    yield from _clock(date)


def _clock(date: str | None) -> Iterator[Finding]:
    try:
        apart_s = parsedate_to_datetime(date or "").timestamp() - time.time()
    except (TypeError, ValueError):
        return
    found = f"{abs(apart_s):.0f} s apart"
    if abs(apart_s) > CLOCKS_APART_S:
        fix = "let this machine take its time from NTP: a Retry-After that is a date is read by it"
        yield warning("clocks of API and machine", found, fix)
    else:
        yield ok("clocks of API and machine", found)


def _head(base: SplitResult, proxy: SplitResult | None) -> tuple[int, str | None]:
    """Status and Date of a HEAD for the base itself, which is no endpoint of the API."""
    host, port = base.hostname or "", base.port or (443 if base.scheme == "https" else 80)
    to_host, to_port = (proxy.hostname or "", proxy.port or 80) if proxy else (host, port)
    path = base.path or "/"
    if base.scheme == "https":
        # The same certificates as the worker's.
        trusted = ssl.create_default_context(cafile=certifi.where())
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            to_host, to_port, timeout=PATIENCE_S, context=trusted
        )
        if proxy:
            connection.set_tunnel(host, port)
    else:
        connection = http.client.HTTPConnection(to_host, to_port, timeout=PATIENCE_S)
        if proxy:
            path = base.geturl()
    try:
        connection.request("HEAD", path, headers={"User-Agent": "mira-queue doctor"})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Date")
    finally:
        connection.close()


def _proxy(base: SplitResult) -> SplitResult | None:
    """The environment's proxy for this base, as the worker's client finds it."""
    proxy = urllib.request.getproxies().get(base.scheme)
    if not proxy or urllib.request.proxy_bypass(base.hostname or ""):
        return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def _is_mira(settings: Settings) -> bool:
    host = urlsplit(settings.api_base).hostname or ""
    return host == MIRA_HOST or host.endswith(f".{MIRA_HOST}")


def _is_near(host: str) -> bool:
    """This machine, or a name or address that is not of the internet: a stack's own service, a private network."""
    try:
        address = ip_address(host)
    except ValueError:
        return "." not in host
    return address.is_loopback or address.is_private
