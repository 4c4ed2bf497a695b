"""Checks of the queue's server (connection, version, persistence, memory, clock), and of what depends on it."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import redis

from mira_producer.cli.config import masked
from mira_producer.cli.doctor.finding import Finding, compared_clocks, ok, problem, reason, warning
from mira_producer.text import plural
from mira_queue.contract.errors import QueueUnavailable, QueueUnusable
from mira_queue.contract.server_url import parse_server_url
from mira_queue.contract.settings import Settings, variable
from mira_queue.ledger.connection import connect
from mira_queue.ledger.embedded import EmbeddedServerError
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.memory import KEPT_FREE
from mira_queue.ledger.server import QueueServer
from mira_queue.ledger.server_check import forbidden, permission_problem
from mira_queue.runtime.accounts_file import load_accounts
from mira_queue.runtime.celery_config import build_celery

# The scripts use ZRANGE BYSCORE and LPOP with a count, and write after they have read the time.
MIN_SERVER = (6, 2)
MAX_CLOCK_DIFFERENCE_S = 2.0
SET_ALWAYS = "set `appendfsync always` in its configuration (immediately: CONFIG SET appendfsync always)"
MIB = 2**20
BACKEND_TIMEOUT_S = 10.0
# What a crash can lose, by how often the append-only file is synced. None: the server does not show it.
SYNCED = {
    None: "the server does not show how often it is synced",
    "always": "synced before each reply",
}

Info = dict[str, Any]


def check_queue(settings: Settings) -> Iterator[Finding]:
    """Check the server and, if it responds, what depends on it."""
    server = QueueServer(settings)
    try:
        url = server.open()
    except EmbeddedServerError as error:
        fix = f"follow the message, or set {variable('redis_url')} to another server"
        yield problem("server", reason(error, settings), fix)
        return
    try:
        findings = list(check_server(settings, url))
        yield from findings
        if len(findings) > 1:
            yield from _result_backend(settings, url)
            yield from _workers(settings, url)
    finally:
        server.close()


def check_server(settings: Settings, url: str) -> Iterator[Finding]:
    """Check the server at `url`. Stop after one finding if it does not respond."""
    where = masked(url)
    with connect(url) as client:
        try:
            refused = forbidden(client, parse_server_url(url).db)
            if refused:
                yield problem("server's permissions", *permission_problem(refused, url))
            info: Info = client.info()
            fsync = _fsync(client)
            apart_s = _clock_difference_s(client)
        except QueueUnavailable as error:
            fix = f"correct {variable('redis_url')}" + ("" if isinstance(error, QueueUnusable) else ", or start it")
            yield problem("server", f"{where}: {reason(error, settings)}", fix)
            return
    # Valkey reports its own version and that of the Redis it is compatible with.
    name = "Valkey" if "valkey_version" in info else "Redis"
    found = f"{name} {info[f'{name.lower()}_version']} at {where}"
    if tuple(int(part) for part in str(info["redis_version"]).split(".")[:2]) < MIN_SERVER:
        yield problem("server", found, "install Redis 6.2 or newer, or any Valkey")
    else:
        yield ok("server", found)
    if info.get("role") in ("slave", "replica"):
        fix = f"point {variable('redis_url')} to its primary"
        yield problem("server's role", "a replica, which rejects writes", fix)
    if not refused:
        yield ok("server's permissions", "all commands, keys and channels that mira-queue uses are allowed")
    if parse_server_url(url).service:
        yield _replicas(info)
    yield _persistence(info, fsync, embedded=settings.redis_url is None)
    yield _memory(info)
    fix = "use NTP on both: the times shown are wrong"
    yield compared_clocks("clocks of server and machine", apart_s, MAX_CLOCK_DIFFERENCE_S, fix)


def _replicas(info: Info) -> Finding:
    check, count = "server's replicas", int(info.get("connected_slaves", 0))
    if count:
        return ok(check, f"{count} connected to the master that the Sentinels name")
    return warning(check, "none is connected: a failover would lose jobs", "start a replica, or wait until it is back")


def _persistence(info: Info, fsync: str | None, *, embedded: bool) -> Finding:
    check = "server keeps its data"
    if not info.get("aof_enabled"):
        fix = "set `appendonly yes` in its configuration (immediately: CONFIG SET appendonly yes)"
        return problem(check, "no append-only file: accepted jobs are lost if the server crashes", fix)
    if info.get("aof_last_write_status") == "err" or info.get("aof_last_bgrewrite_status") == "err":
        return problem(check, "its last write to the append-only file failed", "free disk space; see the server's log")
    if fsync in SYNCED:
        return ok(check, f"append-only file, {SYNCED[fsync]}")
    if embedded:
        return ok(check, "append-only file, written before each reply: only a crash of the machine can lose jobs")
    if fsync == "everysec":
        found = "append-only file, synced every second: while the disk is slow, a killed server loses accepted jobs"
    else:
        found = f"append-only file, but appendfsync is {fsync}: a crash of its machine can lose minutes"
    return warning(check, found, SET_ALWAYS)


def _memory(info: Info) -> Finding:
    check, policy = "server's memory", str(info.get("maxmemory_policy", "unknown"))
    used, limit = int(info["used_memory"]), int(info.get("maxmemory", 0))
    if policy != "noeviction":
        # Nothing is evicted without maxmemory, but jobs are lost if it is set later.
        found = "it deletes jobs when memory is full" if limit else "no maxmemory is set yet"
        return (problem if limit else warning)(
            check, f"maxmemory-policy is {policy}: {found}", "set `maxmemory-policy noeviction`"
        )
    if limit and used > (1 - KEPT_FREE) * limit:
        found = f"{used / limit:.0%} of its maxmemory is used; {KEPT_FREE:.0%} are kept free for jobs to finish"
        return warning(check, found, "raise maxmemory: no new jobs are accepted")
    of_limit = f" of {limit / MIB:,.0f} MiB" if limit else ""
    kept = f"; {KEPT_FREE:.0%} are kept free for accepted jobs to finish" if limit else ""
    return ok(check, f"noeviction, {used / MIB:,.1f} MiB{of_limit} used{kept}")


def _fsync(client: redis.Redis) -> str | None:
    """Return the setting, or None if CONFIG is forbidden, as it is for some hosted servers."""
    try:
        found: Any = client.config_get("appendfsync")
    except QueueUnavailable:
        return None
    return str(found.get("appendfsync")) if found else None


def _clock_difference_s(client: redis.Redis) -> float:
    """Return the server's clock minus ours, at the middle of the round trip."""
    before = time.time()
    seconds, micros = client.time()
    return float(int(seconds) + int(micros) / 1e6 - (before + time.time()) / 2)


