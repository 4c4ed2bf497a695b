"""How every part of the ledger runs its scripts: one for each atomic verb, of the same name, in `scripts/`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from importlib.resources import files
from typing import Any

import redis

from mira_queue.contract import names
from mira_queue.ledger.connection import translated_errors
from mira_queue.ledger.shared_pipeline import SharedTrips

VERBS = (
    "accept", "claim", "begin", "extend", "settle", "finish", "defer", "give_back", "hand_back",
    "rescue", "resend", "cancel", "retry", "forget", "withdraw",
    "land", "refuse", "fault", "close", "gone", "believe", "keep_flying", "ack_command",
)  # fmt: skip


class LedgerPart:
    """What the parts share; see Ledger for the parameters."""

    def __init__(self, client: redis.Redis, *, result_ttl: timedelta, keeps_results: bool = True) -> None:
        self._client = client
        self._life_ms = int(result_ttl.total_seconds() * 1000)
        self.keeps_results = keeps_results
        folder = files("mira_queue.ledger") / "scripts"
        scripts = {verb: (folder / f"{verb}.lua").read_text(encoding="utf-8") for verb in VERBS}
        # As Redis names them.
        self._hashes = {
            verb: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for verb, text in scripts.items()
        }
        self._trips = SharedTrips(client, {self._hashes[verb]: text for verb, text in scripts.items()})

    def _field(self, job_id: str, field: str) -> str:
        with translated_errors():
            value: Any = self._client.hget(names.job_key(job_id), field)
        return text(value) if value is not None else ""

    def _now_ms(self) -> int:
        seconds, micros = self._client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def _run(self, verb: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return self._run_in_order([(verb, keys, args)])[0]

    def _run_many(self, verb: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        return self._run_in_order([(verb, keys, args) for keys, args in calls])

    def _run_in_order(self, calls: Sequence[tuple[str, Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Several verbs in one round trip, which verbs of other threads may share."""
        if not calls:
            return []
        with translated_errors():
            answers = self._trips.run(
                [("EVALSHA", self._hashes[verb], len(keys), *keys, *args) for verb, keys, args in calls]
            )
            for answer in answers:
                if isinstance(answer, redis.ResponseError):
                    raise answer
        return answers


def in_ms(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
