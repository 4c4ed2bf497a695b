"""Load and run the ledger's scripts: one Lua file for each atomic operation, named by folder and file (`jobs/accept`).

A script whose header says "Uses  clock, read" is loaded with `lib/clock.lua` and `lib/read.lua` in front of it. A
library can use others. Every script is loaded with the constants below. All but `jobs/accept` also run
when the server's memory is full.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import redis
from redis.sentinel import SentinelConnectionPool

from mira_queue.contract import names
from mira_queue.ledger.connection import queue_error
from mira_queue.ledger.shared_pipeline import Command, SharedPipeline
from mira_queue.runtime.full_memory import FIRST_WRITE

# A replica confirms within milliseconds. Longer than this, a web request must not wait for one that is down.
MAX_REPLICA_WAIT = timedelta(seconds=1)

_USES = re.compile(r"^-- Uses +(.+)$", re.MULTILINE)


def in_ms(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)


def decode(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# What scripts and Python have to agree on.
CONSTANTS_MS = {
    "ACCOUNT_TTL_MS": names.ACCOUNT_TTL,
    "ACTIVITY_HOURS_MS": names.ACTIVITY_HOURS,
    "ACTIVITY_MINUTES_MS": names.ACTIVITY_MINUTES,
    "CALL_HISTORY_MS": names.CALL_HISTORY,
    "CLOCK_TTL_MS": names.CLOCK_TTL,
    "FAULTS_TTL_MS": names.FAULTS_TTL,
    "GATEWAY_LEASE_MS": names.GATEWAY_LEASE,
    "HOLD_TTL_MS": names.HOLD_TTL,
    "HTTP_REQUEST_TTL_MS": names.HTTP_REQUEST_TTL,
    "KEY_MARGIN_MS": names.KEY_MARGIN,
    "MAX_STEP_MS": names.MAX_CLOCK_STEP,
    "MAX_SLEEP_MS": names.MAX_SLEEP,
    "RETRY_WITHIN_MS": names.RETRY_WITHIN,
    "TURN_MS": names.TURN,
    "USAGE_TTL_MS": names.USAGE_TTL,
}
CONSTANTS = {
    "FIRST_LEASES": names.FIRST_LEASES,
    "MAX_ACTIVITY": names.MAX_ACTIVITY,
    "MAX_CHUNKS": names.MAX_CHUNKS,
    "MAX_LEASES": names.MAX_LEASES,
    "MAX_LIMIT_CHANGES": names.MAX_LIMIT_CHANGES,
    "MAX_LISTED": names.MAX_LISTED,
    "MAX_RECENT_DELIVERIES": names.MAX_RECENT_DELIVERIES,
}

# A full server rejects this script, and runs the others: accepted jobs finish.
_ADDS_WORK = "jobs/accept"


@cache
def scripts() -> dict[str, str]:
    """Return the text of every script, with its libraries, by its name."""
    root = files("mira_queue.ledger") / "scripts"
    values = {**{name: in_ms(value) for name, value in CONSTANTS_MS.items()}, **CONSTANTS}
    constants = "".join(f"local {name} = {value}\n" for name, value in values.items())
    loaded = {}
    for folder in ("jobs", "pace", "batches", "clock", "api_keys", "http_requests", "webhooks"):
        for file in (root / folder).iterdir():
            text = file.read_text(encoding="utf-8")
            libraries = _libraries(root / "lib", text).values()
            name = f"{folder}/{file.name.removesuffix('.lua')}"
            first = "" if name == _ADDS_WORK else FIRST_WRITE
            loaded[name] = "".join([constants, first, *libraries, text])
    return loaded


def _libraries(folder: Traversable, text: str) -> dict[str, str]:
    """Return the libraries that a text uses, by name, each after those that it uses itself."""
    found: dict[str, str] = {}
    uses = _USES.search(text)
    for name in uses[1].split(", ") if uses else []:
        library = (folder / f"{name}.lua").read_text(encoding="utf-8")
        found |= {**_libraries(folder, library), name: library}
    return found


@cache
def uses_clock(name: str) -> bool:
    """Return True if a script reads the ledger's clock, whose key then comes last."""
    return "local CLOCK, " in scripts()[name]


@cache
def script_hash(name: str) -> str:
    """Return the hash under which Redis knows a script."""
    return hashlib.sha1(scripts()[name].encode(), usedforsecurity=False).hexdigest()


def ledger_ms(server_time: tuple[int, int], offset_ms: bytes | None) -> int:
    """Return the ledger's time, from the server's TIME and the offset of the ledger's clock."""
    seconds, micros = server_time
    return int(seconds) * 1000 + int(micros) // 1000 + int(offset_ms or 0)


def _command(script: str, keys: Sequence[str], args: Sequence[Any], *, watches_clock: bool) -> tuple[Any, ...]:
    if uses_clock(script):
        keys, args = [*keys, names.CLOCK], [*args, int(watches_clock)]
    return ("EVALSHA", script_hash(script), len(keys), *keys, *args)


class ScriptRunner:
    """Base class of the ledger's parts. See Ledger for the parameters."""

    def __init__(self, client: redis.Redis, *, result_ttl: timedelta, keeps_results: bool = True) -> None:
        self._client = client
        self._result_ttl_ms = in_ms(result_ttl)
        self.keeps_results = keeps_results
        # Set by a process that checks the clock often: a large step that it finds was no time in which nothing ran.
        self.watches_clock = False
        self._pipeline = SharedPipeline(client, scripts().values())
        self._has_replicas = isinstance(client.connection_pool, SentinelConnectionPool)

    def _now_ms(self) -> int:
        pipeline: Any = self._client.pipeline(transaction=False)
        return ledger_ms(*pipeline.time().hget(names.CLOCK, "offset_ms").execute())

    def _run(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return self._run_in_order([(script, keys, args)])[0]

    def _run_many(self, script: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        return self._run_in_order([(script, keys, args) for keys, args in calls])

    def _run_replicated(self, script: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Do the same as `_run_many`. With Sentinels, a replica has the writes, too, when this returns.

        If no replica confirms in time, the master alone has them: a failover has to remain possible without a second
        replica. A server with min-replicas-to-write rejects the writes instead.
        """
        wait = [("WAIT", 1, in_ms(MAX_REPLICA_WAIT))] if self._has_replicas and calls else []
        return self._run_in_order([(script, keys, args) for keys, args in calls], wait)[: len(calls)]

    def _run_in_order(
        self, calls: Sequence[tuple[str, Sequence[str], Sequence[Any]]], then: Sequence[Command] = ()
    ) -> list[Any]:
        """Run several scripts in one round trip, which other threads' scripts may share."""
        if not calls:
            return []
        answers = self._pipeline.run([*(_command(*call, watches_clock=self.watches_clock) for call in calls), *then])
        for answer in answers:
            if isinstance(answer, redis.ResponseError):
                raise queue_error(answer)
        return answers
