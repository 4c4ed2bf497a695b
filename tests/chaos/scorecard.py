"""The scorecard: what was counted, what of it is a loss, as a table for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Measure:
    """One line. `most`: above it, the run has failed; None: only told."""

    name: str
    value: int
    most: int | None = None

    @property
    def is_bad(self) -> bool:
        return self.most is not None and self.value > self.most


@dataclass(frozen=True, slots=True)
class Score:
    """One run's lines, and examples of what went wrong."""

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
    """Side by side: the lines of the first, and what the others have of the same name."""
    drawn = Table(title="chaos scorecard", title_justify="left")
    drawn.add_column("count")
    for score in scores:
        drawn.add_column(score.system, justify="right")
    drawn.add_column("allowed", justify="right")
    for row in scores[0].measures:
        cells = [next((m for m in score.measures if m.name == row.name), None) for score in scores]
        drawn.add_row(row.name, *map(_cell, cells), "" if row.most is None else f"{row.most:,}")
    return drawn


def _cell(measure: Measure | None) -> Text:
    if measure is None:
        return Text("-")
    return Text(
        f"{measure.value:,}", style="bold red" if measure.is_bad else "green" if measure.most is not None else ""
    )
