"""The simulator as a process: it serves until a signal arrives or its parent exits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from aiohttp import web

from mira_queue.simulator.config import SimulatorConfig
from mira_queue.simulator.control import PREFIX, Control
from mira_queue.simulator.listener import Listener
from mira_queue.simulator.outages import Outages
from mira_queue.simulator.server import Server
from mira_queue.simulator.state import State
from mira_queue.simulator.validation import MAX_BODY_BYTES

KEEPALIVE_S = 75.0
STDIN = 0
LINGERING_S = 2.0  # how long the rest of a rejected body is read, so that the client gets the response


def run_simulator(
    config: SimulatorConfig,
    host: str = "127.0.0.1",
    port: int = 0,
    on_ready: Callable[[str], None] | None = None,
    *,
    parent_pipe: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT, or, with `parent_pipe`, until standard input ends.

    Call `on_ready` with the base URL when connections are accepted. Raise OSError if the address cannot be used.
    """
    asyncio.run(_serve(config, host, port, on_ready, parent_pipe))


async def _serve(
    config: SimulatorConfig, host: str, port: int, on_ready: Callable[[str], None] | None, parent_pipe: bool
) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    # Not loop.add_signal_handler: closing the loop removes it, and a second signal would then change the exit code.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stop(loop, stopped))
    if parent_pipe:
        threading.Thread(target=_watch_parent, args=(loop, stopped), daemon=True).start()

    state = State(config)
    api = Server(state)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if path.startswith(PREFIX):
            listener.protect(request.protocol)
            return await control.respond(request, path)
        return await api.call(request, path)

    server = web.Server(
        handle,
        request_factory=_request,
        handler_cancellation=True,
        access_log=None,
        keepalive_timeout=KEEPALIVE_S,
        lingering_time=LINGERING_S,
    )
    listener = Listener(server, host, port)
    outages = Outages(state, listener)
    control = Control(state, outages)
    try:
        await listener.open()
        outages.schedule(config.outages)
        if on_ready is not None:
            on_ready(f"{listener.url}/v1")
        await stopped.wait()
    finally:
        listener.close()


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    """Build a request as aiohttp does, but with Mira's limit of a body, 12 MiB. The default of aiohttp is 1 MiB."""
    loop = protocol._loop
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES)


def _watch_parent(loop: asyncio.AbstractEventLoop, stopped: asyncio.Event) -> None:
    """Stop when standard input ends: when the process at its other end exits, even by SIGKILL."""
    try:
        while os.read(STDIN, 4096):
            pass
    except OSError:
        pass
    _stop(loop, stopped)


def _stop(loop: asyncio.AbstractEventLoop, stopped: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: it has stopped
        loop.call_soon_threadsafe(stopped.set)
