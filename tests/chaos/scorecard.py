"""Scorecard: the counts and their maximums, as a table and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Measure:
    """One count. The run fails if it is above `allowed`. None means that it is only reported."""

    name: str
    value: int
    allowed: int | None = None

    @property
    def is_bad(self) -> bool:
        return self.allowed is not None and self.value > self.allowed


@dataclass(frozen=True, slots=True)
class Score:
    """Measures of one run, and examples of errors."""

    system: str
    measures: tuple[Measure, ...]
    remarks: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        return not any(measure.is_bad for measure in self.measures)

    def plus(self, measure: Measure) -> Score:
        return replace(self, measures=(*self.measures, measure))

    def value(self, name: str) -> int:
        return next(measure.value for measure in self.measures if measure.name == name)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "clean": self.is_clean}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Score:
        measures = tuple(Measure(**measure) for measure in content["measures"])
        return cls(content["system"], measures, tuple(content["remarks"]))


def table(scores: list[Score]) -> Table:
    """Show the measures of the first score next to those of the other scores with the same name."""
    drawn = Table(title="chaos scorecard", title_justify="left")
    drawn.add_column("count")
    for score in scores:
        drawn.add_column(score.system, justify="right")
    drawn.add_column("allowed", justify="right")
    for row in scores[0].measures:
        cells = [next((m for m in score.measures if m.name == row.name), None) for score in scores]
        drawn.add_row(row.name, *map(_cell, cells), "" if row.allowed is None else f"{row.allowed:,}")
    return drawn


def _cell(measure: Measure | None) -> Text:
    if measure is None:
        return Text("-")
    return Text(
        f"{measure.value:,}", style="bold red" if measure.is_bad else "green" if measure.allowed is not None else ""
    )
