"""The plan of a run: all lines of its input are checked, and those that have an answer already are known."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson

from mira_producer.cost.prices import Prices
from mira_producer.cost.spending import Spending
from mira_producer.cost.usage import Usage, usage_of_line
from mira_producer.engine.options import budget_of, spending_of
from mira_producer.engine.previous_results import Written, error_code
from mira_producer.engine.stats import Stats
from mira_producer.jsonl.duplicates import Duplicates
from mira_producer.jsonl.errors import FileDamaged, InvalidInput, Problems, invalid_file
from mira_producer.jsonl.line_index import LineIndex
from mira_producer.jsonl.request_line import InputLine, parse_line, problem_of, raw_lines
from mira_producer.jsonl.result_file import ResultFile
from mira_producer.jsonl.result_line import is_retryable, without_retry
from mira_producer.jsonl.sort import put_in_order
from mira_producer.jsonl.verify import matched
from mira_producer.request_check import Check
from mira_queue.contract.batch import BatchFiles, BatchOptions
from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.problem import EMPTY_FILE, MODEL_WITHOUT_PRICE, Problem
from mira_queue.contract.request import ChatRequest


def group_of(output: Path) -> str:
    """Return the name by which the ledger knows the run that writes this file. A resumed run has the same name."""
    return hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:16]


class Plan:
    """The lines of a run, the answers that they have, and its result files, which are locked until `close`.

    `options` may change between two engines, when a command changes the budget. `before` counts what the files held
    when the plan was made, `stats` what has ended since.
    """

    def __init__(self, files: BatchFiles, options: BatchOptions, prices: Prices, check: Check) -> None:
        """Read the input, and what earlier runs wrote. Raise InputError, or ResultFileError for the other two files."""
        self.files = files
        self.options = options
        self.prices = prices
        self.check = check
        self.group = group_of(files.output)
        with ExitStack() as closing:
            self._read(closing)
            # Everything is in order: from now on `close` closes what is open.
            self._closing = closing.pop_all()

    def _read(self, closing: ExitStack) -> None:
        files, options, prices = self.files, self.options, self.prices
        self.index = closing.enter_context(LineIndex())
        #: With `dedupe`: lines by their request.
        self.duplicates = closing.enter_context(Duplicates()) if options.dedupe else None
        read_input(files.input, _with_price(options, prices, self.check), self.index, self.duplicates)
        self.output = ResultFile(files.output)
        closing.callback(self.output.close)
        self.errors = ResultFile(files.errors)
        closing.callback(self.errors.close)
        #: Lines that the account rejected, by code: their error is in the file, marked, until they run again.
        self.retryable: Counter[str] = Counter()
        #: Calls that may have been billed, by the number of their line, of jobs that were deleted without an answer.
        self.billed: Counter[int] = Counter()
        self.is_open = True
        #: What the lines of earlier runs used of the budget; nothing without one.
        self.used_before = Usage()
        written = Written(prices)
        for entry in read_results(self.output, self.index):
            written.add_answer(entry)
            self._add_used(entry)
        for entry in read_results(self.errors, self.index):
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
            index.add([(line.custom_id, number)])
        except InvalidRequest as error:
            yield problem_of(path, number, error)
        else:
            yield line


def read_input(path: Path, check: Check, index: LineIndex, duplicates: Duplicates | None = None) -> None:
    """Add every line of the input to the index. Raises InvalidInput with the problems of all lines."""
    problems = Problems()
    for line in checked_lines(path, check, index):
        if isinstance(line, Problem):
            problems.add(line)
        elif duplicates is not None:
            duplicates.add(line.request.digest, line.number, line.custom_id)
    if problems.count:
        raise InvalidInput(problems.first, problems.count, problems.count + index.total)
    if index.total == 0:
        raise invalid_file(path, "holds no requests", EMPTY_FILE)


def read_results(file: ResultFile, index: LineIndex) -> Iterator[Mapping[str, Any]]:
    """Yield the lines of an output or error file, and mark their input lines as answered. Raise FileDamaged."""
    for entry in matched(file.path, file, index):
        if isinstance(entry, Problem):
            raise FileDamaged(file.path, entry.line or 0, entry.reason)
        yield entry


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
