"""What an owner may wish of a batch, as text in the ledger: a word, and what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation

from mira_producer.cost.budget import BudgetLimits
from mira_producer.cost.prices import money
from mira_producer.cost.usage import Usage
from mira_producer.jsonl.errors import InputError
from mira_queue.contract.batch import BatchOptions

# A retry is followed by the statuses or codes that it is for, a resume by the limits of the budget that are new.
PAUSE, RESUME, CANCEL, RETRY = "pause", "resume", "cancel", "retry"


def resume_wish(max_requests: int | None, max_tokens: int | None, max_cost: str | None) -> str:
    """None: that limit stays as it is; 0 or nothing: there is none any more."""
    limits = {"max_requests": max_requests, "max_tokens": max_tokens, "max_cost": max_cost}
    return " ".join([RESUME, *(f"{name}={value}" for name, value in limits.items() if value is not None)])


def with_budget(options: BatchOptions, words: Sequence[str]) -> BatchOptions:
    """The options with the limits that a resume names."""
    found = dict(word.split("=", 1) for word in words)
    return replace(
        options,
        max_requests=int(found.get("max_requests", options.max_requests)),
        max_tokens=int(found.get("max_tokens", options.max_tokens)),
        max_cost=found.get("max_cost", options.max_cost),
    )


def budget_of(options: BatchOptions) -> BudgetLimits | None:
    """None: no limit is set."""
    cost = Decimal(options.max_cost) if options.max_cost else None
    if not options.max_requests and not options.max_tokens and not cost:
        return None
    return BudgetLimits(options.max_requests or None, options.max_tokens or None, cost)


def no_larger(limits: BudgetLimits, use: Usage, currency: str) -> str:
    """Which limits leave nothing beyond what is used, in words; empty: there is room."""
    words = {
        "requests": f"--max-requests: {use.requests:,} used, {limits.max_requests or 0:,} is no larger",
        "tokens": f"--max-tokens: {use.tokens:,} used, {limits.max_tokens or 0:,} is no larger",
        "cost": f"--max-cost: {money(use.cost, currency)} used, {money(limits.max_cost or use.cost, currency)} "
        "is no larger",
    }
    return "; ".join(words[name] for name in limits.reached(use))


def amount(text: str) -> Decimal:
    """A limit of cost, as people write it. Raises InputError."""
    try:
        cost = Decimal(text)
    except InvalidOperation:
        cost = Decimal("NaN")
    if not cost.is_finite() or cost <= 0:
        raise InputError(f"max_cost: expected an amount above 0, such as 10 or 0.50, got {text[:40]!r}")
    return cost
