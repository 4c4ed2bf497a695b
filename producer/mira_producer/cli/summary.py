"""The end of a run: what is printed, the object of `--json`, and the exit code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mira_producer.engine.options import End
from mira_producer.engine.plan import Plan
from mira_producer.engine.wait_reason import duration
from mira_producer.text import plural

EXIT_ANSWERED = 0
EXIT_SOME_FAILED = 1
EXIT_STOPPED = 3
EXIT_INTERRUPTED = 130

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended, for the exit code and `--json`. `cost` is exact; None without prices."""

    exit_code: int
    batch_id: str
    total: int
    answered: int
    failed: int
    codes: dict[str, int]
    unanswered_calls: int
    prompt_tokens: int
    completion_tokens: int
    answers_without_usage: int
    cost: str | None
    currency: str | None
    seconds: float
    output: str
    errors: str
    reason: str


def conclude(batch_id: str, plan: Plan, end: End, reason: str, say: Say) -> RunResult:
    """Print how a run ended. `reason` is why, as a message."""
    tally, output, errors = plan.tally, plan.files.output, plan.files.errors
    answered, failed = tally.before + tally.succeeded, tally.failed_before + tally.failed
    sent = tally.succeeded + tally.failed
    if sent:
        rate = f" in {duration(tally.elapsed_s)}, {tally.per_second:.1f} per second"
        cost = f"; {tally.cost_text()}" if tally.cost_text() else ""
        say(f"this run: {plural(sent, 'line')}{rate}; {tally.tokens_text()}{cost}")
    say(f"answered: {answered:,} of {tally.total:,} in {output}")
    if failed:
        new = f" (this run: {tally.errors()})" if tally.failed else ""
        say(f"failed: {failed:,} in {errors}{new}")
    if tally.unanswered_calls:
        say(f"calls whose answer was lost, and which may have been billed: {tally.unanswered_calls:,}")
    code = EXIT_SOME_FAILED if failed else EXIT_ANSWERED
    rejected = plan.refusals.count
    among = f", {rejected:,} of them in {errors}" if 0 < rejected < plan.left else f", in {errors}" if rejected else ""
    left = f"{plural(plan.left, 'line')} pending{among}"
    if end is End.ACCOUNT:
        code = EXIT_STOPPED
        say(f"stopped by the account: {reason}")
        say(f"{left}: fix the account and run the same command again to resume")
    elif end is End.BUDGET:
        code = EXIT_STOPPED
        say(f"stopped: {reason}")
        say(f"{left}: run the same command again with a larger budget to resume")
    elif end is End.FILES:
        code = EXIT_STOPPED
        say(f"stopped: {reason}")
        say(left)
    elif end is End.EXPIRED:
        say(f"the deadline has passed: to run the other lines later, move {errors} away and run the same command again")
    elif end is End.CANCELLED:
        say(f"cancelled: to run the other lines later, move {errors} away and run the same command again")
    elif end is End.INTERRUPTED:
        code = EXIT_INTERRUPTED
        say("interrupted: run the same command again to resume")
    return RunResult(
        exit_code=code,
        batch_id=batch_id,
        total=tally.total,
        answered=answered,
        failed=failed,
        codes=dict(tally.codes),
        unanswered_calls=tally.unanswered_calls,
        prompt_tokens=tally.prompt_tokens,
        completion_tokens=tally.completion_tokens,
        answers_without_usage=tally.uncounted,
        cost=f"{tally.cost:f}" if tally.prices else None,
        currency=tally.prices.currency or None,
        seconds=round(tally.elapsed_s, 3),
        output=str(output),
        errors=str(errors),
        reason=reason,
    )
