"""One run, from the command's options to its exit code."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType

from pydantic import SecretStr
from rich.console import Console

from mira_queue.contract.limits import limits_named
from mira_queue.contract.names import account_name
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.settings import Settings
from producer.client import MiraQueue
from producer.processes import start_simulator, stop
from producer.run.fleet import Fleet
from producer.run.index import LineIndex
from producer.run.lines import InputError
from producer.run.loop import End, RunLoop, unanswered_lines
from producer.run.output import LineFile
from producer.run.plan import Check, read_answers, read_input
from producer.run.progress import make_display
from producer.run.tally import Tally
from producer.run.waiting import Watch, duration
from producer.run.window import Window

EXIT_ANSWERED = 0
EXIT_SOME_FAILED = 1
EXIT_USAGE = 2
EXIT_ACCOUNT = 3
EXIT_INTERRUPTED = 130

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


@dataclass(frozen=True, slots=True)
class RunResult:
    """How it ended, for the exit code and `--json`."""

    exit_code: int
    total: int
    answered: int
    failed: int
    codes: dict[str, int]
    unanswered_calls: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    output: str
    errors: str
    reason: str


def default_output(input_path: Path, simulate: bool) -> tuple[Path, Path]:
    """Beside the input; simulated answers never share a file with real ones."""
    stem = input_path.name.removesuffix(".jsonl") + (".simulated" if simulate else "")
    return input_path.parent / f"{stem}.answers.jsonl", input_path.parent / f"{stem}.errors.jsonl"


def run(options: RunOptions, settings: Settings, console: Console) -> RunResult:
    """Do the whole job. Raises InputError (nothing was sent) and other MiraQueueErrors, each one clear line."""
    _check_paths(options)
    if not options.simulate and settings.api_key is None and options.workers:
        raise InputError("MIRA_API_KEY is not set: set it, or write it to .env, or try without a key: add --simulate")
    limits = limits_named(settings.check_limits)

    def check(body: object) -> ChatRequest:
        return ChatRequest.checked(body, model=settings.model, limits=limits)  # type: ignore[arg-type]

    with ExitStack() as stack:
        index = stack.enter_context(LineIndex())
        read_input(options.input, check, index)
        output = LineFile(options.output)
        stack.callback(output.close)
        errors = LineFile(options.errors)
        stack.callback(errors.close)
        before = read_answers(output, index, options.input)
        failed_before = read_answers(errors, index, options.input)
        tally = Tally(index.total, before, failed_before)
        end = End.COMPLETE
        account_error = ""
        if index.answered < index.total:
            end, account_error = _send(options, settings, console, stack, check, index, output, errors, tally)
        else:
            ended = "are answered already" if not failed_before else "were answered or have failed already"
            _say(console, f"all {index.total:,} lines of {options.input} {ended}: nothing was sent")
            if failed_before:
                _say(console, f"to try the failed ones again, move {options.errors} away and run again")
        return _conclude(options, console, tally, end, account_error)


def _send(
    options: RunOptions,
    settings: Settings,
    console: Console,
    stack: ExitStack,
    check: Check,
    index: LineIndex,
    output: LineFile,
    errors: LineFile,
    tally: Tally,
) -> tuple[End, str]:
    settings = _with_simulator(options, settings, stack)
    queue = stack.enter_context(MiraQueue(settings))
    settings = settings.model_copy(update={"redis_url": SecretStr(queue.redis_url)})
    display = make_display(console)
    _announce(options, settings, console, tally)
    log = settings.state_dir / "worker.log"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fleet = Fleet(settings, options.workers, log, display.say)
    stack.callback(fleet.stop, settings.grace + STOP_MARGIN)
    fleet.start()
    slots = max(1, options.workers) * settings.concurrency
    window = Window(queue, max(SMALLEST_WINDOW, slots * WINDOW_PER_SLOT), output, errors, index, tally)
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    account = account_name(settings.api_base, key)
    lines = unanswered_lines(options.input, check, index)
    watch = Watch(lambda: queue.ledger.pace_view(account), lambda: len(window.open), told=settings.told)
    with _interrupts() as (interrupted, hurry), display:
        loop = RunLoop(window, lines, tally, display, watch.reason, fleet.tend, interrupted)
        end = loop.run()
        if end is End.INTERRUPTED:
            display.say("stopping: calls in flight may end, the rest is left for the next run (again: stop at once)")
        if end is not End.COMPLETE:
            loop.drain(settings.grace, hurry)
            fleet.hurry = bool(window.open)
    window.close()
    return end, str(window.account_error.to_error()) if window.account_error else ""


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


def _announce(options: RunOptions, settings: Settings, console: Console, tally: Tally) -> None:
    where = f"the simulator ({settings.api_base}): no real answers" if options.simulate else settings.api_base
    todo = tally.total - tally.done
    again = f", going on after {tally.done:,} that are answered already" if tally.done else ""
    _say(console, f"{todo:,} of {tally.total:,} requests of {options.input} go to {where}{again}")


def _conclude(options: RunOptions, console: Console, tally: Tally, end: End, account_error: str) -> RunResult:
    answered, failed = tally.before + tally.succeeded, tally.failed_before + tally.failed
    sent = tally.succeeded + tally.failed
    if sent:
        rate = f" in {duration(tally.elapsed_s)}, {tally.per_second:.1f} a second"
        tokens = f"; {tally.prompt_tokens:,} tokens in, {tally.completion_tokens:,} out"
        _say(console, f"this run: {sent:,} lines{rate}{tokens}")
    _say(console, f"answered: {answered:,} of {tally.total:,} in {options.output}")
    if failed:
        new = f" (now: {tally.errors()})" if tally.failed else ""
        _say(console, f"failed: {failed:,} in {options.errors}{new}")
    if tally.unanswered_calls:
        _say(console, f"calls whose answer was lost, and which may have been billed: {tally.unanswered_calls:,}")
    code = EXIT_SOME_FAILED if failed else EXIT_ANSWERED
    reason = end.value
    if end is End.ACCOUNT:
        code, reason = EXIT_ACCOUNT, account_error
        _say(console, f"stopped by the account: {account_error}")
        _say(console, "mend it and run the same command again: it goes on where it stopped")
    elif end is End.INTERRUPTED:
        code = EXIT_INTERRUPTED
        _say(console, "interrupted: run the same command again, and it goes on where it stopped")
    return RunResult(
        exit_code=code,
        total=tally.total,
        answered=answered,
        failed=failed,
        codes=dict(tally.codes),
        unanswered_calls=tally.unanswered_calls,
        prompt_tokens=tally.prompt_tokens,
        completion_tokens=tally.completion_tokens,
        seconds=round(tally.elapsed_s, 3),
        output=str(options.output),
        errors=str(options.errors),
        reason=reason,
    )


def _check_paths(options: RunOptions) -> None:
    if not options.input.is_file():
        raise InputError(f"{options.input}: no such file: give a file with one JSON request a line")
    paths = {"--output": options.output.resolve(), "--errors": options.errors.resolve()}
    for name, path in paths.items():
        if path == options.input.resolve():
            raise InputError(f"{name} is the input file itself: name another one")
    if paths["--output"] == paths["--errors"]:
        raise InputError("--output and --errors are the same file: name two")


@contextmanager
def _interrupts() -> Iterator[tuple[threading.Event, threading.Event]]:
    """(interrupted, hurry): set by the first and by the second Ctrl-C or SIGTERM, instead of an exception anywhere."""
    interrupted, hurry = threading.Event(), threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        # No word from here: the signal may have come in the middle of one.
        (hurry if interrupted.is_set() else interrupted).set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted, hurry
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
