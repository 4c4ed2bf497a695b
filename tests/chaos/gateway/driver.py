"""One run: start everything, inject the planned faults while clients work, wait until all has ended, and count."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import redis

from mira_queue.contract import names
from mira_queue.contract.settings import Settings
from mira_queue.contract.webhook import EVENT_TYPES, new_signing_secret
from mira_queue.ledger.embedded import EmbeddedServer
from tests.chaos.folder import run_folder
from tests.chaos.gateway import schedule
from tests.chaos.gateway.accounting import PATHS, expected_webhooks, missing_webhooks
from tests.chaos.gateway.clients import Clients, Kind
from tests.chaos.gateway.faults import GatewayFaults
from tests.chaos.gateway.objects import Objects, plain_id, read_objects
from tests.chaos.gateway.options import GatewayOptions
from tests.chaos.gateway.report import report
from tests.chaos.gateway.service import Service
from tests.chaos.gateway.webhook_log import WebhookLog
from tests.chaos.result_monitor import ResultMonitor
from tests.chaos.scorecard import Score
from tests.chaos.server_faults import ServerFaults
from tests.support.cli_process import Cli
from tests.support.cutting_proxy import CuttingProxy, RandomCuts
from tests.support.queue_process import API_KEY, environment
from tests.support.simulator_process import SimulatorProcess
from tests.support.webhook_receiver import LOCAL

TICK_S = 0.05
REPORT_EVERY_S = 10.0
READ_EVERY_S = 3.0
# Every recovery of ours is faster: an expired lease, a lost message, the start of a gateway on a busy machine.
STUCK_S = 150.0
# The third attempt of a delivery follows after five minutes, with up to 20% more.
WEBHOOK_STUCK_S = 420.0
# Much longer than a gateway takes to start on a busy machine.
START_S = 90.0

Say = Callable[[str], None]


def run_gateway_chaos(options: GatewayOptions, say: Say, keep: Path | None = None) -> Score:
    """Run once and return the scorecard. `keep` is a directory for the files; None uses a temporary directory."""
    with run_folder(keep) as folder, ExitStack() as stack:
        stack.enter_context(server := EmbeddedServer(folder / "state"))
        simulator = stack.enter_context(SimulatorProcess.start(latency_s=list(options.latency_s), seed=options.seed))
        return _Run(options, say, simulator, server, folder, stack).run()


class _Run:
    def __init__(
        self,
        options: GatewayOptions,
        say: Say,
        simulator: SimulatorProcess,
        server: EmbeddedServer,
        folder: Path,
        stack: ExitStack,
    ) -> None:
        self._options, self._say, self._simulator, self._server = options, say, simulator, server
        self._folder, self._stack = folder, stack
        self._secret = new_signing_secret().get_secret_value()
        fields = self._settings()
        settings = Settings(_env_file=None, **fields)
        env = {name: value for name, value in environment(**fields).items() if name.startswith("MIRA_")}
        self._service = Service(options, settings, env, folder)
        stack.callback(self._service.end)
        self._log = WebhookLog()
        stack.callback(self._log.close)
        cuts = RandomCuts(options.seed, options.cut_share)
        self._proxy = stack.enter_context(CuttingProxy(self._service.port, cuts.choose))
        self._server_faults = ServerFaults(server, None)
        stack.callback(self._server_faults.end)
        self._faults = GatewayFaults(options, self._service, self._server_faults, self._log, simulator, self._record)
        self._events = schedule.plan(options.seed, options.faults)
        self._monitor = ResultMonitor(server.url)
        self._cli = Cli(folder, **fields)
        self._left_faults = 0
        self._objects = Objects()
        self._next_fault_s = self._next_say_s = 0.0

    def run(self) -> Score:
        started_s = time.monotonic()
        self._monitor.start()
        self._stack.callback(self._monitor.stop)
        admin, clients = self._begin()
        self._stack.callback(clients.end)
        clients.start()
        begun_s = time.monotonic()
        while not clients.is_done:
            self._tick(clients, begun_s)
            time.sleep(TICK_S)
        clients.end()
        self._settle(admin, clients, begun_s)
        self._say(self._progress(clients, begun_s))
        return report(
            self._options,
            admin,
            clients,
            self._objects,
            self._log,
            self._faults,
            self._service,
            self._proxy,
            self._monitor,
            self._simulator,
            self._folder,
            seconds=time.monotonic() - started_s,
            left_faults=self._left_faults,
            left_deliveries=self._left_deliveries(),
        )

    def _settings(self) -> dict[str, Any]:
        return {
            "api_key": API_KEY,
            "api_base": self._simulator.url,
            "state_dir": self._folder / "state",
            "concurrency": self._options.concurrency,
            "lease": self._options.lease_s,
            "rescue_interval": self._options.rescue_s,
            "grace": self._options.grace_s,
            "webhook_secret": self._secret,
            "webhook_hosts": ",".join(LOCAL),
            # With its margin, the lease of a delivery.
            "webhook_timeout": 2,
            "log_format": "json",
        }

    def _begin(self) -> tuple[openai.OpenAI, Clients]:
        """Start the gateway, and create the keys and the endpoint of the first project."""
        keys = [self._key(name) for name in ("first", "second")]
        self._service.tend()
        direct = f"http://127.0.0.1:{self._service.port}/v1"
        # Through no network that cuts connections, and with retries: a gateway may be starting.
        admin = openai.OpenAI(base_url=direct, api_key=self._key("operator", "--scope", "admin"), max_retries=20)
        first = openai.OpenAI(base_url=direct, api_key=keys[0], max_retries=20)
        kinds: Any = list(EVENT_TYPES)
        endpoint = first.webhooks.create(name="App", url=self._log.url(PATHS[0]), event_types=kinds)
        self._log.secrets = {PATHS[0]: endpoint.signing_secret, PATHS[1]: self._secret}
        return admin, Clients(self._options, self._proxy.url, keys, ["", self._log.url(PATHS[1])])

    def _key(self, name: str, *options: str) -> str:
        done = self._cli("keys", "create", "--name", name, *options)
        if done.code:
            raise RuntimeError(done.err)
        return done.out.strip()

    def _record(self, text: str) -> None:
        with (self._folder / "faults.txt").open("a") as log:
            log.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {text}\n")

    def _tick(self, clients: Clients, begun_s: float) -> None:
        self._faults.tend()
        self._service.tend()
        now_s = time.monotonic()
        if now_s >= self._next_say_s:
            self._next_say_s = now_s + REPORT_EVERY_S
            self._say(self._progress(clients, begun_s))
            singles = [each.id for each in list(clients.done) if each.id and each.kind not in (Kind.FILE, Kind.BATCH)]
            self._monitor.accepted(str(uuid.UUID(plain_id(each))) for each in singles)
        if now_s >= self._next_fault_s:
            share_done = clients.share_done
            for event in [each for each in self._events if each.at <= share_done]:
                if self._faults.inject(event):
                    self._events.remove(event)
                    self._next_fault_s = time.monotonic() + self._options.fault_every_s
                    return

    def _settle(self, admin: openai.OpenAI, clients: Clients, begun_s: float) -> None:
        """Wait until all objects are final and all webhooks have arrived, or until nothing happens any more."""
        self._wait(clients, begun_s, STUCK_S, lambda: self._read(admin).is_final, lambda: self._objects.final_count)
        # The others would only delay the deliveries.
        self._left_faults = len(self._events)
        self._events.clear()
        expected = expected_webhooks(self._objects)
        arrivals = self._log.arrivals
        self._wait(
            clients,
            begun_s,
            WEBHOOK_STUCK_S,
            lambda: not missing_webhooks(expected, arrivals) and not self._left_deliveries(),
            lambda: len(arrivals),
        )

    def _wait(
        self,
        clients: Clients,
        begun_s: float,
        stuck_s: float,
        is_done: Callable[[], bool],
        progress: Callable[[], int],
    ) -> None:
        last, last_s = -1, time.monotonic()
        while time.monotonic() - last_s < stuck_s:
            if self._service.is_whole:
                with suppress(openai.APIError, redis.RedisError):
                    if is_done():
                        return
            if (now := progress()) != last:
                last, last_s = now, time.monotonic()
            end_s = time.monotonic() + READ_EVERY_S
            while time.monotonic() < end_s:
                # Faults that have found no target before may find one while the last objects finish.
                self._tick(clients, begun_s)
                time.sleep(TICK_S)

    def _read(self, admin: openai.OpenAI) -> Objects:
        self._objects = read_objects(admin)
        return self._objects

    def _left_deliveries(self) -> int:
        client = self._monitor.client
        return int(client.llen(names.WEBHOOK_EVENTS)) + int(client.zcard(names.WEBHOOK_RECEIVERS))

    def _progress(self, clients: Clients, begun_s: float) -> str:
        failed = sum(not create.id for create in list(clients.done))
        return (
            f"{time.monotonic() - begun_s:5.0f} s: creates {len(clients.done):,} ({failed} failed), "
            f"final {self._objects.final_count:,}, webhooks {len(self._log.arrivals):,}, "
            f"cuts {self._proxy.cuts:,}, faults {self._faults.counts.total()} of {self._options.faults}"
        )
