"""One run of the command line, from its options to its exit code: the engine with a console, signals and workers."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import SecretStr
from rich.console import Console

from mira_producer.cli.own_simulator import start_own_simulator
from mira_producer.cli.paths import check_paths, group_of, made
from mira_producer.cli.progress import make_display
from mira_producer.cli.summary import RunResult, Say, conclude
from mira_producer.client import MiraQueue
from mira_producer.cost.budget import Budget, BudgetLimits
from mira_producer.cost.prices import Prices
from mira_producer.cost.spending import Spending
from mira_producer.engine.engine import Engine
from mira_producer.engine.options import End, EngineOptions, OnAccountError
from mira_producer.engine.plan import Check, Plan
from mira_producer.engine.stats import Stats
from mira_producer.fleet import STOP_MARGIN, Fleet
from mira_producer.interrupts import interrupts, interrupts_call
from mira_producer.jsonl.errors import InputError
from mira_producer.report.page import About, check_report, write_report
from mira_producer.report.recorder import Recorder
from mira_producer.text import plural
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.request_limits import limits_named
from mira_queue.contract.settings import Settings

# Open jobs for each call that can be under way: enough that no worker waits for the next line, whole groups of them.
WINDOW_PER_SLOT = 8
SMALLEST_WINDOW = 2000
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
    deadline: datetime | None = None
    dedupe: bool = False
    ordered: bool = False
    prices: Prices = field(default_factory=Prices)
    budget: BudgetLimits | None = None
    report: Path | None = None


def run(options: RunOptions, settings: Settings, console: Console) -> RunResult:
    """Do the whole job. Raises InputError (nothing was sent) and other MiraQueueErrors, each one clear line."""
    check_paths(options.input, options.output, options.errors)
    if not options.simulate and settings.api_key is None and options.workers:
        raise InputError("MIRA_API_KEY is not set: set it, or write it to .env, or try without a key: add --simulate")

    if options.report is not None:
        check_report(options.report, (options.input, options.output, options.errors))

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    with ExitStack() as stack:
        # Before anything is started: what is wrong with a run is most often its files.
        plan = Plan.make(_engine_options(options, settings), _check_of(settings))
        stack.callback(plan.close)
        end, reason = End.COMPLETE, End.COMPLETE.value
        _check_deadline(options, plan)
        used_up = _used_up(options, plan)
        if plan.left and used_up:
            end, reason = End.BUDGET, used_up
        elif plan.left:
            made(settings.state_dir)
            settings = _with_simulator(options, settings, stack)
            if options.report is not None:
                plan.stats.recorder = Recorder()
            end, reason = _send(options, settings, console, plan)
        else:
            _say_nothing_is_left(options, plan.stats, say)
            if plan.put_in_order():
                say("its lines are in the order of the input now")
        result = conclude(options.output, options.errors, plan, end, reason, say)
        # Nothing was sent: a report of an earlier run is worth more than one of nothing.
        if plan.stats.recorder is not None:
            _report(options, settings, plan.stats, plan.stats.recorder, "" if end is End.COMPLETE else reason, say)
        return result


def _engine_options(options: RunOptions, settings: Settings) -> EngineOptions:
    slots = max(1, options.workers) * settings.concurrency
    return EngineOptions(
        input=options.input,
        output=options.output,
        errors=options.errors,
        group=group_of(options.output),
        window=max(SMALLEST_WINDOW, slots * WINDOW_PER_SLOT),
        on_account_error=options.on_account_error,
        deadline=options.deadline,
        dedupe=options.dedupe,
        ordered=options.ordered,
        prices=options.prices,
        budget=options.budget,
    )


def _check_deadline(options: RunOptions, plan: Plan) -> None:
    """A deadline that has passed is for a run that goes on; a new one would not answer a single line."""
    if options.deadline and _is_late(options) and plan.left == plan.stats.total:
        raise InputError(f"--deadline: {options.deadline:%Y-%m-%d %H:%M:%S %Z} has passed already: nothing was sent")


def _is_late(options: RunOptions) -> bool:
    return options.deadline is not None and options.deadline <= datetime.now(UTC)


def _used_up(options: RunOptions, plan: Plan) -> str:
    """Why not a single line can go, where earlier runs have used the whole budget; empty: some may."""
    if options.budget is None:
        return ""
    spending = Spending(Budget(options.budget, plan.used_before), options.prices)
    return spending.words() if spending.is_spent else ""


def _check_of(settings: Settings) -> Check:
    limits = limits_named(settings.check_limits)
    return lambda body: ChatRequest.checked(body, model=settings.model, limits=limits)


def _send(options: RunOptions, settings: Settings, console: Console, plan: Plan) -> tuple[End, str]:
    """Run the engine with workers, a display and an ear for Ctrl-C: how it ended, and why."""
    display = make_display(console)
    with ExitStack() as stack:
        queue = stack.enter_context(MiraQueue(settings))
        if not _is_late(options):
            plan.retry_errors()
            queue.crash_points.reach(CrashPoint.AFTER_TAKE_OUT)
        _announce(options, settings, plan.stats, display.say)
        warn_of_others(queue.ledger.bases_at_work(), settings.api_base, display.say)
        fleet = _start_fleet(options, settings, queue, display.say, stack)
        interrupted, hurry = stack.enter_context(interrupts())
        engine = Engine(
            queue,
            _engine_options(options, settings),
            show=display.show,
            say=display.say,
            tend=fleet.replace_crashed,
            pace=lambda: queue.ledger.pace_view(settings.account),
            interrupted=interrupted,
        )
        stack.callback(engine.close)
        engine.plan(plan)
        with display:
            end = _bring_to_an_end(engine, plan, settings, hurry, display.say)
            # The run no longer waits for these calls, so the workers need not either.
            at_once = engine.open > 0
            if end is End.EXPIRED:
                engine.expire()
        # One more Ctrl-C makes the workers end at once, and takes nobody's summary away.
        with interrupts_call(fleet.stop_now):
            fleet.stop(settings.grace + STOP_MARGIN, at_once=at_once)
        engine.count_lost()
        return end, engine.why(end)


def _bring_to_an_end(engine: Engine, plan: Plan, settings: Settings, hurry: threading.Event, say: Say) -> End:
    """Run, and when that ends early, let calls in flight end."""
    end = engine.run()
    if end is End.COMPLETE:
        return end
    patience = settings.grace
    if end is End.INTERRUPTED:
        say("stopping: calls in flight may end, the rest is left for the next run (again: stop at once)")
    elif end is End.EXPIRED:
        # A call that was made in time may take its time.
        patience = settings.request_timeout
        say("the deadline has passed: calls in flight may end, the other lines are not run")
    engine.drain(patience, hurry)
    if hurry.is_set() and engine.open:
        return End.INTERRUPTED
    return end if plan.left else End.COMPLETE


def _start_fleet(options: RunOptions, settings: Settings, queue: MiraQueue, say: Say, stack: ExitStack) -> Fleet:
    settings = settings.model_copy(update={"redis_url": SecretStr(queue.redis_url)})
    log = settings.state_dir / "worker.log"
    fleet = Fleet(settings, options.workers, log, say)
    stack.callback(fleet.stop, settings.grace + STOP_MARGIN)
    fleet.start()
    return fleet


def _with_simulator(options: RunOptions, settings: Settings, stack: ExitStack) -> Settings:
    """With --simulate: a simulator, and a queue of its own, so that no real job is ever answered by it."""
    if not options.simulate:
        return settings
    state_dir = settings.state_dir / "simulated"
    url = start_own_simulator(options.simulator_options, made(state_dir) / "simulator.log", stack)
    return settings.model_copy(
        update={
            "api_base": url,
            "api_key": SecretStr(SIMULATED_KEY),
            "redis_url": None,
            "result_backend": None,
            "state_dir": state_dir,
        }
    )


def _announce(options: RunOptions, settings: Settings, stats: Stats, say: Say) -> None:
    where = f"the simulator ({settings.api_base}): no real answers" if options.simulate else settings.api_base
    todo = stats.total - stats.done
    again = f", going on after {stats.done:,} that are answered already" if stats.done else ""
    goes = "goes" if todo == 1 else "go"
    say(f"{todo:,} of {plural(stats.total, 'request')} of {options.input} {goes} to {where}{again}")


def warn_of_others(bases: set[str], own: str, say: Say) -> None:
    """Workers do all jobs of their queue, with their own key, at their own address; a simulator's among them."""
    if others := sorted(bases - {own}):
        say(
            f"workers of this queue call {', '.join(others)}: they take some of these lines, and answer from there; "
            "stop them, or use a queue of its own: another MIRA_STATE_DIR or MIRA_REDIS_URL"
        )


def _report(options: RunOptions, settings: Settings, stats: Stats, recorder: Recorder, reason: str, say: Say) -> None:
    assert options.report is not None
    where = f"the simulator ({settings.api_base})" if options.simulate else settings.api_base
    began = datetime.now().astimezone() - timedelta(seconds=recorder.seconds)
    about = About(str(options.input), str(options.output), str(options.errors), where, began, reason)
    try:
        write_report(options.report, stats, recorder, about)
    except InputError as error:
        # The answers are there, whatever became of their picture.
        say(str(error))
    else:
        say(f"report: {options.report}")


def _say_nothing_is_left(options: RunOptions, stats: Stats, say: Say) -> None:
    if stats.total == 1:
        ended = "has failed already" if stats.failed_before else "is answered already"
    else:
        ended = "were answered or have failed already" if stats.failed_before else "are answered already"
    lines = "the line" if stats.total == 1 else f"all {stats.total:,} lines"
    say(f"{lines} of {options.input} {ended}: nothing was sent")
    if stats.failed_before:
        say(f"to try the failed ones again, move {options.errors} away and run again")
