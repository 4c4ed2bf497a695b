"""Numbers as people read them."""

from __future__ import annotations


def plural(number: int, noun: str) -> str:
    """1 line, 2,000 lines."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(count: int) -> str:
    """Of bytes: 512 bytes, 3.4 MB."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return plural(count, "byte") if unit == "bytes" else f"{amount:,.1f} {unit}"
