"""Checks of uploaded files: every line, the tokens, the cost, and the time. Each file is read once, in a thread."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from anyio import CapacityLimiter, to_thread

from mira_producer.cost.prices import Prices
from mira_producer.engine.survey import Survey, seconds_of, survey
from mira_producer.gateway.context import Context
from mira_producer.gateway.files.file_entry import FileEntry
from mira_producer.gateway.http.threads import in_thread
from mira_producer.gateway.retries.identity import new_identity
from mira_producer.jsonl.edited_copy import lines_at
from mira_producer.jsonl.errors import InputError
from mira_producer.request_check import check_of, default_model
from mira_queue.contract.account import Account
from mira_queue.contract.problem import Problem
from mira_queue.contract.unicode import printable

# Invalid lines that are shown at once. The others follow when these are fixed.
MAX_SHOWN = 20
# A longer line is fixed in the file, not on the page.
MAX_EDITED_CHARS = 8_000
MAX_EXCERPT_CHARS = 400
MAX_CHECKS = 200
# Checks that run at the same time. Each uses one CPU.
MAX_RUNNING = 2


@dataclass(frozen=True, slots=True)
class InvalidLine:
    """A line with its problem. `text` is the whole line if it can be edited on the page, else its beginning."""

    problem: Problem
    text: str
    is_editable: bool


@dataclass(slots=True)
class FileCheck:
    """The check of one file. It is complete when `is_complete`; until then, `survey` is filled.

    `reason` says why the file as a whole cannot be used. `identity` is that of the batch that the form starts: sending
    the form twice starts one batch.
    """

    file: FileEntry
    account: Account
    prices: Prices
    survey: Survey = field(default_factory=Survey)
    invalid: list[InvalidLine] = field(default_factory=list)
    reason: str = ""
    seconds: float | None = None
    limit: str = ""
    is_complete: bool = False
    identity: str = field(default_factory=new_identity)

    @property
    def is_valid(self) -> bool:
        return self.is_complete and not self.reason and not self.survey.problems.count

    def started(self, identity: str) -> None:
        """Record that a batch was started: the next form starts another one."""
        if identity == self.identity:
            self.identity = new_identity()

    @property
    def lines(self) -> int:
        """Lines that were read by now."""
        return self.survey.lines + self.survey.problems.count

    @property
    def models_without_price(self) -> list[str]:
        return [model for model in self.survey.models if self.prices.cost(model, 0, 0) is None]


class FileChecks:
    """The last checks of a gateway, by file and account. Files never change. Other prices need another check."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._checks: dict[tuple[str, str], FileCheck] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._limiter = CapacityLimiter(MAX_RUNNING)

    async def check(self, file: FileEntry, account_name: str, patience_s: float) -> FileCheck:
        """Return the check of a file, which may still be running after the patience. Raises InputError, UnknownAccount.

        `account_name` is the account of the caller's key; empty: the gateway's current one.
        """
        account = self._context.queue.accounts.named(account_name or None)
        place, prices = (file.id, account.id), await in_thread(self._context.price_table.prices)
        found = self._checks.get(place)
        if found is None or found.prices != prices:
            self._forget_old()
            self._checks[place] = found = FileCheck(file, account, prices)
            self._tasks[place] = asyncio.create_task(to_thread.run_sync(self._run, found, limiter=self._limiter))
        if task := self._tasks.get(place):
            done, _ = await asyncio.wait([task], timeout=patience_s)
            if done:
                self._tasks.pop(place, None)
                if task.exception() is not None:
                    # A full disk, or a bug: the next request checks again.
                    self._checks.pop(place, None)
                task.result()
        if found.is_valid:
            # The account's limits may have been learned since.
            await in_thread(self._estimate, found)
        return found

    def _run(self, check: FileCheck) -> None:
        settings, path = self._context.settings, check.file.path
        try:
            survey(
                path,
                check_of(settings, check.account),
                default_model(settings, check.account),
                check.prices,
                check.survey,
            )
            check.invalid = _invalid_lines(check)
        except InputError as error:
            # Its problem has the path of our copy, which the user does not know.
            problems = getattr(error, "problems", ())
            check.reason = f"{_where(problems[0])}{problems[0].reason}" if problems else error.brief
        check.is_complete = True

    def _estimate(self, check: FileCheck) -> None:
        estimate = self._context.queue.ledger.pace_view(check.account.id).estimate
        if known := seconds_of(check.survey.lines, check.account.limits, estimate):
            check.seconds, check.limit = known

    def _forget_old(self) -> None:
        for place in list(self._checks)[: max(0, len(self._checks) - MAX_CHECKS + 1)]:
            if place not in self._tasks:
                del self._checks[place]


def _invalid_lines(check: FileCheck) -> list[InvalidLine]:
    problems = [each for each in check.survey.problems.first if each.line][:MAX_SHOWN]
    texts = lines_at(check.file.path, [each.line for each in problems if each.line]) if problems else {}
    return [_invalid_line(each, texts.get(each.line or 0, b"")) for each in problems]


def _invalid_line(problem: Problem, line: bytes) -> InvalidLine:
    text = line[: 4 * MAX_EDITED_CHARS + 4].decode(errors="replace")
    is_editable = len(text) <= MAX_EDITED_CHARS
    # In a text field, control characters are harmless, and the user has to see what is there.
    return InvalidLine(problem, text if is_editable else f"{printable(text[:MAX_EXCERPT_CHARS])}…", is_editable)


def _where(problem: Problem) -> str:
    return f"line {problem.line}: " if problem.line else ""
