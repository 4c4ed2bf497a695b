"""What tokens cost, from a table of the user's, `prices.toml`: the API says how many they were, and no more."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from mira_producer.jsonl.errors import InputError

# Looked for in the working directory when no file is named.
DEFAULT_TABLE = Path("prices.toml")
# A price is written for so many tokens, as providers write it.
PER_TOKENS = 1_000_000
# Keeps a slip such as 1e300 from making sums that no one can read.
MOST = Decimal(1_000_000_000)
MOST_CURRENCY_CHARS = 12


@dataclass(frozen=True, slots=True)
class Price:
    """Of one model, for a million tokens each."""

    prompt: Decimal
    completion: Decimal


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices by model, all in one currency, so that they can be added up. Empty: nothing is known."""

    currency: str = ""
    models: Mapping[str, Price] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.models)

    def cost(self, model: str, prompt_tokens: int, completion_tokens: int) -> Decimal | None:
        """Exact, in `currency`. None: no price is known for this model."""
        price = self.models.get(model)
        if price is None:
            return None
        return (prompt_tokens * price.prompt + completion_tokens * price.completion) / PER_TOKENS


def load_prices(path: Path | None) -> Prices:
    """The table at `path`; None: `prices.toml` of the working directory, or no prices where there is none.

    Raises InputError: one line with the file and the field.
    """
    if path is None:
        if not DEFAULT_TABLE.exists():
            return Prices()
        path = DEFAULT_TABLE
    try:
        with path.open("rb") as file:
            # Decimal: 0.1 of a cent a million times is to be what it says.
            table = tomllib.load(file, parse_float=Decimal)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {os.strerror(error.errno or 0)}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: no TOML: {error}") from None
    try:
        return _prices(table)
    except _Wrong as error:
        raise InputError(f"{path}, {error}") from None


def money(amount: Decimal, currency: str) -> str:
    """For people: two decimals, four below one, and never a zero for something."""
    if amount == 0 or amount >= 1:
        shown = f"{amount:,.2f}"
    elif amount >= Decimal("0.0001"):
        shown = f"{amount:.4f}"
    else:
        return f"under 0.0001 {currency}"
    return f"{shown} {currency}"


class _Wrong(Exception):
    """A field, and what is wrong with it."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")


def _prices(table: Mapping[str, Any]) -> Prices:
    _no_more_than(table, "currency", "models")
    currency = table.get("currency")
    if (
        not isinstance(currency, str)
        or not currency.strip()
        or len(currency) > MOST_CURRENCY_CHARS
        or not currency.isprintable()
    ):
        raise _Wrong("currency", 'expected a short name, such as "USD"')
    models = table.get("models")
    if not isinstance(models, dict) or not models:
        raise _Wrong("models", "expected a table for each model, such as [models.mira]")
    return Prices(currency.strip(), {name: _price(f"models.{name}", entry) for name, entry in models.items()})


def _price(name: str, entry: object) -> Price:
    if not isinstance(entry, dict):
        raise _Wrong(name, "expected a table with prompt and completion")
    _no_more_than(entry, "prompt", "completion", inside=f"{name}.")
    return Price(_amount(f"{name}.prompt", entry), _amount(f"{name}.completion", entry))


def _amount(name: str, entry: Mapping[str, Any]) -> Decimal:
    value = entry.get(name.rpartition(".")[2])
    if value is None:
        raise _Wrong(name, "is missing: the price of a million tokens")
    # bool is an int to Python; not-a-number is neither below nor above anything.
    if not isinstance(value, int | Decimal) or isinstance(value, bool) or not Decimal(value).is_finite():
        raise _Wrong(name, "expected a number: the price of a million tokens")
    if not 0 <= value <= MOST:
        raise _Wrong(name, f"expected a number from 0 to {MOST:,}")
    return Decimal(value)


def _no_more_than(table: Mapping[str, Any], *names: str, inside: str = "") -> None:
    for name, value in table.items():
        if name in names:
            continue
        if inside and isinstance(value, dict):
            raise _Wrong(f"{inside}{name}", 'a model\'s name that holds a dot needs quotes: [models."a-1.5"]')
        raise _Wrong(f"{inside}{name}"[:80], f"no such field: expected {' and '.join(names)}")