def _result_backend(settings: Settings, redis_url: str) -> Iterator[Finding]:
    """Request the result of a job that does not exist, unless the result backend is the queue's server."""
    if settings.result_backend is None:
        return
    where = masked(settings.result_backend.get_secret_value())
    results: list[Exception | None] = []

    def request() -> None:
        try:
            with build_celery(settings, redis_url) as celery:
                celery.conf.result_backend_always_retry = False
                celery.backend.get_task_meta(str(uuid.uuid4()), cache=False)
                results.append(None)
        # Every backend has its own errors. All of them are results of this check.
        except Exception as error:  # noqa: BLE001
            results.append(error)

    # Some backends have no timeout. A thread can be left behind.
    thread = threading.Thread(target=request, daemon=True)
    thread.start()
    thread.join(BACKEND_TIMEOUT_S)
    error = results[0] if results else TimeoutError(f"no response within {BACKEND_TIMEOUT_S:g} s")
    if error is None:
        yield ok("result backend", where)
    else:
        fix = f"start it, or correct {variable('result_backend')}"
        yield problem("result backend", f"{where}: {reason(error, settings)}", fix)


def _workers(settings: Settings, url: str) -> Iterator[Finding]:
    start = "start one: mira-queue worker"
    account = load_accounts(settings).current
    with connect(url) as client:
        ledger = Ledger(client, result_ttl=settings.result_ttl)
        alive = ledger.live_workers()
        stats = ledger.account_stats(ledger.accounts())
    # A process that serves several accounts is listed for each.
    serving = sorted({worker.name for worker in alive if worker.account == account.id})
    if serving:
        yield ok("workers", f"{len(serving)} alive: {', '.join(serving)}")
    elif alive:
        others = ", ".join(sorted({worker.account for worker in alive}))
        found = f"none serves account {account.id} ({account.base}); those that are alive serve {others}"
        yield warning("workers", found, f"{start}, with the key of this account")
    else:
        yield warning("workers", "none is alive: jobs are accepted, but wait", start)
    for each in stats:
        if each.open_jobs and not each.pace.workers and each.pace.account != account.id:
            name = f"{each.pace.account} ({each.pace.base})"
            found = f"{plural(each.open_jobs, 'open job')} of account {name}, which no worker serves"
            fix = f"start a worker with its key, or move them: mira-queue accounts adopt {each.pace.account}"
            yield warning("other accounts", found, fix)
