"""`mira-queue doctor`: check everything that the queue needs, and name a fix for each problem."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import typer
from rich.console import Console
from rich.text import Text

from mira_producer.cli import console
from mira_producer.cli.doctor.api import check_api, check_key
from mira_producer.cli.doctor.finding import Finding, Verdict, ok, problem, warning
from mira_producer.cli.doctor.machine import check_disk, check_packages
from mira_producer.cli.doctor.server import check_queue
from mira_producer.cli.options import Json
from mira_queue.contract.settings import SettingsError
from mira_queue.runtime.accounts_file import load_accounts
from mira_queue.runtime.settings_loader import ignored_variables, load_settings

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
    workers                which ones respond?
    API key and API        format of the key; API reachable?       (no call that could be billed)

    The key is never printed. If no embedded server is running, one is started for the checks.
    """
    findings = []
    # Each finding is shown immediately, because some checks take seconds.
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
    """Run all checks in order. If a setting is wrong or misspelled, skip the checks that need settings."""
    yield from check_packages()
    fix = "in the environment or in .env (see mira-queue config)"
    try:
        settings = load_settings()
        load_accounts(settings)
    except SettingsError as error:
        for line in str(error).splitlines():
            yield problem("settings", line, f"correct it {fix}")
        return
    yield ok("settings", "all valid")
    if ignored := ignored_variables():
        found = f"{', '.join(ignored)}: ignored"
        yield warning("unknown settings", found, f"unset or rename them {fix}, unless they belong to another program")
    for check in (check_disk, check_queue, check_key, check_api):
        yield from check(settings)


def _print(finding: Finding) -> None:
    verdict = (f"{finding.verdict:<8}", STYLES[finding.verdict])
    line = Text.assemble(verdict, console.plain(f" {finding.check}: {finding.found}"))
    Console().print(line, soft_wrap=True)
    if finding.fix:
        console.data(f"{'':<8} -> {finding.fix}")
