"""Prices of tokens, from the user's table `prices.toml`. The API reports tokens, but not their price."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from mira_producer.jsonl.errors import InputError

# Used if no file is named. It is in the working directory.
DEFAULT_TABLE = Path("prices.toml")
# A price is that of this many tokens, as providers state it.
PER_TOKENS = 1_000_000
# A mistake such as 1e300 must not lead to sums that cannot be read.
MAX_PRICE = 1_000_000_000
MAX_CURRENCY_CHARS = 12
_EXPECTED = {
    "currency": 'expected a short name, such as "USD"',
    "models": "expected a table for each model, such as [models.mira]",
}


def _number(value: object) -> Decimal:
    # In Python, a bool is an int.
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("expected a number: the price of a million tokens")
    return Decimal(value)


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("expected printable characters")
    return value


Amount = Annotated[Decimal, Field(ge=0, le=MAX_PRICE, allow_inf_nan=False), BeforeValidator(_number)]
Currency = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_CURRENCY_CHARS),
    AfterValidator(_printable),
]


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Price:
    """The prices of a million tokens of one model."""

    prompt: Amount
    completion: Amount


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Prices:
    """Prices by model, all in one currency, so that costs can be added. Without models, no price is known."""

    currency: Currency = ""
    models: Annotated[Mapping[str, Price], Field(min_length=1)] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.models)

    def cost(self, model: str, prompt_tokens: int, completion_tokens: int) -> Decimal | None:
        """Return the exact cost in `currency`, or None if the model has no price."""
        price = self.models.get(model)
        if price is None:
            return None
        return (prompt_tokens * price.prompt + completion_tokens * price.completion) / PER_TOKENS


def load_prices(path: Path | None) -> Prices:
    """Return the table at `path`, or that of the working directory, or no prices if there is none.

    Raises InputError with the file, the key, and what is expected.
    """
    text = read_table(path)
    return Prices() if text is None else parse_table(text, path or DEFAULT_TABLE)


def read_table(path: Path | None) -> bytes | None:
    """Return the content of the table that `load_prices` uses, or None if there is none. Raises InputError."""
    if path is None:
        if not DEFAULT_TABLE.exists():
            return None
        path = DEFAULT_TABLE
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {os.strerror(error.errno or 0)}") from None


def parse_table(text: bytes, path: Path) -> Prices:
    """Return the table with this content. `path` is for the message. Raises InputError."""
    try:
        # Decimal: a million times 0.1 must be exactly 100,000.
        table = tomllib.loads(text.decode(), parse_float=Decimal)
        # Both keys have defaults for code that has no table. A table must have both.
        return TypeAdapter(Prices).validate_python({"currency": "", "models": {}, **table})
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: is not TOML: {error}") from None
    except ValidationError as error:
        # An unknown key first: a misspelled key is also a missing one.
        first = min(error.errors(include_url=False), key=lambda each: each["type"] != "unexpected_keyword_argument")
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}, {key[:80]}: {_EXPECTED.get(key) or _reason(first)}") from None


def _reason(error: Any) -> str:
    if error["type"] != "unexpected_keyword_argument":
        return str(error["msg"]).removeprefix("Value error, ")
    has_dot = error["loc"][0] == "models" and isinstance(error["input"], dict)
    return "no such key" + (": the name of a model that has a dot needs quotes" if has_dot else "")


def money(amount: Decimal, currency: str) -> str:
    """Return an amount for people: two decimals, four below 1, and never zero for a small amount."""
    if amount == 0 or amount >= 1:
        shown = f"{amount:,.2f}"
    elif amount >= Decimal("0.0001"):
        shown = f"{amount:.4f}"
    else:
        return f"under 0.0001 {currency}"
    return f"{shown} {currency}"
