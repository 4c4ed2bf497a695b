"""The command: run all checks in order, and show each finding immediately, because some checks take seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict

import typer
from rich.console import Console

from mira_producer.cli import console
from mira_producer.cli.doctor.api import check_api, check_key
from mira_producer.cli.doctor.backend import check_result_backend
from mira_producer.cli.doctor.finding import Finding, Verdict, ok, problem, reason, warning
from mira_producer.cli.doctor.machine import check_disk, check_packages, check_python, check_settings
from mira_producer.cli.doctor.server import check_server
from mira_producer.cli.options import Json
from mira_queue.contract.settings import Settings, SettingsError, variable
from mira_queue.ledger.connection import connect
from mira_queue.ledger.embedded import EmbeddedServerError
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.server import QueueServer
from mira_queue.runtime.settings_loader import load_settings

STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.PROBLEM: "bold red"}

HELP_END = console.help_end(
    [
        ("mira-queue doctor", "what is wrong, and how to fix it"),
        ("mira-queue doctor --json | jq '.checks[] | select(.verdict != \"ok\")'", "only warnings and problems"),
    ],
    {0: "no problem (warnings are possible)", 1: "problems, each with a fix", 2: "wrong usage"},
)


def doctor(as_json: Json = False) -> None:
    """Check everything that the queue needs, and suggest fixes.

    \b
    Python and packages    versions
    settings               valid? a MIRA_ variable misspelled?
    state directory        writable? enough space?                 (embedded server)
    server                 reachable? version? persistence? memory? clock?
    result backend         reachable?                              (if configured)
    API key and API        format of the key; API reachable?       (no call that could be billed)
    workers                which ones respond?

    The key is never printed. If no embedded server is running, one is started for the checks.
    """
    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            _print(finding)
    passed = all(finding.verdict is not Verdict.PROBLEM for finding in findings)
    if as_json:
        console.json_data({"ok": passed, "checks": [asdict(finding) for finding in findings]})
    if not passed:
        raise typer.Exit(console.EXIT_FAILED)


def examine() -> Iterator[Finding]:
    """Run all checks in order. Skip those that need settings if the settings are not valid."""
    yield from check_python()
    yield from check_packages()
    yield from check_settings()
    try:
        settings = load_settings()
    except SettingsError:
        return
    yield from check_disk(settings)
    yield from _check_queue(settings)
    yield from check_key(settings)
    yield from check_api(settings)


def _check_queue(settings: Settings) -> Iterator[Finding]:
    """Check the server and, if it responds, what depends on it."""
    server = QueueServer(settings)
    try:
        url = server.open()
    except EmbeddedServerError as error:
        fix = f"follow the message, or set {variable('redis_url')} to another server"
        yield problem("server", reason(error, settings), fix)
        return
    try:
        findings = list(check_server(settings, url))
        yield from findings
        if len(findings) > 1:
            yield from check_result_backend(settings, url)
            yield from _check_workers(settings, url)
    finally:
        server.close()


def _check_workers(settings: Settings, url: str) -> Iterator[Finding]:
    with connect(url) as client:
        alive = Ledger(client, result_ttl=settings.result_ttl).live_workers()
    if alive:
        yield ok("workers", f"{len(alive)} alive: {', '.join(worker.name for worker in alive)}")
    else:
        yield warning("workers", "none is alive: jobs are accepted, but wait", "start one: mira-queue worker")


def _print(finding: Finding) -> None:
    line = f"{finding.verdict:<8} {finding.check}: {finding.found}"
    if sys.stdout.isatty():
        text = console.plain(line)
        text.stylize(STYLES[finding.verdict], 0, len(finding.verdict))
        Console().print(text, soft_wrap=True)
    else:
        console.data(line)
    if finding.fix:
        console.data(f"{'':<8} -> {finding.fix}")
