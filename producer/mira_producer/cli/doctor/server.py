"""The queue's server: does it answer, and does it keep what it was given?"""

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

# The scripts use ZRANGE BYSCORE and LPOP with a count, and write after asking for the time.
OLDEST_SERVER = (6, 2)
CLOCKS_APART_S = 2.0
MEMORY_FULL = 0.9

Info = dict[str, Any]


def check_server(settings: Settings, url: str) -> Iterator[Finding]:
    """Everything about the server at `url`; ends after the first finding when it does not answer."""
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
    # Valkey tells its own version beside that of the Redis it is compatible with.
    if tuple(int(part) for part in str(info["redis_version"]).split(".")[:2]) < OLDEST_SERVER:
        yield problem("server", f"{name} {version} at {where}", "install Redis 6.2 or newer, or any Valkey")
    else:
        yield ok("server", f"{name} {version} at {where}")
    yield from _role(info)
    yield from _persistence(info, fsync, embedded=settings.redis_url is None)
    yield from _memory(info)
    found = f"{abs(apart_s):.1f} s apart"
    if abs(apart_s) > CLOCKS_APART_S:
        yield warning("clocks of server and machine", found, "let both take their time from NTP; times shown are off")
    else:
        yield ok("clocks of server and machine", found)


def _role(info: Info) -> Iterator[Finding]:
    if info.get("role") in ("slave", "replica"):
        fix = f"point {variable('redis_url')} to its primary"
        yield problem("server's role", "a replica, which refuses writes", fix)
    if info.get("cluster_enabled"):
        yield problem(
            "server's role",
            "a cluster: the ledger's scripts use several keys at once",
            f"point {variable('redis_url')} to a server that is none",
        )


def _persistence(info: Info, fsync: str | None, *, embedded: bool) -> Iterator[Finding]:
    check = "server keeps its data"
    if not info.get("aof_enabled"):
        found = "no append-only file: jobs that were accepted are lost when the server dies"
        yield problem(check, found, "set `appendonly yes` in its configuration (CONFIG SET appendonly yes, at once)")
        return
    if info.get("aof_last_write_status") == "err" or info.get("aof_last_bgrewrite_status") == "err":
        yield problem(check, "its last write to the append-only file failed", "free disk space; see the server's log")
        return
    match fsync:
        case None:
            yield ok(check, "append-only file (how often it reaches the disk, the server does not tell)")
        case "always":
            yield ok(check, "append-only file, on the disk before each reply")
        case "everysec":
            yield ok(check, "append-only file, on the disk every second: a crash of its machine can lose that second")
        case _ if embedded:
            yield ok(check, "append-only file, with the kernel before each reply: only a power failure can lose any")
        case _:
            fix = "set `appendfsync everysec`, or `always`"
            yield warning(check, f"append-only file, but appendfsync is {fsync}: a power failure can lose minutes", fix)


def _memory(info: Info) -> Iterator[Finding]:
    policy = str(info.get("maxmemory_policy", "unknown"))
    used, most = int(info["used_memory"]), int(info.get("maxmemory", 0))
    if policy != "noeviction":
        # Without a limit nothing is ever evicted; whoever sets one later loses jobs.
        found = f"maxmemory-policy is {policy}: " + (
            "it drops jobs when memory is full" if most else "no limit is set yet"
        )
        make = problem if most else warning
        yield make("server's memory", found, "set `maxmemory-policy noeviction`")
    elif most and used > MEMORY_FULL * most:
        found = f"{used / most:.0%} of its maxmemory is used"
        yield warning("server's memory", found, "raise maxmemory: when it is full, no job is accepted")
    else:
        limit = f" of {most / 2**20:,.0f} MiB" if most else ""
        yield ok("server's memory", f"noeviction, {used / 2**20:,.1f} MiB{limit} used")


def _fsync(client: redis.Redis) -> str | None:
    """None where CONFIG is forbidden, as with hosted servers."""
    try:
        answer: Any = client.config_get("appendfsync")
    except redis.ResponseError:
        return None
    return str(answer.get("appendfsync")) if answer else None


def _clock_difference_s(client: redis.Redis) -> float:
    """The server's clock less ours, the way there and back halved."""
    before = time.time()
    seconds, micros = client.time()
    return float(int(seconds) + int(micros) / 1e6 - (before + time.time()) / 2)
