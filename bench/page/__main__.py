"""The web page on a large queue: `python -m bench.page`.

- The response time of each view, with 1,000,000 open lines and 10,000 jobs that ended.
- The processor time of the server that an open page of each view adds, while its stream is read.
- Ten pages that stay open: memory and open files of the gateway, and connections of the server. `--open 3600` takes the
  hour of the target.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import redis

from bench.bulk import machine
from bench.bulk.stage import KEY
from bench.bulk.table import Table, Target, progress
from bench.page.filled_ledger import fill
from bench.page.open_pages import Held, call_together, open_pages, server_cpu_s
from mira_queue import MiraQueue
from mira_queue.ledger.connection import connect
from tests.support.gateway_process import Gateway, started_gateway
from tests.support.page_browser import Browser, signed_in
from tests.support.queue_process import QUICK
from tests.support.simulator_process import SimulatorProcess

PAGES = 10
REOPENED = 20
WARM_UP_S = 10.0
# Those of anyio, in which the gateway calls the ledger.
THREADS = 40
CHANGE_EVERY_S = 1.0
FAST, LIGHT = Target(100, " ms", at_most=True), Target(1, " %", at_most=True)
# The allocator keeps some memory, also without a leak.
NO_GROWTH, NO_MORE = Target(8, " MiB", at_most=True), Target(0, at_most=True)
# Without the settings of tests.
_AS_A_USER: dict[str, Any] = {**dict.fromkeys(QUICK), "api_key": KEY, "log_level": "warning"}


@dataclass(frozen=True, slots=True)
class World:
    """The gateway under test, a signed-in browser, and the server."""

    gateway: Gateway
    browser: Browser
    queue: MiraQueue
    server: redis.Redis
    batch: str
    job: str

    @property
    def base(self) -> str:
        return self.gateway.url.removesuffix("/v1")

    @property
    def cookie(self) -> str:
        return "; ".join(f"{each.name}={each.value}" for each in self.browser.session.cookies)

    @property
    def views(self) -> list[str]:
        return [
            "/",
            "/batches",
            f"/batches/{self.batch}",
            "/jobs",
            "/jobs?state=failed",
            "/jobs?state=open",
            "/jobs?state=succeeded&metadata=tenant%3D55",
            "/jobs?model=none",
            f"/jobs/{self.job}",
            "/jobs?q=an+unknown+key",
            "/jobs/all/confirm?verb=retry&state=failed",
            "/accounts",
            "/workers",
            "/webhooks",
        ]

    def stream_of(self, view: str) -> str:
        """Return the path of the stream of a view, or an empty string if it has none."""
        text = self.browser.get(view).text
        return text.partition('data-live="')[2].partition('"')[0].replace("&amp;", "&")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=1_000_000, help="open lines (default: 1,000,000)")
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs that ended (default: 10,000)")
    parser.add_argument("--waiting", type=int, default=1_000, help="single jobs that wait (default: 1,000)")
    parser.add_argument("--calls", type=int, default=30, help="requests of each view (default: 30)")
    parser.add_argument("--stream", type=float, default=5, metavar="S", help="time of each stream (default: 5 s)")
    parser.add_argument("--open", type=float, default=120, metavar="S", help="time of ten open pages (default: 120 s)")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        api = stack.enter_context(SimulatorProcess.start("--no-request-counts"))
        gateway = stack.enter_context(started_gateway(workers=0, api_base=api.url, **_AS_A_USER))
        queue = stack.enter_context(MiraQueue(gateway.settings))
        began_s = time.monotonic()
        batch, job = fill(queue, chosen.lines, chosen.jobs, chosen.waiting, "default")
        progress(f"filled in {time.monotonic() - began_s:.0f} s")
        server = stack.enter_context(connect(queue.redis_url))
        world = World(gateway, stack.enter_context(signed_in(gateway)), queue, server, batch, job)
        tables = [
            _response_times(world, chosen.calls),
            asyncio.run(_server_time(world, chosen.stream)),
            asyncio.run(_leaks(world, chosen.open)),
        ]
        print("\n\n".join(table.printed() for table in tables))
        server.flushall()
    return int(any(table.is_missed for table in tables))


def _response_times(world: World, calls: int) -> Table:
    table = Table(
        f"response times, {calls} requests of each view, one after the other",
        ("status", "median ms", "90 % ms", "of which processor time of the gateway"),
    )
    pid = world.gateway.process.pid
    for view in world.views:
        times = []
        used_s = machine.cpu_s([pid])
        for _ in range(calls):
            began_s = time.perf_counter()
            response = world.browser.get(view)
            times.append((time.perf_counter() - began_s) * 1000)
        used_ms = 1000 * (machine.cpu_s([pid]) - used_s) / calls
        median, slow = statistics.median(times), statistics.quantiles(times, n=10)[8]
        cells = response.status_code, f"{median:.1f}", f"{slow:.1f}", f"{used_ms:.0f}"
        table.add(_name(world, view), *cells, targets=[(FAST, median)])
        progress(f"{view}: {median:.0f} ms")
    return table


async def _server_time(world: World, seconds: float) -> Table:
    """Return the table of the server's processor time without and with one open page of each view."""
    table = Table(f"server time of an open page, {seconds:g} s each", ("% of a core without it", "with it"))
    for view in world.views:
        path = await asyncio.to_thread(world.stream_of, view)
        if not path:
            continue
        # Just before: the server writes its data to disk at times.
        idle = await _share(world, seconds)
        async with open_pages(world.base, world.cookie, [path]):
            busy = await _share(world, seconds)
        table.add(_name(world, view), f"{idle:.2f}", f"{busy:.2f}", targets=[(LIGHT, busy - idle)])
        progress(f"{view}: {busy:.2f} % of a core, {idle:.2f} % without it")
    return table


