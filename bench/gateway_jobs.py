"""Single jobs through the gateway, compared with the Python client on the same queue: `python -m bench.gateway_jobs`.

- The time that `POST /v1/chat/completions` adds to a job: calls of both kinds alternate.
- Jobs per second: all are submitted, then their outcomes are read, by tasks (HTTP) or threads (Python client).
- Memory of the gateway per open wait.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from typing import Any

import aiohttp
import orjson

from bench.bulk import machine
from bench.bulk.stage import KEY
from bench.bulk.table import Table, Target, progress, ratio
from mira_queue import MiraQueue
from tests.support.gateway_process import Gateway, started_gateway
from tests.support.queue_process import QUICK
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]
CLIENTS = 16
TIMEOUT_S = 120.0
POLL_S = 0.02
HOUR = timedelta(hours=1)
ADDED, ADDED_99 = Target(5, " ms", at_most=True), Target(15, " ms", at_most=True)
HALF = Target(0.5, "x")
MEMORY = Target(150, " MiB", at_most=True)
# Without the settings of tests.
_AS_A_USER: dict[str, Any] = {**dict.fromkeys(QUICK), "api_key": KEY, "log_level": "warning"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gateway_jobs", description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=400, help="calls of each kind for the added time (default: 400)")
    parser.add_argument("--jobs", type=int, default=2000, help="jobs of each kind per run (default: 2,000)")
    parser.add_argument("--runs", type=int, default=3, help="the tables show medians (default: 3)")
    parser.add_argument("--waits", type=int, default=1000, help="open waits for the memory (default: 1,000)")
    chosen = parser.parse_args()
    with (
        SimulatorProcess.start("--no-request-counts") as api,
        started_gateway(api_base=api.url, **_AS_A_USER) as gateway,
        MiraQueue(gateway.settings) as queue,
    ):
        # The first calls of a new account are slow.
        _in_python(queue, chosen.jobs)
        tables = [
            _added_time(gateway, queue, chosen.calls),
            _jobs_per_second(gateway, queue, chosen.jobs, chosen.runs),
            _memory(gateway, queue, chosen.waits),
        ]
    print("\n\n".join(table.printed() for table in tables))
    return int(any(table.is_missed for table in tables))


def _added_time(gateway: Gateway, queue: MiraQueue, calls: int) -> Table:
    found: dict[str, list[float]] = {"Python client": [], "gateway": []}
    body = orjson.dumps({"model": "mira", "messages": MESSAGES})
    with closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=TIMEOUT_S)) as connection:

        def post() -> None:
            connection.request("POST", "/v1/chat/completions", body, _headers(gateway))
            response = connection.getresponse()
            assert response.status == 200, response.read()
            assert orjson.loads(response.read())["choices"]

        kinds: dict[str, Callable[[], object]] = {
            "Python client": lambda: queue.enqueue(MESSAGES, model="mira").result(TIMEOUT_S),
            "gateway": post,
        }
        for _ in range(calls):
            for name, call in kinds.items():
                began_s = time.perf_counter()
                call()
                found[name].append((time.perf_counter() - began_s) * 1000)
    table = Table(f"one job after the other, {calls:,} of each kind", ("median ms", "99 % ms"))
    medians = {name: statistics.median(times) for name, times in found.items()}
    slowest = {name: statistics.quantiles(times, n=100)[98] for name, times in found.items()}
    for name in found:
        differences = medians[name] - medians["Python client"], slowest[name] - slowest["Python client"]
        targets = list(zip((ADDED, ADDED_99), differences, strict=True)) if name == "gateway" else []
        table.add(name, f"{medians[name]:.1f}", f"{slowest[name]:.1f}", targets=targets)
    progress(f"added time: {medians['gateway'] - medians['Python client']:.1f} ms")
    return table


def _jobs_per_second(gateway: Gateway, queue: MiraQueue, jobs: int, runs: int) -> Table:
    found: dict[str, list[float]] = {"Python client": [], "responses": []}
    for _ in range(runs):
        found["Python client"].append(jobs / _in_python(queue, jobs))
        found["responses"].append(jobs / asyncio.run(_over_http(gateway, jobs)))
        progress(str({name: round(rates[-1]) for name, rates in found.items()}))
    table = Table(f"{jobs:,} jobs, {CLIENTS} clients, median of {runs}", ("jobs/s", "of the Python client"))
    rates = {name: statistics.median(each) for name, each in found.items()}
    for name, rate in rates.items():
        share = rate / rates["Python client"]
        table.add(name, f"{rate:,.0f}", ratio(share), targets=[(HALF, share)] if name == "responses" else [])
    return table


def _in_python(queue: MiraQueue, jobs: int) -> float:
    """Return the seconds for all jobs, from the first enqueue to the last result."""
    began_s = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        handles = list(pool.map(lambda _: queue.enqueue(MESSAGES, model="mira"), range(jobs)))
        list(pool.map(lambda job: job.result(TIMEOUT_S), handles))
    return time.perf_counter() - began_s


async def _over_http(gateway: Gateway, jobs: int) -> float:
    """Return the seconds for all jobs, from the first create to the last retrieve that has its answer."""
    body = orjson.dumps({"model": "mira", "input": "Hello", "background": True})
    places = asyncio.Semaphore(CLIENTS)
    url = f"{gateway.url}/responses"
    async with aiohttp.ClientSession(headers=_headers(gateway)) as session:

        async def create() -> str:
            async with places, session.post(url, data=body) as response:
                return str((await response.json())["id"])

        async def retrieve(response_id: str) -> None:
            while True:
                async with places, session.get(f"{url}/{response_id}") as response:
                    if (await response.json())["status"] == "completed":
                        return
                await asyncio.sleep(POLL_S)

        began_s = time.perf_counter()
        ids = await asyncio.gather(*(create() for _ in range(jobs)))
        await asyncio.gather(*map(retrieve, ids))
        return time.perf_counter() - began_s


def _memory(gateway: Gateway, queue: MiraQueue, waits: int) -> Table:
    """Return the memory of the gateway while clients wait for jobs that do not start."""
    body = orjson.dumps({"model": "mira", "messages": MESSAGES, "service_tier": "flex"})
    account = queue.accounts.current.id
    queue.ledger.open_breaker(account, HOUR, message="a benchmark")

    async def hold() -> float:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(headers=_headers(gateway), connector=connector) as session:
            url = f"{gateway.url}/chat/completions"
            calls = [asyncio.ensure_future(session.post(url, data=body)) for _ in range(waits)]
            await asyncio.to_thread(wait_until, "all wait", lambda: queue.ledger.count_open("default") >= waits)
            found = machine.peak_mib(gateway.process.pid)
            for call in calls:
                call.cancel()
            return found

    peak = asyncio.run(hold())
    wait_until("all are cancelled", lambda: not queue.ledger.count_open("default"))
    queue.ledger.probe_now(account)
    table = Table(f"{waits:,} open waits", ("peak MiB",))
    table.add("gateway", f"{peak:,.0f}", targets=[(MEMORY, peak)])
    return table


def _headers(gateway: Gateway) -> dict[str, str]:
    return {"Authorization": f"Bearer {gateway.key}", "Content-Type": "application/json"}


if __name__ == "__main__":
    sys.exit(main())
