"""Checks of the queue's server: connection, version, persistence, memory, clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import redis

from mira_producer.cli.config import masked
from mira_producer.cli.doctor.finding import Finding, ok, problem, reason, warning
from mira_queue.contract.errors import QueueUnavailable
from mira_queue.contract.settings import Settings, variable
from mira_queue.ledger.connection import connect, translated_errors
from mira_queue.ledger.memory import KEPT_FREE

# The scripts use ZRANGE BYSCORE and LPOP with a count, and write after they have read the time.
MIN_SERVER = (6, 2)
MAX_CLOCK_DIFFERENCE_S = 2.0
SET_ALWAYS = "set `appendfsync always` in its configuration (immediately: CONFIG SET appendfsync always)"

Info = dict[str, Any]


def check_server(settings: Settings, url: str) -> Iterator[Finding]:
    """Check the server at `url`. Stop after one finding if it does not respond."""
    where = masked(url)
    with connect(url) as client:
        try:
            with translated_errors():
                info: Info = client.info()
                fsync = _fsync(client)
                apart_s = _clock_difference_s(client)
        except QueueUnavailable as error:
            yield problem(
                "server", f"{where}: {reason(error, settings)}", f"start it, or correct {variable('redis_url')}"
            )
            return
    name, version = ("Valkey", info["valkey_version"]) if "valkey_version" in info else ("Redis", info["redis_version"])
    # Valkey reports its own version and that of the Redis it is compatible with.
    if tuple(int(part) for part in str(info["redis_version"]).split(".")[:2]) < MIN_SERVER:
        yield problem("server", f"{name} {version} at {where}", "install Redis 6.2 or newer, or any Valkey")
    else:
        yield ok("server", f"{name} {version} at {where}")
    yield from _role(info)
    yield from _persistence(info, fsync, embedded=settings.redis_url is None)
    yield from _memory(info)
    found = f"{abs(apart_s):.1f} s apart"
    if abs(apart_s) > MAX_CLOCK_DIFFERENCE_S:
        yield warning("clocks of server and machine", found, "use NTP on both: the times shown are wrong")
    else:
        yield ok("clocks of server and machine", found)


def _role(info: Info) -> Iterator[Finding]:
    if info.get("role") in ("slave", "replica"):
        fix = f"point {variable('redis_url')} to its primary"
        yield problem("server's role", "a replica, which rejects writes", fix)
    if info.get("cluster_enabled"):
        yield problem(
            "server's role",
            "a cluster, but the scripts of the ledger use several keys",
            f"point {variable('redis_url')} to a server without cluster mode",
        )


def _persistence(info: Info, fsync: str | None, *, embedded: bool) -> Iterator[Finding]:
    check = "server keeps its data"
    if not info.get("aof_enabled"):
        found = "no append-only file: accepted jobs are lost if the server crashes"
        yield problem(
            check, found, "set `appendonly yes` in its configuration (immediately: CONFIG SET appendonly yes)"
        )
        return
    if info.get("aof_last_write_status") == "err" or info.get("aof_last_bgrewrite_status") == "err":
        yield problem(check, "its last write to the append-only file failed", "free disk space; see the server's log")
        return
    match fsync:
        case None:
            yield ok(check, "append-only file (the server does not show how often it is synced)")
        case "always":
            yield ok(check, "append-only file, synced before each reply")
        case "everysec":
            found = "append-only file, synced every second: while the disk is slow, a killed server loses accepted jobs"
            yield warning(check, found, f"{SET_ALWAYS} (slower with one client)")
        case _ if embedded:
            yield ok(check, "append-only file, written before each reply: only a crash of the machine can lose jobs")
        case _:
            found = f"append-only file, but appendfsync is {fsync}: a crash of its machine can lose minutes"
            yield warning(check, found, SET_ALWAYS)


def _memory(info: Info) -> Iterator[Finding]:
    policy = str(info.get("maxmemory_policy", "unknown"))
    used, limit = int(info["used_memory"]), int(info.get("maxmemory", 0))
    if policy != "noeviction":
        # Nothing is evicted without maxmemory, but jobs are lost if it is set later.
        found = f"maxmemory-policy is {policy}: " + (
            "it deletes jobs when memory is full" if limit else "no maxmemory is set yet"
        )
        yield (problem if limit else warning)("server's memory", found, "set `maxmemory-policy noeviction`")
    elif limit and used > (1 - KEPT_FREE) * limit:
        found = f"{used / limit:.0%} of its maxmemory is used; {KEPT_FREE:.0%} are kept free for jobs to finish"
        yield warning("server's memory", found, "raise maxmemory: no new jobs are accepted")
    else:
        of_limit = f" of {limit / 2**20:,.0f} MiB" if limit else ""
        kept = f"; {KEPT_FREE:.0%} are kept free for accepted jobs to finish" if limit else ""
        yield ok("server's memory", f"noeviction, {used / 2**20:,.1f} MiB{of_limit} used{kept}")


def _fsync(client: redis.Redis) -> str | None:
    """Return the setting, or None if CONFIG is forbidden, as it is for some hosted servers."""
    try:
        found: Any = client.config_get("appendfsync")
    except redis.ResponseError:
        return None
    return str(found.get("appendfsync")) if found else None


def _clock_difference_s(client: redis.Redis) -> float:
    """Return the server's clock minus ours, at the middle of the round trip."""
    before = time.time()
    seconds, micros = client.time()
    return float(int(seconds) + int(micros) / 1e6 - (before + time.time()) / 2)
