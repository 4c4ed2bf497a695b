"""Durations as users write them. The units are defined here and nowhere else."""

from __future__ import annotations

from datetime import timedelta

SECONDS_PER_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def duration(number: str, unit: str) -> timedelta:
    """Return `number` of that unit. Raise OverflowError if it is more than a timedelta can hold."""
    return timedelta(seconds=float(number) * SECONDS_PER_UNIT[unit.lower()])


def in_seconds(value: timedelta) -> str:
    """Return the shortest number of seconds that reads back as the same duration: `90`, `0.5`."""
    return repr(value.total_seconds()).removesuffix(".0")
