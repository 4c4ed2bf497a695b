"""Numbers and lines as people read them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence


def plural(number: int, noun: str) -> str:
    """Return 1 line, or 2,000 lines."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a duration such as 8 s, 2 min 5 s, 3 h 20 min, or 2 d 4 h."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    if whole < 3600:
        units, (large, small) = ("min", "s"), divmod(whole, 60)
    elif minutes < 24 * 60:
        units, (large, small) = ("h", "min"), divmod(minutes, 60)
    else:
        units, (large, small) = ("d", "h"), divmod(round(minutes / 60), 24)
    return f"{large} {units[0]}" + (f" {small} {units[1]}" if small else "")


def milliseconds(value: float) -> str:
    """Return a latency such as 5 ms, 120 ms, 1.5 s, or 2 min 5 s."""
    if value < 999.5:
        return f"{value:.0f} ms"
    return f"{value / 1000:.3g} s" if value < 59_950 else duration(value / 1000)


def per_time(per_second: float) -> str:
    """Return a rate such as 24.1/s, 12.3/min, or 20.0/h, so that a slow rate is not rounded to zero."""
    if not per_second:
        return "0/s"
    if per_second >= 99.5:
        return f"{per_second:,.0f}/s"
    for rate, unit in ((per_second, "s"), (per_second * 60, "min")):
        if rate >= 0.95:
            return f"{rate:.1f}/{unit}"
    return f"{per_second * 3600:.1f}/h"


def flow(parts: Sequence[str], width: int, between: str = ", ") -> str:
    """Return lines of whole parts; only a part that is wider than a line is broken."""
    joined = between.join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts if part)
    return "\n".join(textwrap.wrap(joined, width, break_on_hyphens=False)).replace("\N{NO-BREAK SPACE}", " ")
