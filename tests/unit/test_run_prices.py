"""The user's table of prices: exact sums, and a clear line for everything that is wrong in it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from mira_producer.cost.prices import load_prices, money
from mira_producer.jsonl.errors import InputError

GOOD = (
    'currency = "EUR"\n[models.mira]\nprompt = 0.1\ncompletion = 2\n[models."a-1.5"]\nprompt = 3\ncompletion = 4.25\n'
)


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_call_costs_what_its_tokens_cost(tmp_path: Path) -> None:
    prices = load_prices(table(tmp_path, GOOD))

    assert prices
    assert prices.currency == "EUR"
    assert prices.cost("mira", 1_000_000, 0) == Decimal("0.1")
    assert prices.cost("mira", 3, 5) == Decimal("0.0000103")
    assert prices.cost("a-1.5", 1_000_000, 2_000_000) == Decimal("11.50")


def test_a_million_small_costs_add_up_to_the_cent(tmp_path: Path) -> None:
    cost = load_prices(table(tmp_path, GOOD)).cost("mira", 1, 0)

    assert cost is not None
    assert cost * 1_000_000 == Decimal("0.1")


def test_the_cost_of_a_model_without_a_price_is_not_known(tmp_path: Path) -> None:
    assert load_prices(table(tmp_path, GOOD)).cost("mira-pro", 10, 10) is None


def test_without_a_table_nothing_has_a_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    prices = load_prices(None)

    assert not prices
    assert prices.cost("mira", 1, 1) is None


def test_a_table_in_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prices.toml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)

    assert load_prices(None).currency == "EUR"


def test_the_example_is_a_good_table() -> None:
    prices = load_prices(Path(__file__).parents[2] / "examples" / "prices.toml")

    assert prices.cost("mira", 1_000_000, 1_000_000) == 3


MODEL = 'currency = "USD"\n[models.mira]\n'


@pytest.mark.parametrize(
    ("text", "key", "keyword"),
    [
        ("currency = ", "", "TOML"),
        ("", "currency", "USD"),
        ("currency = 3", "currency", "USD"),
        ('currency = "\\u001b[31m"', "currency", "USD"),
        ('currency = "USD"', "models", "[models.mira]"),
        ('currency = "USD"\nmodels = 3', "models", "[models.mira]"),
        ('currency = "USD"\n[models]\nmira = 3', "models.mira", "dictionary"),
        ('currency = "USD"\n[prices.mira]\nprompt = 1', "prices", "no such key"),
        (MODEL + "prompt = 1", "models.mira.completion", "required"),
        (MODEL + 'prompt = "1"\ncompletion = 1', "models.mira.prompt", "number"),
        (MODEL + "prompt = true\ncompletion = 1", "models.mira.prompt", "number"),
        (MODEL + "prompt = nan\ncompletion = 1", "models.mira.prompt", "number"),
        (MODEL + "prompt = inf\ncompletion = 1", "models.mira.prompt", "number"),
        (MODEL + "prompt = -1\ncompletion = 1", "models.mira.prompt", "0"),
        (MODEL + "prompt = 1e300\ncompletion = 1", "models.mira.prompt", "1000000000"),
        (MODEL + "prompt = 1\ncompletion = 1\ninput = 2", "models.mira.input", "no such key"),
        (MODEL + "promt = 1\ncompletion = 1", "models.mira.promt", "no such key"),
        ('currency = "USD"\n[models.a-1.5]\nprompt = 1\ncompletion = 1', "models.a-1.5", "quotes"),
    ],
)
def test_a_wrong_table_is_one_line_with_file_and_key(tmp_path: Path, text: str, key: str, keyword: str) -> None:
    path = table(tmp_path, text)

    with pytest.raises(InputError) as caught:
        load_prices(path)

    said = str(caught.value)
    assert said.startswith(f"{path}, {key}: " if key else f"{path}: ")
    assert keyword in said
    assert "\n" not in said


def test_a_table_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.toml: cannot be read: No such file or directory"):
        load_prices(tmp_path / "none.toml")


def test_a_directory_or_a_picture_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        load_prices(tmp_path)
    path = tmp_path / "table.toml"
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(InputError, match="is not UTF-8"):
        load_prices(path)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0", "0.00 USD"),
        ("0.00001", "under 0.0001 USD"),
        ("0.0123", "0.0123 USD"),
        ("1.005", "1.00 USD"),
        ("12345.678", "12,345.68 USD"),
    ],
)
def test_money_is_never_a_zero_for_something(amount: str, shown: str) -> None:
    assert money(Decimal(amount), "USD") == shown
