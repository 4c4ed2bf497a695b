"""Before anything is sent: is every line of the input fit to send, and which are answered already?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import orjson

from mira_producer.cost.prices import Prices
from mira_producer.cost.usage import Usage, usage_of_line
from mira_producer.engine.options import EngineOptions
from mira_producer.engine.stats import Stats
from mira_producer.jsonl.duplicates import Duplicates
from mira_producer.jsonl.errors import FileDamaged, InvalidInput, Problems, invalid_file
from mira_producer.jsonl.line_index import LineIndex
from mira_producer.jsonl.request_line import InputLine, parse_line, problem_of, raw_lines
from mira_producer.jsonl.result_file import ResultFile
from mira_producer.jsonl.result_line import is_retryable
from mira_producer.jsonl.retryable_errors import RetryableErrors
from mira_producer.jsonl.sort import put_in_order
from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.problem import EMPTY_FILE, MODEL_WITHOUT_PRICE, Problem
from mira_queue.contract.request import ChatRequest

Check = Callable[[Mapping[str, Any]], ChatRequest]
# Is told of a line of an output or error file.
Note = Callable[[Mapping[str, Any]], None]


class Plan:
    """The lines of a run, those of them that are answered, and its files, which are locked until `close`."""

    def __init__(self, options: EngineOptions, check: Check, closing: ExitStack) -> None:
        """Raises InputError. What is opened is closed by `closing`, whatever happens."""
        self._closing = closing
        self._ordered = options.ordered
        self.index = closing.enter_context(LineIndex())
        #: With `dedupe`: which lines ask the same.
        self.duplicates = closing.enter_context(Duplicates()) if options.dedupe else None
        read_input(options.input, _with_price(options, check), self.index, self.duplicates)
        self.output = ResultFile(options.output)
        closing.callback(self.output.close)
        self.errors = ResultFile(options.errors)
        closing.callback(self.errors.close)
        #: Lines whose error is the account's refusal.
        self.retryable_errors = RetryableErrors(self.errors, self.index)
        #: By earlier runs, as far as their lines say; nothing without a budget.
        self.used_before = Usage()
        note = self._note_use(options.prices) if options.budget else None
        before = read_answers(self.output, self.index, options.input, note)
        failed_before = read_answers(self.errors, self.index, options.input, self._note_refusal(note))
        self.stats = Stats(self.index.total, before, failed_before, options.prices)

    @classmethod
    def make(cls, options: EngineOptions, check: Check) -> Self:
        """Read the input, and what earlier runs have written. Raises InputError."""
        with ExitStack() as stack:
            plan = cls(options, check, stack)
            # Nothing was wrong: from now on `close` closes what is open.
            plan._closing = stack.pop_all()
            return plan

    def _note_use(self, prices: Prices) -> Note:
        def note(entry: Mapping[str, Any]) -> None:
            self.used_before += usage_of_line(entry, prices)

        return note

    def _note_refusal(self, note: Note | None) -> Note:
        def note_refusal(entry: Mapping[str, Any]) -> None:
            if is_retryable(entry):
                self.retryable_errors.count += 1
            elif note is not None:
                note(entry)

        return note_refusal

    @property
    def left(self) -> int:
        """Lines that have neither an answer nor an error that is final."""
        return self.index.total - self.index.answered + self.retryable_errors.count

    def retry_errors(self) -> None:
        """Lines that the account refused are among those that have no answer. Raises InputError."""
        self.stats.failed_before -= self.retryable_errors.remove()

    def put_in_order(self, between: Callable[[], None] = lambda: None) -> bool:
        """Once every line has ended: the files in the order of the input, where that is wanted. True: they were not."""
        if not self._ordered or self.left:
            return False
        changed = put_in_order(self.output, self.index)
        between()
        return put_in_order(self.errors, self.index) or changed

    def close(self) -> None:
        self._closing.close()


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


def read_answers(file: ResultFile, index: LineIndex, input_path: Path, note: Note | None = None) -> int:
    """Mark what stands in an output or error file as answered; returns how many lines that are. Raises FileDamaged.

    `note` is told each of them.
    """
    count = 0
    for number, content in file:
        try:
            entry = orjson.loads(content)
            custom_id = entry["custom_id"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise FileDamaged(file.path, number, "not a line of an output or error file") from None
        line = index.number_of(str(custom_id))
        if line is None:
            raise FileDamaged(file.path, number, f"custom_id {str(custom_id)[:80]!r} is not in {input_path}")
        if not index.mark_answered(line):
            raise FileDamaged(file.path, number, f"custom_id {str(custom_id)[:80]!r} is answered twice")
        count += 1
        if note is not None:
            note(entry)
    return count


def _with_price(options: EngineOptions, check: Check) -> Check:
    """Where the cost is limited, a request whose model has no price is a wrong one: it could cost anything."""
    if options.budget is None or options.budget.max_cost is None:
        return check

    def check_price(fields: Mapping[str, Any]) -> ChatRequest:
        request = check(fields)
        model = fields.get("model") or orjson.loads(request.body)["model"]
        if options.prices.cost(model, 0, 0) is None:
            reason = f"{model!r} has no price in the table, which a limit of the cost needs"
            raise InvalidRequest("model", reason, MODEL_WITHOUT_PRICE)
        return request

    return check_price
