"""Speed of the simulator, compared with a bare aiohttp handler: `python -m bench.simulator`.

Each server is a separate process. This process creates the load: a fixed number of keep-alive connections. Each sends
its next request when it has the response to the last. The runs alternate, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
from contextlib import suppress
from typing import Any

import orjson
from aiohttp import web

CONNECTIONS = 32
RUNS = 5
SECONDS = 2.0
BODY = orjson.dumps(
    {"model": "mira", "messages": [{"role": "user", "content": "What does the tide do when nobody is looking?"}]}
)
ANSWER = orjson.dumps(
    {"id": "chatcmpl-0", "choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * 240}}]}
)
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk-mira-bench\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


class Connection(asyncio.Protocol):
    """Keep-alive connection that sends the next request when it has the response to the last."""

    def __init__(self) -> None:
        self.answers = 0
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the server answered {head[:40]!r}")
        self.answers += 1
        self._buffer = body[length:]
        assert self._transport is not None
        self._transport.write(REQUEST)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def requests_per_s(port: int, connections: int, seconds: float) -> float:
    loop = asyncio.get_running_loop()
    opened = [await loop.create_connection(Connection, "127.0.0.1", port) for _ in range(connections)]
    clients = [client for _, client in opened]
    await asyncio.sleep(0.2)  # the first requests warm up both sides
    before, start = sum(client.answers for client in clients), loop.time()
    await asyncio.sleep(seconds)
    done, took = sum(client.answers for client in clients) - before, loop.time() - start
    for client in clients:
        client.close()
    return done / took


def start(*arguments: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen([sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    return process, int(line.rsplit(":", 1)[1].split("/")[0])


def cpu_s(pid: int) -> float | None:
    """Return the processor time of a process in seconds, or None without /proc."""
    with suppress(OSError), open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return None


async def serve_bare() -> None:
    """Serve a bare aiohttp handler: read the body, send a constant."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.Response(body=ANSWER, content_type="application/json")

    loop = asyncio.get_running_loop()
    listening = await loop.create_server(web.Server(answer, access_log=None), "127.0.0.1", 0)
    print(f"ready http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # exit with the parent process


def measure(connections: int = CONNECTIONS, runs: int = RUNS, seconds: float = SECONDS) -> dict[str, Any]:
    """Return medians over `runs`: requests per second, their ratio, and the simulator's processor time."""
    simulator, simulator_port = start("-m", "mira_queue.simulator", "--parent-pipe")
    bare, bare_port = start("-m", "bench.simulator", "--serve-bare")
    ours, theirs, cpu_us = [], [], []
    try:
        for _ in range(runs):
            before = cpu_s(simulator.pid)
            ours.append(asyncio.run(requests_per_s(simulator_port, connections, seconds)))
            after = cpu_s(simulator.pid)
            theirs.append(asyncio.run(requests_per_s(bare_port, connections, seconds)))
            if before is not None and after is not None:
                cpu_us.append((after - before) / (ours[-1] * (seconds + 0.2)) * 1e6)
    finally:
        for process in (simulator, bare):
            process.terminate()
            process.wait(10)
    return {
        "simulator_per_s": round(statistics.median(ours)),
        "bare_aiohttp_per_s": round(statistics.median(theirs)),
        "ratio": round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3),
        "simulator_cpu_us": round(statistics.median(cpu_us)) if cpu_us else None,
        "runs": runs,
        "connections": connections,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.simulator", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--serve-bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_bare:
        asyncio.run(serve_bare())
        return
    result = measure(options.connections, options.runs, options.seconds)
    cpu_us = result["simulator_cpu_us"]
    print(f"simulator      {result['simulator_per_s']:>7,} requests/s  ({cpu_us} us of processor time each)")
    print(f"bare aiohttp   {result['bare_aiohttp_per_s']:>7,} requests/s")
    print(
        f"ratio          {result['ratio']:>7}  (median of {result['runs']} pairs, {result['connections']} connections)"
    )


if __name__ == "__main__":
    main()
