"""One chaos run: set the stage, let everybody work, strike by the plan, wait until all is settled, add up."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis

from mira_queue.ledger.embedded import EmbeddedServer
from tests.chaos import schedule, workload
from tests.chaos.blows import Striker
from tests.chaos.cast import Cast
from tests.chaos.journal import JournalReader
from tests.chaos.options import ChaosOptions
from tests.chaos.report import report
from tests.chaos.rollcall import call_the_roll
from tests.chaos.scorecard import Measure, Score
from tests.chaos.system import MiraQueueSystem, System
from tests.chaos.witness import Witness, client_url
from tests.support.simulator_process import SimulatorProcess

TICK_S = 0.05
LOOK_EVERY_S = 0.25
SAY_EVERY_S = 10.0
# Blows do not come closer together than this: a process that never gets to start shows nothing.
BLOW_EVERY_S = 1.0
SERVER_LOOK_S = 1.0
# Nothing of ours takes longer: not a lease, not a lost message, not a worker's start on a busy machine.
STUCK_S = 120.0

Say = Callable[[str], None]


class NotEmpty(RuntimeError):
    """The user's server holds keys: a run would mix with them."""


def run_chaos(options: ChaosOptions, system: System, say: Say, keep: Path | None = None) -> Score:
    """`keep`: a directory for logs, journals and files, left as they are; None: a temporary one, removed."""
    with _folder(keep) as folder, _server(options, folder) as (server, url):
        latency = list(options.answer_takes_s)
        with SimulatorProcess.start(
            **{"latency_s": latency, "seed": options.seed, "early_grace_s": 1.0, **options.simulator}
        ) as simulator:
            env = system.environment(options, url, folder / "state", simulator.url)
            cast = Cast(options, system, env, folder)
            return _Run(options, system, say, simulator, cast, server, url, env, folder).run()


class _Run:
    def __init__(
        self,
        options: ChaosOptions,
        system: System,
        say: Say,
        simulator: SimulatorProcess,
        cast: Cast,
        server: EmbeddedServer | None,
        url: str,
        env: dict[str, str],
        folder: Path,
    ) -> None:
        self._options, self._system, self._say, self._simulator = options, system, say, simulator
        self._cast, self._server, self._url, self._env, self._folder = cast, server, url, env, folder
        self._striker = Striker(options, cast, simulator, server, self._note)
        cast.waking = self._striker.watch
        self._witness = Witness(url)
        self._journals = [JournalReader(cast.journal(number)) for number in range(options.producers)]
        self._accepted: dict[int, set[str]] = defaultdict(set)
        self._events = schedule.plan(
            options.seed, options.kills, server=server is not None, batches=bool(options.batch_lines)
        )
        self._all_answers = sum(workload.job(options.seed, number).succeeds for number in range(options.jobs))
        self._stats: dict[str, Any] = simulator.stats()
        self._due_s: dict[str, float] = defaultdict(float)
        more_s = 0.0 if isinstance(system, MiraQueueSystem) or options.minutes else options.stock_patience_s
        self._limit_s = options.limit_s + more_s

    def run(self) -> Score:
        began_s = time.monotonic()
        settled = False
        self._witness.start()
        try:
            self._cast.start()
            while time.monotonic() - began_s < self._limit_s:
                self._tick(began_s)
                settled = self._is_settled()
                if settled or self._is_hopeless():
                    break
                time.sleep(TICK_S)
            seconds = time.monotonic() - began_s
            return self._conclude(settled, seconds)
        finally:
            self._witness.stop()
            self._cast.end()

    def _note(self, text: str) -> None:
        """For whoever reads a kept directory: which blow fell when, on the clock of the workers' logs."""
        with (self._folder / "blows.txt").open("a") as log:
            log.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {text}\n")

    def _tick(self, began_s: float) -> None:
        self._cast.begin_batches(self._share_done())
        self._cast.tend()
        self._striker.tend()
        if self._is_time("server", SERVER_LOOK_S):
            self._mend_server()
        if self._is_time("look", LOOK_EVERY_S):
            self._stats = self._simulator.stats()
            self._read_journals()
        if self._is_time("say", SAY_EVERY_S):
            self._say(self._progress(time.monotonic() - began_s))
            self._note(f"{self._stats['answered']} answered, {self._stats['in_flight']} in flight")
        if self._events and self._share_done() >= self._events[0].at and time.monotonic() >= self._due_s["blow"]:
            event = self._events[0]
            if self._striker.strike(event, self._stats["in_flight"]):
                self._events.pop(0)
                self._due_s["blow"] = time.monotonic() + BLOW_EVERY_S

    def _is_time(self, what: str, every_s: float) -> bool:
        now_s = time.monotonic()
        if now_s < self._due_s[what]:
            return False
        self._due_s[what] = now_s + every_s
        return True

    def _mend_server(self) -> None:
        # Ours comes back by itself, which is part of what is tested; stock Celery has nobody who would do that.
        if self._server is not None and not isinstance(self._system, MiraQueueSystem):
            self._server.ensure_running()

    def _read_journals(self) -> None:
        for journal in self._journals:
            for number, job_id in journal.new():
                self._accepted[number].add(job_id)
                self._witness.accepted([job_id])

    def _share_done(self) -> float:
        return float(self._stats["answered"]) / max(1, self._all_answers)

    def _is_settled(self) -> bool:
        if not self._cast.has_handed_in_all or self._stats["in_flight"]:
            return False
        self._read_journals()
        return self._witness.pending == 0

    def _is_hopeless(self) -> bool:
        """No outcome has come for longer than any repair takes: what is missing now is lost."""
        patience_s = STUCK_S if isinstance(self._system, MiraQueueSystem) else self._options.stock_patience_s
        return time.monotonic() - self._witness.last_news_s > patience_s

    def _conclude(self, settled: bool, seconds: float) -> Score:
        self._say(self._progress(seconds))
        self._cast.wake_all()
        if self._server is not None:
            self._server.ensure_running()
        score = report(
            self._options,
            self._system,
            self._accepted,
            self._witness,
            self._simulator,
            self._cast,
            self._striker,
            settled=settled,
            seconds=seconds,
        )
        present = call_the_roll(self._options, self._system, self._env, self._folder, self._cast, self._simulator)
        absent = self._options.workers * self._options.concurrency - present
        missed = sum(event.blow.is_kill for event in self._events)
        score = score.plus(Measure("kills of the plan for which there was no time", missed))
        return score.plus(Measure("workers' slots that take no jobs any more", absent, 0))

    def _progress(self, seconds: float) -> str:
        kills = sum(count for blow, count in self._striker.counts.items() if blow.is_kill)
        return (
            f"{self._system.name} {seconds:5.0f} s: accepted {len(self._accepted):,}, "
            f"answers {self._stats['answered']:,} of {self._all_answers:,}, "
            f"without outcome {self._witness.pending:,}, kills {kills} of {self._options.kills}"
        )


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep.resolve()
        return
    # Short: a socket's path has little room.
    folder = Path(tempfile.mkdtemp(prefix="mq-chaos-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _server(options: ChaosOptions, folder: Path) -> Iterator[tuple[EmbeddedServer | None, str]]:
    """The user's server, or an embedded one that the driver holds a share in, so that it outlives a dead cast."""
    if options.redis_url is None:
        server = EmbeddedServer(folder / "state")
        with server as url:
            yield server, url
        return
    with redis.Redis.from_url(client_url(options.redis_url)) as client:
        if count := client.dbsize():
            raise NotEmpty(f"the server holds {count} keys: chaos needs an empty one")
        try:
            yield None, options.redis_url
        finally:
            client.flushdb()
