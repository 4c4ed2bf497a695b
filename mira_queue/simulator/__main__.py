"""`python -m mira_queue.simulator`: it serves until a signal arrives or its parent exits. See --help."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from argparse import Namespace
from contextlib import suppress
from functools import partial

from aiohttp import web

from mira_queue.simulator import control
from mira_queue.simulator import server as api
from mira_queue.simulator.checks import MAX_BODY_BYTES
from mira_queue.simulator.config import SimulatorConfig
from mira_queue.simulator.options import parse_options
from mira_queue.simulator.port import Port
from mira_queue.simulator.schedule import Schedule
from mira_queue.simulator.state import State

STDIN = 0
KEEPALIVE_S = 75.0
LINGERING_S = 2.0  # how long the rest of a rejected body is read, so that the client gets the response
SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def serve(options: Namespace, config: SimulatorConfig) -> None:
    """Serve until a signal, or, with `parent_pipe`, until standard input ends. Raise OSError without the address."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def stop(*_: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: it has stopped
            loop.call_soon_threadsafe(stopped.set)

    def watch_parent() -> None:
        """Stop when the process at the other end of standard input exits, even by SIGKILL."""
        with suppress(OSError):
            while os.read(STDIN, 4096):
                pass
        stop()

    # Not loop.add_signal_handler: closing the loop removes it, and a second signal would then change the exit code.
    for number in SIGNALS:
        signal.signal(number, stop)
    if options.parent_pipe:
        threading.Thread(target=watch_parent, daemon=True).start()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if path.startswith(control.PREFIX):
            port.protect(request.protocol)
            return await control.respond(state, port, schedule, request, path)
        return await api.respond(state, request, path)

    server = web.Server(
        handle,
        # Mira's limit of a body, 12 MiB. The default of aiohttp is 1 MiB.
        request_factory=partial(web.BaseRequest, loop=loop, client_max_size=MAX_BODY_BYTES),
        handler_cancellation=True,
        access_log=None,
        keepalive_timeout=KEEPALIVE_S,
        lingering_time=LINGERING_S,
    )
    state = State(config)
    port = Port(state, server, options.host, options.port)
    schedule = Schedule(state, port)
    try:
        await port.open()
        schedule.restart()
        print(f"ready {port.url}/v1", flush=True)
        await stopped.wait()
    finally:
        port.close()


def main() -> int:
    options, config = parse_options(sys.argv[1:])
    try:
        asyncio.run(serve(options, config))
    except OSError as error:
        print(f"simulator: cannot listen on {options.host}:{options.port}: {error.strerror}", file=sys.stderr)
        return 2
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # a second signal while the interpreter exits would change the exit code
    return 0


if __name__ == "__main__":
    sys.exit(main())
