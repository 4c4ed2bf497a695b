"""The plan of a run: all lines of its input are checked, and those that have an answer already are known."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from mira_producer.cost.prices import Prices
from mira_producer.cost.spending import Spending
from mira_producer.cost.usage import Usage, usage_of_line
from mira_producer.engine.options import budget_of, spending_of
from mira_producer.engine.previous_results import Written, error_code, replaced_answers, used_by_replaced
from mira_producer.engine.stats import Stats
from mira_producer.jsonl.duplicates import Duplicates
from mira_producer.jsonl.errors import FileDamaged, InvalidInput, LinesChanged, Problems, invalid_file
from mira_producer.jsonl.line_index import LineIndex
from mira_producer.jsonl.matching import Match, matched
from mira_producer.jsonl.request_line import InputLine, parse_line, problem_of, raw_lines
from mira_producer.jsonl.result_file import ResultFile
from mira_producer.jsonl.result_line import digest_of, is_retryable, is_simulated, json_line, without_retry
from mira_producer.jsonl.sort import put_in_order
from mira_producer.request_check import Check
from mira_producer.request_fields import WrongNames
from mira_queue.contract.batch import BatchFiles, BatchOptions
from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.problem import EMPTY_FILE, MODEL_WITHOUT_PRICE, Problem
from mira_queue.contract.request import ChatRequest

# Changed lines that a message names: enough to see the pattern.
MAX_NAMED = 10


def group_of(output: Path) -> str:
    """Return the name by which the ledger knows the run that writes this file. A resumed run has the same name."""
    return hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:16]


@dataclass(slots=True)
class ChangedLines:
    """How many lines have changed, the first of them, and whether they run again."""

    reruns: bool
    count: int = 0
    numbers: list[int] = field(default_factory=list)

    def add(self, number: int) -> None:
        self.count += 1
        if len(self.numbers) < MAX_NAMED:
            self.numbers.append(number)


class Plan:
    """The lines of a run, the answers that they have, and its result files, which are locked until `close`.

    `options` may change between two engines, when a command changes the budget. `before` counts what the files held
    when the plan was made, `stats` what has ended since.
    """

    def __init__(
        self, files: BatchFiles, options: BatchOptions, prices: Prices, check: Check, *, simulated: bool = False
    ) -> None:
        """Read the input, and what earlier runs wrote. Raise InputError, or ResultFileError for the other two files."""
        self.files = files
        self.simulated = simulated
        self.options = options
        self.prices = prices
        self.check = check
        self.group = group_of(files.output)
        with ExitStack() as stack:
            self._read(stack)
            # Everything is in order: from now on `close` closes what is open.
            self._closing = stack.pop_all()

    def _read(self, stack: ExitStack) -> None:
        files, options, prices = self.files, self.options, self.prices
        self.index = stack.enter_context(LineIndex())
        #: With `dedupe`: lines by their request.
        self.duplicates = stack.enter_context(Duplicates()) if options.dedupe else None
        self.wrong_names = read_input(
            files.input, _with_price(options, prices, self.check), self.index, self.duplicates
        )
        self.output = ResultFile(files.output)
        stack.callback(self.output.close)
        self.errors = ResultFile(files.errors)
        stack.callback(self.errors.close)
        #: Lines that the account rejected, by code: their error is in the file, marked, until they run again.
        self.retryable: Counter[str] = Counter()
        #: Calls that may have been billed, by the number of their line, of jobs that were deleted without an answer.
        self.billed: Counter[int] = Counter()
        #: Lines whose request has changed since their answer or their final error was written.
        self.changed = ChangedLines(reruns=options.changed == "rerun")
        self.is_open = True
        #: What the lines of earlier runs used of the budget; nothing without one.
        self.used_before = used_by_replaced(files, prices) if budget_of(options) else Usage()
        written = Written(prices)
        for entry in self._results(self.output):
            written.add_answer(entry)
            self._add_used(entry)
        for entry in self._results(self.errors):
            written.add_error(entry)
            if is_retryable(entry):
                self.retryable[error_code(entry)] += 1
            else:
                self._add_used(entry)
        self.before = written.stats()
        self.stats = Stats(self.index.total, self.before.succeeded, self.before.failed, prices)

    @property
    def left(self) -> int:
        """Lines that have neither an answer nor a final error."""
        return self.index.total - self.index.answered + self.retryable.total()

    def check_files(self) -> None:
        """Raise FileReplaced if another program has changed a file that has lines."""
        for file in (self.output, self.errors):
            if file.has_lines:
                file.check()

    def check_changed(self) -> None:
        """Raise LinesChanged if lines have changed, and the user has not chosen what to do about them."""
        if self.changed.count and not self.options.changed:
            changed = self.changed
            raise LinesChanged(self.files.input, changed.numbers, changed.count, self.index.count_moved())

    def remove_changed(self) -> int:
        """Remove the answers and errors of changed lines that run again. Return their number.

        The answers are saved next to the output file, because they were paid for. Raise LinesChanged, InputError.
        """
        self.check_changed()
        if not self.changed.reruns or not self.changed.count:
            return 0
        with closing(ResultFile(self.replaced_answers)) as replaced:
            self.output.remove(self._is_changed, lambda entries: replaced.append(list(map(json_line, entries))))
        self.errors.remove(self._is_changed, lambda entries: None)
        count, self.changed = self.changed.count, ChangedLines(reruns=False)
        return count

    @property
    def replaced_answers(self) -> Path:
        """Path of the answers that were removed because their lines have changed."""
        return replaced_answers(self.files)

    def spending(self) -> Spending | None:
        """Return the budget, with what earlier runs used; None if no limit is set."""
        return spending_of(self.options, self.used_before, self.prices)

    def retry_errors(self) -> None:
        """Make the lines that the account rejected pending again. Raise InputError."""
        numbers: list[int] = []
        if self.retryable:
            self.errors.remove(is_retryable, lambda entries: numbers.extend(map(self._number_of, entries)))
        # Not earlier: if the storage is full, the lines are still in the file.
        self.index.mark_pending(numbers)
        self.stats.failed_before -= len(numbers)
        self.before.codes.subtract(self.retryable)
        self.retryable.clear()

    def make_errors_final(self) -> None:
        """Keep the errors of these lines as their outcomes. Raise InputError."""
        if self.retryable:
            self.errors.replace(without_retry(line) for _, line in self.errors)
        self.retryable.clear()

    def put_in_order(self, between: Callable[[], None] = lambda: None) -> bool:
        """Once every line has ended: sort the files if the user asked for it. Return True if that changed them."""
        if not self.options.ordered or self.left:
            return False
        changed = put_in_order(self.output, self.index)
        between()
        return put_in_order(self.errors, self.index) or changed

    def _results(self, file: ResultFile) -> Iterator[Mapping[str, Any]]:
        """Yield the lines of a file. A changed line that is to run again is pending instead."""
        for line in read_results(file, self.index, simulated=self.simulated):
            if line.is_changed and not is_retryable(line.entry):
                self.changed.add(line.number)
                self.index.add_changed(line.digest)
                if self.changed.reruns:
                    self.index.mark_pending([line.number])
                    # The old answer was paid for.
                    self._add_used(line.entry)
                    continue
            yield line.entry

    def _is_changed(self, entry: Mapping[str, Any]) -> bool:
        digest = digest_of(entry)
        return bool(digest) and digest != self.index.digest_of(str(entry["custom_id"])) and not is_retryable(entry)

    def _number_of(self, entry: Mapping[str, Any]) -> int:
        number = self.index.number_of(str(entry["custom_id"]))
        assert number is not None, "the file's lines were compared with the input's"
        return number

    def close(self) -> None:
        self.is_open = False
        self._closing.close()

    def _add_used(self, entry: Mapping[str, Any]) -> None:
        if budget_of(self.options):
            self.used_before += usage_of_line(entry, self.prices)


def checked_lines(path: Path, check: Check, index: LineIndex) -> Iterator[InputLine | Problem]:
    """Yield every line of the input, after adding it to the index, or what is wrong with it.

    Raises InvalidInput for a file that cannot be read line by line.
    """
    for number, content in raw_lines(path):
        try:
            line = parse_line(number, content, check)
            index.add([(line.custom_id, number, line.digest)])
        except InvalidRequest as error:
            yield problem_of(path, number, error)
        else:
            yield line


def read_input(path: Path, check: Check, index: LineIndex, duplicates: Duplicates | None = None) -> WrongNames:
    """Add every line of the input to the index. Return names of fields that may be misspelled.

    Raises InvalidInput with the problems of all lines.
    """
    problems, names = Problems(), WrongNames()
    for line in checked_lines(path, check, index):
        if isinstance(line, Problem):
            problems.add(line)
            continue
        names.add(line.number, line.unknown_fields)
        if duplicates is not None:
            duplicates.add(line.request.digest, line.number, line.custom_id)
    if problems.count:
        raise InvalidInput(problems.first, problems.count, problems.count + index.total)
    if index.total == 0:
        raise invalid_file(path, "holds no requests", EMPTY_FILE)
    return names


def read_results(file: ResultFile, index: LineIndex, *, simulated: bool = False) -> Iterator[Match]:
    """Yield the lines of an output or error file, and mark their input lines as answered. Raise FileDamaged."""
    for line in matched(file.path, file, index):
        if isinstance(line, Problem):
            raise FileDamaged(file.path, line.line or 0, line.reason)
        # A line without a digest may be from an earlier version, which did not mark simulated lines.
        if line.digest and is_simulated(line.entry) != simulated:
            wrote, runs = ("simulated", "real") if simulated is False else ("real", "simulated")
            raise FileDamaged(file.path, line.place, f"is from a {wrote} run, and this run is {runs}")
        yield line


def _with_price(options: BatchOptions, prices: Prices, check: Check) -> Check:
    """Return a check that also rejects models without a price, if the cost is limited: they could cost anything."""
    if not options.max_cost:
        return check

    def check_price(fields: Mapping[str, Any]) -> ChatRequest:
        request = check(fields)
        model = fields.get("model") or orjson.loads(request.body)["model"]
        if prices.cost(model, 0, 0) is None:
            reason = f"{model!r} has no price in the table, which a limit of the cost needs"
            raise InvalidRequest("model", reason, MODEL_WITHOUT_PRICE)
        return request

    return check_price
