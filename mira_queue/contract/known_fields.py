"""Fields of a stored record that this version knows: records of a newer version may have more, and are not rejected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

Record = TypeVar("Record")


def known_fields(record: type[Record], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields in `found` that this version of the dataclass has."""
    return {name: value for name, value in found.items() if name in record.__dataclass_fields__}  # type: ignore[attr-defined]


def unknown_fields(record: type[Record], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the other fields, for a record that is written again."""
    return {name: value for name, value in found.items() if name not in record.__dataclass_fields__}  # type: ignore[attr-defined]
