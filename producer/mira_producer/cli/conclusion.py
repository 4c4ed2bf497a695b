"""The end of a run: what is printed, the object of `--json`, and the exit code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mira_producer.engine.options import End
from mira_producer.engine.plan import Plan
from mira_producer.jsonl.result_line import NOT_RUN
from mira_producer.text import duration, plural

EXIT_ANSWERED = 0
EXIT_SOME_FAILED = 1
EXIT_STOPPED = 3
EXIT_INTERRUPTED = 130
# All other ends have the code of their lines.
EXIT_CODES = {
    End.ACCOUNT: EXIT_STOPPED,
    End.BUDGET: EXIT_STOPPED,
    End.FILES: EXIT_STOPPED,
    End.INTERRUPTED: EXIT_INTERRUPTED,
}

Say = Callable[[str], None]


def conclude(batch_id: str, plan: Plan, end: End, reason: str, say: Say) -> dict[str, Any]:
    """Print how a run ended, and return what `--json` prints. `reason` is why, as a message.

    `cost` is exact; None without prices.
    """
    stats, output, errors = plan.stats, plan.files.output, plan.files.errors
    answered, failed = stats.before + stats.succeeded, stats.failed_before + stats.failed
    # Lines that expired or were cancelled were not run. They are written in a moment, and would raise the rate.
    sent = stats.succeeded + stats.failed - sum(stats.codes[code] for code in NOT_RUN)
    if sent > 0:
        rate = f" in {duration(stats.elapsed_s)}, {sent / max(stats.elapsed_s, 1e-9):.1f} per second"
        cost = f"; {stats.usage.cost_text(stats.prices.currency)}" if stats.prices else ""
        say(f"this run: {plural(sent, 'line')}{rate}; {stats.usage.tokens_text()}{cost}")
    say(f"answered: {answered:,} of {stats.total:,} in {output}")
    if failed:
        new = f" (this run: {stats.errors()})" if stats.failed else ""
        say(f"failed: {failed:,} in {errors}{new}")
    if stats.unanswered_calls:
        say(f"calls whose answer was lost, and which may have been billed: {stats.unanswered_calls:,}")
    rejected = plan.retryable.total()
    among = f", {rejected:,} of them in {errors}" if 0 < rejected < plan.left else f", in {errors}" if rejected else ""
    left = f"{plural(plan.left, 'line')} pending{among}"
    restart = "the same command again to resume"
    elsewhere = f"to run the other lines later, move {errors} away and run the same command again"
    messages = {
        End.COMPLETE: [],
        End.ACCOUNT: [f"stopped by the account: {reason}", f"{left}: fix the account and run {restart}"],
        End.BUDGET: [f"stopped: {reason}", f"{left}: run the same command again with a larger budget to resume"],
        End.FILES: [f"stopped: {reason}", left],
        End.EXPIRED: [f"the deadline has passed: {elsewhere}"],
        End.CANCELLED: [f"cancelled: {elsewhere}"],
        End.INTERRUPTED: [f"interrupted: run {restart}"],
    }
    for message in messages[end]:
        say(message)
    is_answered = not failed and not plan.left
    return {
        "exit_code": EXIT_CODES.get(end, EXIT_ANSWERED if is_answered else EXIT_SOME_FAILED),
        "batch_id": batch_id,
        "total": stats.total,
        "answered": answered,
        "failed": failed,
        "codes": stats.codes,
        "unanswered_calls": stats.unanswered_calls,
        "prompt_tokens": stats.usage.prompt_tokens,
        "completion_tokens": stats.usage.completion_tokens,
        "answers_without_usage": stats.usage.uncounted,
        "cost": f"{stats.usage.cost:f}" if stats.prices else None,
        "currency": stats.prices.currency or None,
        "seconds": round(stats.elapsed_s, 3),
        "output": str(output),
        "errors": str(errors),
        "reason": reason,
    }
