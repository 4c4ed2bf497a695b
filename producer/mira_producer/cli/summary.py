"""The end of a run: what is printed, the object of `--json`, and the exit code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mira_producer.engine.options import End
from mira_producer.engine.plan import Plan
from mira_producer.text import duration, plural

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
    stats, output, errors = plan.stats, plan.files.output, plan.files.errors
    answered, failed = stats.before + stats.succeeded, stats.failed_before + stats.failed
    sent = stats.succeeded + stats.failed
    if sent:
        rate = f" in {duration(stats.elapsed_s)}, {stats.per_second:.1f} per second"
        cost = f"; {stats.usage.cost_text(stats.currency)}" if stats.prices else ""
        say(f"this run: {plural(sent, 'line')}{rate}; {stats.usage.tokens_text()}{cost}")
    say(f"answered: {answered:,} of {stats.total:,} in {output}")
    if failed:
        new = f" (this run: {stats.errors()})" if stats.failed else ""
        say(f"failed: {failed:,} in {errors}{new}")
    if stats.unanswered_calls:
        say(f"calls whose answer was lost, and which may have been billed: {stats.unanswered_calls:,}")
    code = EXIT_SOME_FAILED if failed else EXIT_ANSWERED
    rejected = plan.retryable.total()
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
        total=stats.total,
        answered=answered,
        failed=failed,
        codes=dict(stats.codes),
        unanswered_calls=stats.unanswered_calls,
        prompt_tokens=stats.usage.prompt_tokens,
        completion_tokens=stats.usage.completion_tokens,
        answers_without_usage=stats.usage.uncounted,
        cost=f"{stats.usage.cost:f}" if stats.prices else None,
        currency=stats.currency or None,
        seconds=round(stats.elapsed_s, 3),
        output=str(output),
        errors=str(errors),
        reason=reason,
    )
