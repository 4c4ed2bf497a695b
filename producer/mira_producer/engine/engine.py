"""A run without a console, signals or workers of its own: from a file of requests to its answers and errors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, timedelta
from itertools import islice

from mira_producer.client import MiraQueue
from mira_producer.cost.budget import Budget
from mira_producer.cost.spending import Spending
from mira_producer.engine.account_errors import Account
from mira_producer.engine.loop import Hooks, RunLoop
from mira_producer.engine.options import End, EngineOptions
from mira_producer.engine.pending_lines import unanswered_lines
from mira_producer.engine.plan import Plan
from mira_producer.engine.result_writer import Answers
from mira_producer.engine.stats import Stats
from mira_producer.engine.wait_reason import Reason, Watch
from mira_producer.engine.window import Window
from mira_producer.jsonl.request_line import OpenLine
from mira_queue.contract.batch import EXPIRED_CODE
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.outcome import Failure
from mira_queue.ledger.accounts import PaceView
from mira_queue.ledger.records import new_job_id

# Of a line that ends without an answer, though it was sent.
MAYBE_BILLED = "a call was under way, and may have been billed"
# Lines that were never run, written and synced in one go.
NEVER_RUN_AT_ONCE = 1000


class Engine:
    """Takes a plan to its end: `plan` (unless one was made before), `run`, after an early end `drain`, then `close`.

    What an earlier run was refused by the account has an error, and is run when `Plan.retry_errors` was called.

    `show(stats, reason)` draws the state and why it waits, `say(text)` says a sentence, `tend()` looks after the
    workers, `pace()` is a look at the account; all are called often, from the thread of `run`. Setting
    `interrupted` ends the run. What is written is kept: the next engine with the same options goes on there; it gets
    `billed`, too: numbers of lines that were taken back, and of which a call may have been billed.
    """

    def __init__(
        self,
        queue: MiraQueue,
        options: EngineOptions,
        *,
        show: Callable[[Stats, Reason], None],
        say: Callable[[str], None],
        tend: Callable[[], None],
        pace: Callable[[], PaceView],
        interrupted: threading.Event,
        billed: set[int] | None = None,
    ) -> None:
        self._queue = queue
        self._options = options
        self._show = show
        self._watch = Watch(
            pace,
            lambda: self.open,
            resting=lambda: self._window.resting if self._window else 0,
            configured=queue.settings.configured_limits,
            seen=self._seen,
        )
        self._hooks = Hooks(self._draw, say, tend)
        self._interrupted = interrupted
        self._billed = set() if billed is None else billed
        self._account = Account(options.on_account_error, queue.settings.model)
        self._spending: Spending | None = None
        self._plan: Plan | None = None
        self._window: Window | None = None
        self._loop: RunLoop | None = None

    def plan(self, made: Plan | None = None) -> Plan:
        """Check the input and find what is answered; or take over a plan `made` before. Raises InputError."""
        self._plan = made or Plan.make(self._options, self._queue.check)
        if self._options.budget:
            budget = Budget(self._options.budget, self._plan.used_before)
            self._spending = Spending(budget, self._options.prices)
        self._window = Window(self._queue, self._options, self._plan, self._account, self._spending, self._billed)
        self._loop = RunLoop(self._window, self._account, self._hooks, self._interrupted, self._options.deadline)
        return self._plan

    def run(self) -> End:
        """Until the run has ended, one way or another. Raises InputError when a file cannot be used any more."""
        assert self._loop is not None, "plan first"
        assert self._plan is not None, "plan first"
        end = self._loop.run()
        if end is End.EXPIRED:
            self.take_up()
        if self._plan.left:
            return end
        self._put_in_order()
        return End.COMPLETE

    def take_up(self) -> None:
        """Find what an earlier run left open when it was killed; `run` does so by handing in, where it still may."""
        assert self._window is not None, "plan first"
        self._window.take_up()

    def drain(self, patience: timedelta, hurry: threading.Event) -> None:
        """After an end that is not COMPLETE: withdraw what has not begun, and write what ends.

        Waits for what runs, for `patience` at most, or until `hurry` is set.
        """
        assert self._loop is not None, "plan first"
        self._loop.drain(patience, hurry)
        self._put_in_order()

    def withdraw(self) -> None:
        """Take back what has not begun, where the files take no answers any more; the next run finds what runs."""
        assert self._window is not None, "plan first"
        self._window.withdraw()

    def expire(self) -> None:
        """After EXPIRED and `drain`: lines that have not ended get an error that says so."""
        assert self._options.deadline is not None, "there is no deadline"
        deadline = self._options.deadline.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        self.give_up(
            EXPIRED_CODE,
            f"not run: the deadline, {deadline}, had passed",
            f"the deadline, {deadline}, passed before its answer came: {MAYBE_BILLED}",
        )

    def give_up(self, code: str, message: str, billed: str) -> None:
        """Every line that has neither answer nor error gets this error. After `drain`; what still runs is cancelled.

        `billed` is the message of lines of which a call was made whose answer nobody has waited for, or was lost. Lines
        that the account refused keep that as their error.
        """
        assert self._plan is not None, "plan first"
        assert self._window is not None, "plan first"
        self._window.abandon(code, message, billed)
        answers = Answers(self._plan, self._queue.crash_points)
        lines = unanswered_lines(self._options.input, self._queue.check, self._plan.index)
        while chunk := list(islice(lines, NEVER_RUN_AT_ONCE)):
            answers.write(
                [
                    (
                        new_job_id(),
                        OpenLine(line.number, line.custom_id),
                        Failure(code, billed if line.number in self._billed else message),
                    )
                    for line in chunk
                ]
            )
        self._plan.retryable_errors.make_final()
        self._put_in_order()

    def count_lost(self) -> None:
        """After workers were stopped in the middle of calls: count those as calls that may have been billed."""
        assert self._window is not None, "plan first"
        self._window.count_lost()

    @property
    def open(self) -> int:
        """Jobs that are handed in and have not ended."""
        return len(self._window.open) if self._window else 0

    @property
    def account_error(self) -> Failure | None:
        """What the account refused with, after ACCOUNT."""
        return self._account.error

    @property
    def held_models(self) -> tuple[str, ...]:
        """Models that the account's plan lacks: their lines are left, all others go on."""
        return tuple(self._account.held)

    def why(self, end: End) -> str:
        """The reason of this end, for people."""
        if end is End.ACCOUNT and self._account.error:
            return self._account.words()
        if end is End.BUDGET and self._spending:
            return self._spending.words()
        return end.value

    def close(self) -> None:
        """Let the files go; the ledger keeps nothing of a run that has no open job."""
        if self._window is not None:
            self._window.close()
        if self._plan is not None:
            self._plan.close()

    def _put_in_order(self) -> None:
        assert self._plan is not None, "plan first"
        self._plan.put_in_order(between=lambda: self._queue.crash_points.reach(CrashPoint.AFTER_ORDER))

    def _seen(self, view: PaceView, reason: Reason) -> None:
        assert self._plan is not None
        if self._plan.stats.recorder is not None:
            self._plan.stats.recorder.sampled(view, reason)

    def _draw(self) -> None:
        assert self._plan is not None
        self._show(self._plan.stats, self._watch.reason())
