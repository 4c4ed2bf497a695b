"""Checks of the API: format of the key, connection to the base URL. They make no call that could be billed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from urllib.parse import urlsplit

import urllib3

from mira_producer.cli import console
from mira_producer.cli.config import masked
from mira_producer.cli.doctor.finding import Finding, compared_clocks, ok, problem, warning
from mira_producer.cli.doctor.probe import Kind, Probe, Reply, candidates, judge
from mira_queue.contract.account import Account
from mira_queue.contract.settings import Settings, SettingsError, variable
from mira_queue.runtime.accounts_file import load_accounts
from mira_queue.runtime.connection_problem import connection_problem
from mira_queue.runtime.network_path import network_path

MIRA_DOMAIN = ".vmira.ai"
MIRA_KEY = re.compile(r"sk-mira-[0-9a-f]{40}", re.IGNORECASE)
BASE = variable("api_base")
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
        if _is_mira(account.base) and not MIRA_KEY.fullmatch(key):
            fix = f"compare {name} with the key in your account: is it incomplete, or a key of another service?"
            yield warning(check, "does not look like a Mira key (sk-mira- and 40 hex digits)", fix)
        else:
            yield ok(check, f"{masked(key)} (the format is right; only a call can show whether it is valid)")


def check_api(settings: Settings) -> Iterator[Finding]:
    """Connect as a worker would, and send an empty request without the key. Its response shows a wrong base."""
    for base in dict.fromkeys(account.base for account in _checked(settings)):
        yield from _check_base(base)


def _checked(settings: Settings) -> list[Account]:
    """Return the accounts to check: named ones, and that of MIRA_API_KEY if it is set, or if there is no other."""
    accounts = load_accounts(settings)
    return [each for each in accounts if each.is_named or each.key is not None] or [accounts.current]


def _check_base(api_base: str) -> Iterator[Finding]:
    base = urlsplit(api_base)
    if base.scheme == "http" and not _is_private(base.hostname or ""):
        found = f"{api_base} is not encrypted: others can read the key and the prompts"
        yield warning("API", found, f"use https:// in {BASE}")
    try:
        path = network_path(api_base)
    except SettingsError as error:
        found, _, fix = str(error).rpartition(": ")
        yield problem("API", found, fix)
        return
    via = f" through the proxy {path.shown_proxy}" if path.proxy else ""
    started_s = time.monotonic()
    probe = Probe(path)
    try:
        reply = probe.completions(api_base)
        took_ms = (time.monotonic() - started_s) * 1000
        yield _judged(api_base, via, reply, took_ms, probe)
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        found, fix = connection_problem(error)
        yield problem("API", f"{base.netloc}{via}: {found}", fix)
        return
    finally:
        probe.close()
    with suppress(TypeError, ValueError):
        apart_s = parsedate_to_datetime(reply.headers.get("date", "")).timestamp() - time.time()
        fix = "use NTP on this machine: its clock decides when a Retry-After date has passed"
        yield compared_clocks("clocks of API and machine", apart_s, MAX_CLOCK_DIFFERENCE_S, fix)


def _judged(base: str, via: str, reply: Reply, took_ms: float, probe: Probe) -> Finding:
    where = f"{base}{via}"
    match judge(reply):
        case Kind.API:
            return ok("API", f"{where} responds within {took_ms:.0f} ms")
        case Kind.DOWN:
            return warning("API", f"{where} responds with {reply.status}", "none needed: jobs wait until it recovers")
        case Kind.ELSEWHERE:
            target = console.one_line(reply.headers.get("location", "another place"))[:200]
            found = f"{where} redirects to {target}; redirects are not followed, because they would take the key along"
            return problem("API", found, f"set {BASE} to the address to which it redirects")
        case Kind.FORBIDDEN if not _is_mira(base) and not _better_base(base, probe):
            found = f"{where} responds with 403 to a request without a key"
            return warning("API", found, f"if calls fail with 403, correct {BASE}, or ask the operator who may call it")
        case Kind.WEB_PAGE:
            found = f"{where} responds with a web page, not as an API (status {reply.status})"
        case Kind.OTHER:
            found = f"{where} accepts an empty request (status {reply.status}): it is no API for chat completions"
        case _:
            found = f"{where} has no chat completions (status {reply.status}){_other_api(base, probe)}"
    better = _better_base(base, probe)
    fix = (
        f"set {BASE}={better}, which responds as an API"
        if better
        else f"correct {BASE}: it is the URL before /chat/completions, most often with /v1 at its end"
    )
    return problem("API", found, fix)


def _other_api(base: str, probe: Probe) -> str:
    with suppress(urllib3.exceptions.HTTPError, OSError):
        if probe.has_models(base):
            return ", although it has /models: is it another kind of API?"
    return ""


def _better_base(base: str, probe: Probe) -> str:
    """Return a base of the same server that responds as an API, or an empty string."""
    for candidate in candidates(base):
        with suppress(urllib3.exceptions.HTTPError, OSError):
            if judge(probe.completions(candidate)) is Kind.API:
                return candidate
    return ""


def _is_mira(base: str) -> bool:
    return f".{urlsplit(base).hostname}".endswith(MIRA_DOMAIN)


def _is_private(host: str) -> bool:
    """Return True for this machine, a private address, and a name without a dot, such as a service of a stack."""
    try:
        address = ip_address(host)
    except ValueError:
        return "." not in host
    return address.is_loopback or address.is_private
