"""One run of the command line, from its options to its exit code: the engine with a console, signals and workers."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import SecretStr
from rich.console import Console

from mira_queue.contract.limits import limits_named
from mira_queue.contract.names import account_name
from mira_queue.contract.outcome import Failure
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.settings import Settings
from producer.client import MiraQueue
from producer.processes import start_simulator, stop
from producer.run.conclusion import RunResult, Say, conclude
from producer.run.engine import Engine
from producer.run.fleet import Fleet
from producer.run.interrupts import interrupts
from producer.run.options import End, EngineOptions, OnAccountError
from producer.run.paths import check_paths, group_of
from producer.run.plan import Check, Plan
from producer.run.prices import load_prices
from producer.run.progress import make_display
from producer.run.record import Recorder
from producer.run.report import About, check_report, write_report
from producer.run.source import InputError
from producer.run.tally import Tally

# Open jobs for each call that can be under way: enough that no worker waits for the next line.
WINDOW_PER_SLOT = 8
SMALLEST_WINDOW = 200
# Beyond the workers' own grace period, before they are killed.
STOP_MARGIN = timedelta(seconds=5)
SIMULATED_KEY = "sk-mira-" + "0" * 40


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line says. `simulator_options` are the simulator's own (`--limits mira`, ...)."""

    input: Path
    output: Path
    errors: Path
    workers: int = 1
    simulate: bool = False
    simulator_options: tuple[str, ...] = ()
    on_account_error: OnAccountError = "pause"
    prices: Path | None = None
    report: Path | None = None


def run(options: RunOptions, settings: Settings, console: Console) -> RunResult:
    """Do the whole job. Raises InputError (nothing was sent) and other MiraQueueErrors, each one clear line."""
    check_paths(options.input, options.output, options.errors)
    if not options.simulate and settings.api_key is None and options.workers:
        raise InputError("MIRA_API_KEY is not set: set it, or write it to .env, or try without a key: add --simulate")

    prices = load_prices(options.prices)
    if options.report is not None:
        check_report(options.report, (options.input, options.output, options.errors))

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    with ExitStack() as stack:
        # Before anything is started: what is wrong with a run is most often its files.
        plan = Plan.make(_engine_options(options, settings), _check_of(settings))
        stack.callback(plan.close)
        plan.tally.prices = prices
        end, refusal = End.COMPLETE, None
        if plan.left:
            settings = _with_simulator(options, settings, stack)
            _announce(options, settings, plan.tally, say)
            if options.report is not None:
                plan.tally.recorder = Recorder()
            began = datetime.now().astimezone()
            end, refusal = _send(options, settings, console, plan)
            result = conclude(options.output, options.errors, plan.tally, end, refusal, say)
            _report(options, settings, plan.tally, began, "" if end is End.COMPLETE else result.reason, say)
            return result
        # A report of an earlier run is worth more than one of nothing.
        _say_nothing_is_left(options, plan.tally, say)
        return conclude(options.output, options.errors, plan.tally, end, refusal, say)


def _engine_options(options: RunOptions, settings: Settings) -> EngineOptions:
    slots = max(1, options.workers) * settings.concurrency
    return EngineOptions(
        input=options.input,
        output=options.output,
        errors=options.errors,
        group=group_of(options.output),
        window=max(SMALLEST_WINDOW, slots * WINDOW_PER_SLOT),
        on_account_error=options.on_account_error,
    )


def _check_of(settings: Settings) -> Check:
    limits = limits_named(settings.check_limits)
    return lambda body: ChatRequest.checked(body, model=settings.model, limits=limits)


def _send(options: RunOptions, settings: Settings, console: Console, plan: Plan) -> tuple[End, Failure | None]:
    """Run the engine with workers, a display and an ear for Ctrl-C."""
    display = make_display(console)
    with ExitStack() as stack:
        queue = stack.enter_context(MiraQueue(settings))
        fleet = _start_fleet(options, settings, queue, display.say, stack)
        key = settings.api_key.get_secret_value() if settings.api_key else ""
        account = account_name(settings.api_base, key)
        interrupted, hurry = stack.enter_context(interrupts())
        engine = Engine(
            queue,
            _engine_options(options, settings),
            show=display.show,
            say=display.say,
            tend=fleet.tend,
            pace=lambda: queue.ledger.pace_view(account),
            interrupted=interrupted,
        )
        stack.callback(engine.close)
        engine.plan(plan)
        with display:
            end = engine.run()
            if end is End.INTERRUPTED:
                display.say(
                    "stopping: calls in flight may end, the rest is left for the next run (again: stop at once)"
                )
            if end is not End.COMPLETE:
                engine.drain(settings.grace, hurry)
                fleet.hurry = engine.open > 0
        return end, engine.account_error


def _start_fleet(options: RunOptions, settings: Settings, queue: MiraQueue, say: Say, stack: ExitStack) -> Fleet:
    settings = settings.model_copy(update={"redis_url": SecretStr(queue.redis_url)})
    log = settings.state_dir / "worker.log"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fleet = Fleet(settings, options.workers, log, say)
    stack.callback(fleet.stop, settings.grace + STOP_MARGIN)
    fleet.start()
    return fleet


def _with_simulator(options: RunOptions, settings: Settings, stack: ExitStack) -> Settings:
    """With --simulate: a simulator, and a queue of its own, so that no real job is ever answered by it."""
    if not options.simulate:
        return settings
    process, url = start_simulator(options.simulator_options)
    stack.callback(stop, process, STOP_MARGIN)
    return settings.model_copy(
        update={
            "api_base": url,
            "api_key": SecretStr(SIMULATED_KEY),
            "redis_url": None,
            "result_backend": None,
            "state_dir": settings.state_dir / "simulated",
        }
    )


def _announce(options: RunOptions, settings: Settings, tally: Tally, say: Say) -> None:
    where = f"the simulator ({settings.api_base}): no real answers" if options.simulate else settings.api_base
    todo = tally.total - tally.done
    again = f", going on after {tally.done:,} that are answered already" if tally.done else ""
    say(f"{todo:,} of {tally.total:,} requests of {options.input} go to {where}{again}")


def _report(options: RunOptions, settings: Settings, tally: Tally, began: datetime, reason: str, say: Say) -> None:
    if options.report is None or tally.recorder is None:
        return
    where = f"the simulator ({settings.api_base})" if options.simulate else settings.api_base
    about = About(str(options.input), str(options.output), str(options.errors), where, began, reason)
    try:
        write_report(options.report, tally, tally.recorder, about)
    except InputError as error:
        # The answers are there, whatever became of their picture.
        say(str(error))
    else:
        say(f"report: {options.report}")


def _say_nothing_is_left(options: RunOptions, tally: Tally, say: Say) -> None:
    ended = "were answered or have failed already" if tally.failed_before else "are answered already"
    say(f"all {tally.total:,} lines of {options.input} {ended}: nothing was sent")
    if tally.failed_before:
        say(f"to try the failed ones again, move {options.errors} away and run again")
