"""Errors of the account, and what a run does about them: it pauses, or writes one error per line."""

from __future__ import annotations

from mira_producer.jsonl.request_line import InputLine
from mira_queue.contract.batch import OnAccountError
from mira_queue.contract.errors import Cause, ModelNotInPlan, error_for_code
from mira_queue.contract.outcome import Failure, Outcome


class AccountErrors:
    """The account errors that a run received. `default_model` is the model of lines that name none.

    A run that pauses keeps lines for later: all of them on 401 and 402, on 403 those of that model. Lines that received
    the error are written with it, and run again, too. A run that fails takes the error for the line's outcome.
    """

    def __init__(self, on_error: OnAccountError, default_model: str) -> None:
        self._pauses = on_error == "pause"
        self._default_model = default_model
        #: The error that every line would get: nothing more may be submitted.
        self.stop: Failure | None = None
        #: Models that the account's plan lacks, with the first error of each.
        self.held: dict[str, Failure] = {}
        #: Lines that received an account error: how many, and the custom_id of the first.
        self.count = 0
        self.first_id = ""

    def model_of(self, line: InputLine) -> str:
        return line.model or self._default_model

    def add(self, model: str, outcome: Outcome, custom_id: str) -> bool:
        """Return True if the outcome is an account error, and not the line's last outcome."""
        if not self._pauses or not is_of_account(outcome):
            return False
        assert isinstance(outcome, Failure)
        self.count += 1
        self.first_id = self.first_id or custom_id
        if outcome.code == ModelNotInPlan.code:
            self.held.setdefault(model, outcome)
        else:
            self.stop = outcome
        return True

    def text(self) -> str:
        """Describe the error, and the line that received it first; empty if there was none."""
        if self.error is None:
            return ""
        # A model's error is the reason only when nothing but its lines is left.
        models = "" if self.stop else f"{', '.join(self.held)}: "
        others = f" and {self.count - 1:,} others" if self.count > 2 else " and 1 other" if self.count == 2 else ""
        return f"{models}{self.error.to_error()}, received by {self.first_id!r}{others}"

    @property
    def error(self) -> Failure | None:
        """The error that the user has to fix first."""
        return self.stop or next(iter(self.held.values()), None)


def is_of_account(outcome: Outcome) -> bool:
    return isinstance(outcome, Failure) and error_for_code(outcome.code).cause is Cause.ACCOUNT
