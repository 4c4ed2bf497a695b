"""Table of figures with their targets and verdicts. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.pacing.scenarios import Scenario

# Higher is better for these figures; lower is better for all others.
RISING = frozenset({"steady", "overall"})
SHARES = frozenset({"steady", "overall", "rate_limited", "unfair"})
COLUMNS = {"steady": "steady", "overall": "with warm-up", "rate_limited": "rate_limited", "early": "early"}
WORDS = {
    "unfair": "{} apart",
    "windows_to_90": "{} windows to 90%",
    "seconds_to_90": "{} s to 90%",
    "first_answer_s": "first answer after {} s",
    "attempts_lost": "{} attempt lost",
    "took_s": "took {} s",
    "times_ideal": "{} times the ideal",
    "slots_200_s": "200 in flight after {} s",
    "slots_1000_s": "1,000 in flight after {} s",
}
MISSED = "✗"


@dataclass(frozen=True, slots=True)
class Row:
    """Runs of one scenario by mira-queue or a peer. Without targets, there is no verdict."""

    scenario: Scenario
    who: str
    runs: Sequence[Mapping[str, float]]
    targets: Mapping[str, float]

    @property
    def medians(self) -> dict[str, float]:
        return {name: statistics.median(run[name] for run in self.runs) for name in self.runs[0]}

    @property
    def missed(self) -> list[str]:
        found = self.medians
        return [name for name, target in self.targets.items() if not is_reached(name, found[name], target)]

    def cells(self) -> list[str]:
        found = self.medians
        columns = [self._cell(name, found) for name in COLUMNS]
        more = [self._cell(name, found, words) for name, words in WORDS.items() if name in found]
        return [self.scenario.title, self.who, *columns, "; ".join(more)]

    def _cell(self, name: str, found: Mapping[str, float], words: str = "{}") -> str:
        if name not in found:
            return ""
        text = words.format(written(name, found[name]))
        if name not in self.targets:
            return text
        text += f" ({written(name, self.targets[name])})"
        return f"{text} {MISSED}" if name in self.missed else text


def is_reached(name: str, value: float, target: float) -> bool:
    return value >= target if name in RISING else value <= target


def written(name: str, value: float) -> str:
    if name not in SHARES:
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return f"{100 * value:.1f}%" if name in RISING else f"{100 * value:.2f}%"


def markdown(rows: Sequence[Row]) -> str:
    """Return an aligned Markdown table."""
    lines = [["account", "who", *COLUMNS.values(), "more"], *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)
