"""Match lines of an output or error file with the lines of an input: by custom_id, and by the digest of the request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mira_producer.jsonl.line_index import LineIndex
from mira_producer.jsonl.result_line import digest_of
from mira_queue.contract.problem import Problem


@dataclass(frozen=True, slots=True)
class Match:
    """A line of an output or error file, and the number of its input line.

    `digest` identifies the request that it is for; empty if an earlier version or another tool wrote it. `is_changed`
    is True if the input line has another request now.
    """

    entry: Mapping[str, Any]
    place: int
    number: int
    digest: str
    is_changed: bool


def matched(path: Path, lines: Iterable[tuple[int, bytes]], index: LineIndex) -> Iterator[Match | Problem]:
    """Yield every line of an output or error file, after marking its input line as answered, or what is wrong."""
    for place, content in lines:
        try:
            entry = orjson.loads(content)
            custom_id = str(entry["custom_id"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            yield Problem(str(path), place, None, "invalid", "not a line of an output or error file")
            continue
        found = index.find(custom_id)
        if found is not None and index.mark_answered(found[0]):
            digest = digest_of(entry)
            yield Match(entry, place, found[0], digest, is_changed=bool(digest) and digest != found[1])
        else:
            code, reason = ("unknown", "is not in the input") if found is None else ("duplicated", "is answered twice")
            yield Problem(str(path), place, "custom_id", code, f"{custom_id[:80]!r} {reason}")
