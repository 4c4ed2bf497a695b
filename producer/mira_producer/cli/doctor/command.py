"""The command: every check in order, each finding shown as it comes, for some take seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict

import typer
from rich.console import Console
from rich.text import Text

from mira_producer.cli import console
from mira_producer.cli.doctor.api import check_api, check_key
from mira_producer.cli.doctor.backend import check_result_backend
from mira_producer.cli.doctor.finding import Finding, Verdict, ok, problem, reason, warning
from mira_producer.cli.doctor.machine import check_disk, check_packages, check_python, check_settings
from mira_producer.cli.doctor.server import check_server
from mira_producer.cli.outcome import Json
from mira_queue.contract.settings import Settings, SettingsError, variable
from mira_queue.ledger.connection import connect
from mira_queue.ledger.embedded import EmbeddedServerError
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.server import QueueServer
from mira_queue.runtime.settings_loader import load_settings

STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.PROBLEM: "bold red"}

HELP_END = console.help_end(
    [
        ("mira-queue doctor", "what is missing, and what to do about it"),
        ("mira-queue doctor --json | jq '.checks[] | select(.verdict != \"ok\")'", "only what is not well"),
    ],
    {0: "no problem (there may be warnings)", 1: "problems: each says what to do", 2: "wrong usage"},
)


def doctor(as_json: Json = False) -> None:
    """Check what is needed, and say what to fix.

    \b
    Python and packages    versions
    settings               valid? a MIRA_ variable misspelt?
    state directory        writable? disk space?                    (embedded server)
    server                 reachable? version? are its data kept? memory? clock?
    result backend         reachable?                               (when set)
    API key and API        the key's form; is the API reachable?    (no call that could be billed)
    workers                which are alive?

    The key is never printed. An embedded server is started for the checks, if none runs.
    """
    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            _print(finding)
    well = all(finding.verdict is not Verdict.PROBLEM for finding in findings)
    if as_json:
        console.json_data({"ok": well, "checks": [asdict(finding) for finding in findings]})
    if not well:
        raise typer.Exit(console.EXIT_FAILED)


def examine() -> Iterator[Finding]:
    """Every check, in order; those that need settings are left out when there are no valid ones."""
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
    """The server and, where it answers, what needs it."""
    server = QueueServer(settings)
    try:
        url = server.open()
    except EmbeddedServerError as error:
        fix = f"as it says; or set {variable('redis_url')} to a server of your own"
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
        yield warning("workers", "none is alive: jobs are accepted, and wait", "start one: mira-queue worker")


def _print(finding: Finding) -> None:
    line = f"{finding.verdict:<8} {finding.check}: {finding.found}"
    if sys.stdout.isatty():
        text = Text(line)
        text.stylize(STYLES[finding.verdict], 0, len(finding.verdict))
        Console().print(text, soft_wrap=True)
    else:
        console.data(line)
    if finding.fix:
        console.data(f"{'':<8} -> {finding.fix}")
