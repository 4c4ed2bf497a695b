"""Numbers as people read them."""

from __future__ import annotations


def plural(number: int, noun: str) -> str:
    """1 line, 2,000 lines."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def tokens_text(prompt: int, completion: int, uncounted: int) -> str:
    """What answers used; `uncounted` of them say nothing of it, as streamed ones do."""
    left_out = f", without those of {plural(uncounted, 'answer')}" if uncounted else ""
    return f"{prompt:,} tokens in, {completion:,} out{left_out}"


def size(count: int) -> str:
    """Of bytes: 512 bytes, 3.4 MB."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return plural(count, "byte") if unit == "bytes" else f"{amount:,.1f} {unit}"


def per_time(per_second: float) -> str:
    """24.1/s, 12.3/min, 20/h: never a row of zeros."""
    if per_second >= 99.5:
        return f"{per_second:,.0f}/s"
    for rate, unit in ((per_second, "s"), (per_second * 60, "min")):
        if rate >= 0.95:
            return f"{rate:.1f}/{unit}"
    return f"{per_second * 3600:.1f}/h"
