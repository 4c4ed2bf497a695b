"""The loop of a run: keep the window full, write what ends, know when to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mira_producer.engine.account_errors import Account
from mira_producer.engine.options import End
from mira_producer.engine.window import Window
from mira_queue.contract.errors import QueueUnavailable

COLLECT_S = 0.2
# Answers that come in this time are written, and synced, together: one by one, each would cost ten times as much.
GATHER_S = 0.1
# An announcement can be lost with the run that took it out: this often all open jobs are looked at.
LOOK_AGAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a loop does for whoever runs it, between its own steps: all are called often, and must be quick.

    `show` draws the state, `say` says a sentence, `tend` looks after the workers (what it raises ends the run).
    """

    show: Callable[[], None]
    say: Callable[[str], None]
    tend: Callable[[], None]


class RunLoop:
    """`interrupted` is set by whoever wants the run to stop."""

    def __init__(
        self,
        window: Window,
        account: Account,
        hooks: Hooks,
        interrupted: threading.Event,
        deadline: datetime | None = None,
    ) -> None:
        self._window = window
        self._account = account
        self._hooks = hooks
        self._interrupted = interrupted
        self._deadline = deadline
        self._held: list[str] = []
        self._collected_s = time.monotonic()
        self._next_look_s = time.monotonic() + LOOK_AGAIN_S

    def run(self) -> End:
        """Until every line has ended, or there is a reason to end before."""
        while (end := self._end()) is None:
            self._hooks.tend()
            try:
                if not self._window.is_fed and self._window.has_room():
                    self._window.fill()
                    # A full window at once, then answers: an empty wait only when there is nothing else to do.
                    self._step(0.01 if not self._window.is_fed and self._window.has_room() else COLLECT_S)
                else:
                    self._interrupted.wait(max(0.0, self._collected_s + GATHER_S - time.monotonic()))
                    self._step(COLLECT_S)
                self._hold()
            except QueueUnavailable as error:
                # The server may be on its way back; what is accepted is kept, and what is not will be handed in again.
                self._hooks.say(f"waiting for the queue's server: {error}")
                self._interrupted.wait(1.0)
        return end

    def _end(self) -> End | None:
        """Why the loop ends now; None: it goes on."""
        if self._account.stop:
            return End.ACCOUNT
        if self._window.is_fed and not self._window.open:
            return End.ACCOUNT if self._account.held else End.COMPLETE
        if self._interrupted.is_set():
            return End.INTERRUPTED
        if self._is_late():
            return End.EXPIRED
        return End.BUDGET if self._window.is_out_of_budget else None

    def _is_late(self) -> bool:
        return self._deadline is not None and datetime.now(UTC) >= self._deadline

    def _hold(self) -> None:
        """Lines of a model that the plan lacks are taken back, before each of them is refused as well."""
        new = [model for model in self._account.held if model not in self._held]
        if not new:
            return
        self._window.withdraw(lambda line: line.model in new)
        self._held += new
        for model in new:
            self._hooks.say(f"the account's plan lacks the model {model!r}: its lines are left, all others go on")

    def drain(self, patience: timedelta, hurry: threading.Event) -> None:
        """Withdraw what has not begun and wait for what runs, for `patience` at most, or until `hurry` is set."""
        end_s = time.monotonic() + patience.total_seconds()
        while not hurry.is_set():
            try:
                # Again each time: a running job that was refused or met a fault waits now, and can be withdrawn.
                self._window.withdraw()
                if not self._window.open or time.monotonic() >= end_s:
                    return
                self._step(COLLECT_S)
            except QueueUnavailable as error:
                if time.monotonic() >= end_s:
                    return
                self._hooks.say(f"waiting for the queue's server: {error}")
                hurry.wait(1.0)

    def _step(self, timeout_s: float) -> None:
        self._window.collect(timeout_s)
        self._collected_s = time.monotonic()
        if time.monotonic() >= self._next_look_s:
            self._next_look_s = time.monotonic() + LOOK_AGAIN_S
            self._window.look_again()
        self._hooks.show()
