"""Checks of the API: format of the key, connection to the base URL. They make no call that could be billed."""

from __future__ import annotations

import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

import certifi

from mira_producer.cli.config import masked
from mira_producer.cli.doctor.finding import Finding, compared_clocks, ok, problem, reason, warning
from mira_queue.contract.account import Account
from mira_queue.contract.settings import Settings, variable
from mira_queue.runtime.accounts_file import load_accounts

MIRA_DOMAIN = ".vmira.ai"
MIRA_KEY = re.compile(r"sk-mira-[0-9a-f]{40}", re.IGNORECASE)
TIMEOUT_S = 5.0
# A Date header has whole seconds, and can be slightly old.
MAX_CLOCK_DIFFERENCE_S = 5.0


def check_key(settings: Settings) -> Iterator[Finding]:
    """Check the format of the key. Only a call could show whether it is valid."""
    for account in _checked(settings):
        check = f"API key of {account.id}" if account.is_named else "API key"
        name = "its key_env or key_file" if account.is_named else variable("api_key")
        if account.key is None:
            fix = f"set {name}" if account.is_named else f"set {name} in the environment or in .env"
            yield problem(check, f"{name} is not set: workers need it", fix)
            continue
        key = account.key.get_secret_value()
        host = urlsplit(account.base).hostname or ""
        if f".{host}".endswith(MIRA_DOMAIN) and not MIRA_KEY.fullmatch(key):
            fix = f"compare {name} with the key in your account: is it incomplete, or a key of another service?"
            yield warning(check, "does not look like a Mira key (sk-mira- and 40 hex digits)", fix)
        else:
            yield ok(check, f"{masked(key)} (the format is right; only a call can show whether it is valid)")


def check_api(settings: Settings) -> Iterator[Finding]:
    """Connect as a worker would, through the environment's proxy, and send a HEAD without the key."""
    for base in dict.fromkeys(account.base for account in _checked(settings)):
        yield from _check_base(base, settings)


def _checked(settings: Settings) -> list[Account]:
    """Return the accounts to check: named ones, and that of MIRA_API_KEY if it is set, or if there is no other."""
    accounts = load_accounts(settings)
    return [each for each in accounts if each.is_named or each.key is not None] or [accounts.current]


def _check_base(api_base: str, settings: Settings) -> Iterator[Finding]:
    base = urlsplit(api_base)
    name = variable("api_base")
    if base.scheme == "http" and not _is_private(base.hostname or ""):
        found = f"{api_base} is not encrypted: others can read the key and the prompts"
        yield warning("API", found, f"use https:// in {name}")
    proxy = _proxy(base)
    via = f" through the proxy {proxy.hostname}:{proxy.port}" if proxy else ""
    started_s = time.monotonic()
    try:
        status, date = _head(api_base)
    except (OSError, http.client.HTTPException) as error:
        found, fix = reason(error, settings), f"correct {name}, or check the network"
        if isinstance(error, ssl.SSLCertVerificationError):
            found = f"its certificate is not valid ({error.verify_message})"
            fix = "if a proxy intercepts TLS, set REQUESTS_CA_BUNDLE to its certificates"
        yield problem("API", f"{base.hostname}{via}: {found}", fix)
        return
    if status >= 500:
        found = f"{api_base}{via} responds with {status}"
        yield warning("API", found, "none needed: jobs wait until the API recovers")
    else:
        took_ms = (time.monotonic() - started_s) * 1000
        yield ok("API", f"{api_base}{via} responds within {took_ms:.0f} ms")
    with suppress(TypeError, ValueError):
        apart_s = parsedate_to_datetime(date or "").timestamp() - time.time()
        fix = "use NTP on this machine: its clock decides when a Retry-After date has passed"
        yield compared_clocks("clocks of API and machine", apart_s, MAX_CLOCK_DIFFERENCE_S, fix)


def _head(url: str) -> tuple[int, str | None]:
    """Return status and Date of a HEAD for the base URL, which is not an endpoint of the API."""
    # The worker uses the same certificates, and the same proxy.
    tls = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=certifi.where()))
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "mira-queue doctor"})
    try:
        with urllib.request.build_opener(tls).open(request, timeout=TIMEOUT_S) as response:
            return response.status, response.headers["Date"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Date"]
    except urllib.error.URLError as error:
        raise error.reason if isinstance(error.reason, OSError) else error from None


def _proxy(base: SplitResult) -> SplitResult | None:
    """Return the environment's proxy for this base URL, as the worker's client finds it."""
    proxy = urllib.request.getproxies().get(base.scheme)
    if not proxy or urllib.request.proxy_bypass(base.hostname or ""):
        return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def _is_private(host: str) -> bool:
    """Return True for this machine, a private address, and a name without a dot, such as a service of a stack."""
    try:
        address = ip_address(host)
    except ValueError:
        return "." not in host
    return address.is_loopback or address.is_private
