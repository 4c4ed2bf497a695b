"""Directives, their scripts, and faults by chance."""

from __future__ import annotations

import contextlib
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mira_queue.simulator.faults import LIMITS, SPECIAL, FaultError, RandomFaults, Script, parse_kind, parse_script


def names(script: Script, calls: int) -> list[str | None]:
    return [fault.name if (fault := script.step(call)) else None for call in range(calls)]


def test_text_without_directives_asks_for_nothing() -> None:
    script = parse_script(["hello", "[[not one]] 503"])
    assert script.steps == ()
    assert script.step(0) is None


def test_a_directive_without_a_number_is_for_every_call() -> None:
    assert names(parse_script(["please [[sim:503]] fail"]), 3) == ["503"] * 3


def test_a_directive_with_a_number_is_for_so_many_calls() -> None:
    assert names(parse_script(["[[sim:503x2]]"]), 4) == ["503", "503", None, None]


def test_several_directives_are_a_script_over_all_messages() -> None:
    script = parse_script(["[[sim:503x2]] then [[sim:429x1 retry-after=0.2]]", "[[sim:okx1]] [[sim:reset]]"])
    assert names(script, 6) == ["503", "503", "429", "ok", "reset", "reset"]
    assert script.steps[1][0].parameters == {"retry-after": "0.2"}


def test_slow_adds_up_and_takes_no_step() -> None:
    script = parse_script(["[[sim:slow=0.5]] [[sim:503x1]] [[sim:slow=1]]"])
    assert script.slow_s == 1.5
    assert names(script, 2) == ["503", None]


@pytest.mark.parametrize("kind", [*LIMITS, *SPECIAL, "400", "418", "599", "html502", "text500", "empty503", "html200"])
def test_every_documented_kind_is_read_with_and_without_a_number(kind: str) -> None:
    assert parse_kind(kind).name == kind
    assert names(parse_script([f"[[sim:{kind}x3]]"]), 4) == [kind] * 3 + [None]


@pytest.mark.parametrize(
    "text",
    [
        "[[sim:]]",
        "[[sim:503",
        "[[sim:200]]",
        "[[sim:302]]",
        "[[sim:600]]",
        "[[sim:nonsense]]",
        "[[sim:503x0]]",
        "[[sim:503 retry_after=1]]",
        "[[sim:503 retry-after]]",
        "[[sim:huge bytes=many]]",
        "[[sim:slow=soon]]",
        "[[sim:slow=-1]]",
        "[[sim:slow=nan]]",
        "[[sim:429 retry-after=date:soon]]",
    ],
)
def test_a_directive_that_cannot_be_read_is_an_error_and_not_ignored(text: str) -> None:
    with pytest.raises(FaultError):
        parse_script([text])


@given(st.text())
def test_any_text_in_a_directive_is_read_or_refused_with_our_error(text: str) -> None:
    with contextlib.suppress(FaultError):
        parse_script([f"[[sim:{text}]]"])


def test_chance_draws_the_same_faults_from_the_same_seed() -> None:
    rates = {"503": 0.2, "reset": 0.1}
    one, two = (RandomFaults(rates, random.Random(7)) for _ in range(2))
    assert [one.draw() for _ in range(500)] == [two.draw() for _ in range(500)]


def test_chance_draws_each_fault_about_as_often_as_it_is_told() -> None:
    chance = RandomFaults({"503": 0.2, "reset": 0.1}, random.Random(7))
    drawn = Counter(fault.name if (fault := chance.draw()) else None for _ in range(10_000))
    assert 1_800 < drawn["503"] < 2_200
    assert 850 < drawn["reset"] < 1_150


def test_chance_without_rates_draws_nothing() -> None:
    assert RandomFaults({}, random.Random(7)).draw() is None
    assert RandomFaults({"503": 0.0}, random.Random(7)).draw() is None
    fault = RandomFaults({"503": 1.0}, random.Random(7)).draw()
    assert fault is not None
    assert fault.status == 503
