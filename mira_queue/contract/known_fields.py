"""Fields of a stored record that this version knows.

Records of a newer version may have more. They are not rejected, and a record that is written again keeps them: a class
whose records are written again has a field `unknown` for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

Record = TypeVar("Record")
UNKNOWN = "unknown"


def known_fields(record: type[Record], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields in `found` that this version of the dataclass has."""
    return {name: value for name, value in found.items() if name in record.__dataclass_fields__}  # type: ignore[attr-defined]


def unknown_fields(record: type[Record], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the other fields, for a record that is written again."""
    return {name: value for name, value in found.items() if name not in record.__dataclass_fields__}  # type: ignore[attr-defined]


def all_fields(record: type[Record], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the known fields, with the others in the field `unknown`."""
    return {**known_fields(record, found), UNKNOWN: unknown_fields(record, found)}


def stored_fields(record: Any) -> dict[str, Any]:
    """Return the fields of a record and of its parts as they are stored, with those that this version does not know."""
    own = {each.name: getattr(record, each.name) for each in fields(record) if each.name != UNKNOWN}
    parts = {name: stored_fields(value) if is_dataclass(value) else value for name, value in own.items()}
    return {**getattr(record, UNKNOWN, {}), **parts}
