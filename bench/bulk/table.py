"""Tables of figures and their targets."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.bulk import machine


@dataclass(frozen=True, slots=True)
class Target:
    """Value that a figure must reach: at least (or, with `at_most`, at most) `wanted`."""

    wanted: float
    unit: str = ""
    at_most: bool = False

    def verdict(self, found: float) -> str:
        reached = found <= self.wanted if self.at_most else found >= self.wanted
        sign = "<=" if self.at_most else ">="
        text = f"{found:,.0f}" if found >= 100 else f"{found:.2f}"
        return f"{text}{self.unit} {sign} {self.wanted:,g}{self.unit}: {'pass' if reached else 'MISSED'}"


@dataclass(slots=True)
class Table:
    """One table. Each row ends with the verdict of its targets, if it has any."""

    title: str
    columns: Sequence[str]
    notes: list[str] = field(default_factory=list)
    _rows: list[list[str]] = field(default_factory=list)

    def add(self, name: str, *cells: str | int, targets: Sequence[tuple[Target, float]] = ()) -> None:
        verdicts = "; ".join(target.verdict(found) for target, found in targets)
        self._rows.append([name, *(each if isinstance(each, str) else f"{each:,}" for each in cells), verdicts])

    @property
    def is_missed(self) -> bool:
        return any("MISSED" in row[-1] for row in self._rows)

    def printed(self) -> str:
        rows = [["", *self.columns, "target"], *self._rows]
        widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
        lines = [self.title, f"({machine.described()}; load average now {machine.load():.1f})"]
        for row in rows:
            cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:-1], widths[1:-1], strict=True))]
            lines.append("  ".join([*cells, row[-1]]).rstrip())
        return "\n".join([*lines, *self.notes])


def ratio(number: float) -> str:
    return f"{number:.2f}x"


def progress(text: str) -> None:
    """Report a finished run on standard error."""
    print(f"  {text} (load {machine.load():.1f})", file=sys.stderr, flush=True)
