"""What the account refuses, and what a run does about it: it pauses, or notes one error a line."""

from __future__ import annotations

from mira_producer.engine.options import OnAccountError
from mira_producer.jsonl.request_line import InputLine
from mira_queue.contract.errors import Cause, ModelNotInPlan, error_for_code
from mira_queue.contract.outcome import Failure, Outcome


class Account:
    """The refusals that a run has met. `default_model` is that of lines that name none.

    A pausing run leaves lines as they are, for the next run: all of them on 401 and 402, on 403 those of that model;
    those that met the refusal are noted with it, and run again, too. A failing one takes it for the line's outcome.
    """

    def __init__(self, on_error: OnAccountError, default_model: str) -> None:
        self._pauses = on_error == "pause"
        self._default_model = default_model
        #: What refuses every line: nothing more is to be handed in.
        self.stop: Failure | None = None
        #: Models that the plan lacks, with the first refusal of each.
        self.held: dict[str, Failure] = {}
        #: The lines that met a refusal: how many, and the first, by its custom_id.
        self.met = 0
        self.met_first = ""

    def model_of(self, line: InputLine) -> str:
        return line.model or self._default_model

    def note(self, model: str, outcome: Outcome, custom_id: str) -> bool:
        """True: the outcome is the account's refusal, and not the line's last."""
        if not self._pauses or not is_of_account(outcome):
            return False
        assert isinstance(outcome, Failure)
        self.met += 1
        self.met_first = self.met_first or custom_id
        if outcome.code == ModelNotInPlan.code:
            self.held.setdefault(model, outcome)
        else:
            self.stop = outcome
        return True

    def words(self) -> str:
        """What was refused, why, and who met it first; empty: nothing was."""
        if self.error is None:
            return ""
        # Of a model, once nothing but its lines is left; else what refuses every line.
        whose = "" if self.stop else f"{', '.join(self.held)}: "
        others = f" and {self.met - 1:,} others" if self.met > 2 else " and 1 other" if self.met == 2 else ""
        return f"{whose}{self.error.to_error()}, met by {self.met_first!r}{others}"

    @property
    def error(self) -> Failure | None:
        """The refusal that somebody has to mend first."""
        return self.stop or next(iter(self.held.values()), None)


def is_of_account(outcome: Outcome) -> bool:
    return isinstance(outcome, Failure) and error_for_code(outcome.code).cause is Cause.ACCOUNT
