"""`mira-queue metrics`: numbers of the queue for Prometheus. docs/metrics.md lists them all."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Annotated

import typer
from prometheus_client import generate_latest, start_http_server

from mira_producer.cli import console, options
from mira_producer.client import MiraQueue
from mira_producer.cost.prices import load_prices
from mira_producer.metrics.collector import registry_of
from mira_producer.metrics.workers_wanted import demand_object

HELP_END = console.help_end(
    [
        ("mira-queue metrics", "serve the metrics at http://127.0.0.1:9464/metrics"),
        ("mira-queue metrics --once | grep breaker", "print the current metrics, and exit"),
        ("mira-queue metrics --json | jq .workers_wanted", "how many workers the jobs could use, for a scaler"),
        ("mira-queue metrics --host 0.0.0.0 --port 9100", "for a Prometheus on another machine; there is no password"),
    ],
    {
        0: "printed, or stopped by SIGTERM",
        1: "--once or --json: the queue's server is unavailable",
        2: "wrong usage or setting, or the port is in use",
        130: "stopped by Ctrl-C",
    },
)


def metrics(
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="Port; 0 for any free one.")] = 9464,
    once: Annotated[bool, typer.Option("--once", help="Print the metrics and exit.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print workers_wanted as JSON, for a scaler, and exit.")
    ] = False,
    prices_path: options.PriceTable = None,
) -> None:
    """Serve metrics of the queue to Prometheus.

    One such process is enough for a queue and all of its workers: it reads the metrics from the queue's server at every
    scrape. If the server is unavailable, mira_queue_up is 0. docs/metrics.md lists the metrics. They contain no keys
    and no prompts. With a price table, they contain the cost.

    workers_wanted is the number of workers that the jobs could use, and that the learned limits allow.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(console.EXIT_OK))
    prices = load_prices(prices_path)
    with MiraQueue() as queue:
        slots = queue.settings.concurrency
        if as_json:
            console.json_data(demand_object(queue.ledger.queue_stats(), slots))
            return
        registry = registry_of(queue.ledger, slots, lambda: prices)
        if once:
            # Raises the same error as every other command if the server is unavailable.
            queue.ledger.accounts()
            console.data(generate_latest(registry).decode())
            return
        try:
            server, _ = start_http_server(port, host, registry)
        except OSError as error:
            console.error(f"cannot listen on {host}, port {port}: {error.strerror}")
            raise typer.Exit(console.EXIT_USAGE) from error
        console.message(f"metrics at http://{f'[{host}]' if ':' in host else host}:{server.server_port}/metrics")
        threading.Event().wait()
