"""Problems of an input file as text: the only place where they become sentences."""

from __future__ import annotations

from collections.abc import Sequence

from mira_producer.jsonl.errors import InvalidInput
from mira_producer.text import plural
from mira_queue.contract.problem import Problem

# Enough to see the pattern. A file with many invalid lines must not fill the terminal.
MAX_SHOWN = 20


def problem_lines(problems: Sequence[Problem | str], count: int, max_shown: int = MAX_SHOWN) -> list[str]:
    """Return a line for each of the first problems, and one that says how many more of the `count` there are."""
    shown = [str(each) for each in problems[:max_shown]]
    return [*shown, f"... and {count - len(shown):,} more"] if count > len(shown) else shown


def invalid_lines(count: int, lines: int) -> str:
    return f"{count:,} of {plural(lines, 'line')} {'is' if count == 1 else 'are'} invalid"


def error_lines(error: InvalidInput) -> list[str]:
    """Return the lines for an input that is not run."""
    shown = problem_lines(error.problems, error.count)
    return [*shown, f"{invalid_lines(error.count, error.lines)}: nothing was sent"] if error.lines else shown
