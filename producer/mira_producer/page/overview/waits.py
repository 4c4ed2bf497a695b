"""Why things wait, as sentences: one for each account, and one for each batch that is paused or waits. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mira_producer.page.accounts.account_state import REJECTED_ADVICE, AccountState
from mira_producer.page.batches.batch_state import BatchState
from mira_producer.text import plural


@dataclass(frozen=True, slots=True)
class Wait:
    """One reason for a wait. `place` is the view of `subject`; `label` is the button of `action`, or empty.

    `mark` is bad if nothing continues without the user.
    """

    subject: str
    place: str
    text: str
    mark: str
    until_ms: float = 0.0
    next_is: str = "call"
    message: str = ""
    advice: str = ""
    action: str = ""
    label: str = ""


def waits_of(accounts: Iterable[AccountState], batches: Iterable[BatchState]) -> list[Wait]:
    """Return the waits, those first that need the user."""
    by_account = {account.id: list(_of_account(account)) for account in accounts}
    found = [wait for waits in by_account.values() for wait in waits]
    # A batch that waits for its account has the same reason.
    found += [
        _of_batch(state)
        for state in batches
        if state.is_open and state.reason and (state.batch.paused or not by_account.get(state.batch.account))
    ]
    return sorted(found, key=lambda wait: wait.mark != "bad")


def _of_account(state: AccountState) -> Iterator[Wait]:
    place = f"/accounts/{state.id}"
    check = (f"{place}/check", "Check the account now")
    subject = f"Account {state.id}"
    for model, failure in state.rejections:
        what = f"calls for the model {model}" if model else "every call"
        text = f"The API rejects {what} ({failure.code}): {failure.detail.rstrip('.')}."
        yield Wait(subject, place, text, "bad", advice=REJECTED_ADVICE, action=check[0], label=check[1])
    if not state.reason or any(not model for model, _ in state.rejections):
        return
    needs_user = state.kind == "worker" and not state.workers
    count = plural(state.open_jobs, "job")
    yield Wait(
        subject,
        place,
        f"{count} {'waits' if state.open_jobs == 1 else 'wait'}: {state.reason}.",
        "bad" if needs_user else "warn",
        state.until_ms,
        "probe" if state.kind == "faults" else "call",
        state.message,
        state.advice,
        *(check if state.is_held else ("", "")),
    )


def _of_batch(state: BatchState) -> Wait:
    batch = state.batch
    place = f"/batches/{batch.id}"
    return Wait(
        f"Batch {batch.input_name}",
        place,
        f"{plural(state.pending, 'line')} left. {state.reason}",
        "bad" if batch.paused else "warn",
        state.until_ms,
        "probe" if batch.waiting.kind == "faults" else "call",
        state.message,
        state.advice,
        *((f"{place}/resume", "Resume") if state.can_resume else ("", "")),
    )