async def _share(world: World, seconds: float) -> float:
    """Return the share of a core that the server uses, in percent."""
    before, began_s = server_cpu_s(world.server), time.perf_counter()
    await asyncio.sleep(seconds)
    return 100 * (server_cpu_s(world.server) - before) / (time.perf_counter() - began_s)


async def _leaks(world: World, seconds: float) -> Table:
    """Return the table of what is held with ten open pages at the beginning and at the end, while jobs change."""
    paths = [path for view in world.views if (path := await asyncio.to_thread(world.stream_of, view))]
    ten = (paths * PAGES)[:PAGES]
    changing = asyncio.create_task(_change_jobs(world))
    pid = world.gateway.process.pid
    # Once before: what is loaded, cached, and pooled at the first use is no leak. Each thread has its connection.
    await call_together(world.base, world.cookie, "/jobs", 4 * THREADS)
    async with open_pages(world.base, world.cookie, ten):
        await asyncio.sleep(min(WARM_UP_S, seconds))
    closed = await _held_at_rest(world)
    async with open_pages(world.base, world.cookie, ten) as pages:
        await asyncio.sleep(min(WARM_UP_S, seconds))
        first = Held.by(pid, world.server)
        await asyncio.sleep(seconds)
        last, events = Held.by(pid, world.server), pages.events
    for _ in range(REOPENED):
        async with open_pages(world.base, world.cookie, ten):
            pass
    after = await _held_at_rest(world)
    changing.cancel()
    table = Table(
        f"{PAGES} open pages for {seconds:g} s, {events:,} events, then reopened {REOPENED} times",
        ("MiB", "files", "connections"),
    )
    for name, held in (
        ("open", first),
        (f"after {seconds:g} s", last),
        ("closed before", closed),
        ("closed after", after),
    ):
        earlier = {f"after {seconds:g} s": first, "closed after": closed}.get(name)
        targets = []
        if earlier:
            targets = [
                (NO_GROWTH, held.mib - earlier.mib),
                (NO_MORE, held.files - earlier.files),
                (NO_MORE, held.clients - earlier.clients),
            ]
        table.add(name, f"{held.mib:.1f}", held.files, held.clients, targets=targets)
    return table


async def _held_at_rest(world: World) -> Held:
    """Return what is held when the streams are closed."""
    await asyncio.sleep(2 * CHANGE_EVERY_S)
    return Held.by(world.gateway.process.pid, world.server)


async def _change_jobs(world: World) -> None:
    """Let each page change: a job is accepted and cancelled once per second."""
    while True:
        job = await asyncio.to_thread(world.queue.enqueue, [{"role": "user", "content": "Hello"}], delay=3600)
        await asyncio.to_thread(job.cancel)
        await asyncio.sleep(CHANGE_EVERY_S)


def _name(world: World, view: str) -> str:
    return view.replace(world.batch, "ID").replace(world.job, "ID")


if __name__ == "__main__":
    sys.exit(main())
