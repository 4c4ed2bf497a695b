"""How every part of the ledger runs its scripts: one for each atomic verb, of the same name, in `scripts/`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from importlib.resources import files
from typing import Any

import redis
from redis.commands.core import Script
from redis.exceptions import NoScriptError

from mira_queue.contract import names
from mira_queue.ledger.connection import translated_errors

VERBS = (
    "accept", "claim", "begin", "extend", "settle", "finish", "defer", "give_back", "hand_back",
    "rescue", "resend", "cancel", "retry", "forget", "withdraw",
    "land", "refuse", "fault", "close", "gone", "believe", "keep_flying",
)  # fmt: skip


class LedgerPart:
    """What the parts share; see Ledger for the parameters."""

    def __init__(self, client: redis.Redis, *, result_ttl: timedelta, keeps_results: bool = True) -> None:
        self._client = client
        self._life_ms = int(result_ttl.total_seconds() * 1000)
        self.keeps_results = keeps_results
        folder = files("mira_queue.ledger") / "scripts"
        self._scripts: dict[str, Script] = {
            verb: client.register_script((folder / f"{verb}.lua").read_text(encoding="utf-8")) for verb in VERBS
        }

    def _field(self, job_id: str, field: str) -> str:
        with translated_errors():
            value: Any = self._client.hget(names.job_key(job_id), field)
        return text(value) if value is not None else ""

    def _now_ms(self) -> int:
        seconds, micros = self._client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def _run(self, verb: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        with translated_errors():
            try:
                return self._evaluate(verb, keys, args)
            except NoScriptError:
                # The server is a new one, or was started anew. Every verb may be repeated.
                self._client.script_load(self._scripts[verb].script)
                return self._evaluate(verb, keys, args)

    def _evaluate(self, verb: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        # The client's own Script costs half as much again as the command it sends.
        return self._client.execute_command("EVALSHA", self._scripts[verb].sha, len(keys), *keys, *args)  # type: ignore[no-untyped-call]

    def _run_many(self, verb: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        return self._run_in_order([(verb, keys, args) for keys, args in calls])

    def _run_in_order(self, calls: Sequence[tuple[str, Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Several verbs in one round trip."""
        if not calls:
            return []
        with translated_errors():
            try:
                return self._pipelined(calls)
            except NoScriptError:
                # The server is a new one, or was started anew. Every verb may be repeated.
                for verb in {verb for verb, _, _ in calls}:
                    self._client.script_load(self._scripts[verb].script)
                return self._pipelined(calls)

    def _pipelined(self, calls: Sequence[tuple[str, Sequence[str], Sequence[Any]]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for verb, keys, args in calls:
            # The client's own way asks for every pipeline whether the server knows the scripts: a round trip each.
            pipeline.evalsha(self._scripts[verb].sha, len(keys), *keys, *args)
        return pipeline.execute()


def in_ms(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
