"""Meaning of a user's options to an engine: the limits of its budget, its deadline, and why it stopped."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from typing import get_args

from mira_producer.cost.budget import Budget, BudgetLimits
from mira_producer.cost.prices import Prices
from mira_producer.cost.spending import Spending
from mira_producer.cost.usage import Usage
from mira_producer.jsonl.errors import InputError
from mira_queue.contract.batch import BatchOptions, OnAccountError, OnChanged
from mira_queue.contract.commands import Resume
from mira_queue.contract.project_limits import checked_amount


class End(Enum):
    """Why an engine stopped, or a whole run."""

    COMPLETE = "every line has its answer or its error"
    ACCOUNT = "the account was rejected"
    INTERRUPTED = "interrupted"
    EXPIRED = "the deadline has passed"
    BUDGET = "the budget is used up"
    CANCELLED = "cancelled by a command"
    FILES = "a file cannot be used"


def check_options(options: BatchOptions, prices: Prices) -> None:
    """Raise InputError if an option is wrong, or if a limit of the cost has no price table."""
    if options.on_account_error not in get_args(OnAccountError):
        raise InputError(f"on_account_error: expected pause or fail, got {options.on_account_error[:40]!r}")
    if options.changed not in get_args(OnChanged):
        raise InputError(f"changed: expected rerun or keep, got {options.changed[:40]!r}")
    for name, number in (("max_requests", options.max_requests), ("max_tokens", options.max_tokens)):
        if number < 0:
            raise InputError(f"{name}: expected 0 (no limit) or more, got {number}")
    if options.max_cost:
        parse_amount(options.max_cost)
        if not prices:
            raise InputError("--max-cost needs a price table: --prices FILE, or prices.toml in the working directory")


def parse_amount(text: str) -> Decimal:
    """Return a limit of the cost. Raise InputError if the text is not an amount that `checked_amount` accepts."""
    try:
        return checked_amount(text)
    except ValueError as error:
        raise InputError(f"--max-cost: {error}") from None


def budget_of(options: BatchOptions) -> BudgetLimits | None:
    """Return the limits that are set; None if there are none."""
    cost = Decimal(options.max_cost) if options.max_cost else None
    if not options.max_requests and not options.max_tokens and not cost:
        return None
    return BudgetLimits(options.max_requests or None, options.max_tokens or None, cost)


def spending_of(options: BatchOptions, used: Usage, prices: Prices) -> Spending | None:
    """Return the budget, with what was used of it; None if no limit is set."""
    limits = budget_of(options)
    return Spending(Budget(limits, used), prices) if limits else None


def is_late(options: BatchOptions) -> bool:
    """Return True if the deadline has passed."""
    return bool(options.deadline_s) and time.time() >= options.deadline_s


def time_left(options: BatchOptions) -> timedelta | None:
    """Return the time until the deadline, which may have passed; None without a deadline."""
    return timedelta(seconds=options.deadline_s - time.time()) if options.deadline_s else None


def with_new_limits(options: BatchOptions, command: Resume) -> BatchOptions:
    """Return the options with the limits, and the choice about changed lines, that a resume names."""
    return replace(options, **{name: limit for name, limit in asdict(command).items() if limit is not None})
