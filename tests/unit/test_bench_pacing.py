"""What the pacing bench reckons: a client that wastes nothing gets a share of one, and what it wastes is missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.pacing.figures import NEVER, Call, Run, best_by_rate, figures, in_use, window_share
from bench.pacing.ideal import ideal_s
from bench.pacing.scenarios import SCENARIOS, Scenario
from bench.pacing.servers import SERVERS
from bench.pacing.start_up import START_UP
from bench.pacing.table import MISSED, Row, markdown

NAMED = {scenario.name: scenario for scenario in (*SCENARIOS, *SERVERS, *START_UP)}


def bursts(most: int, window_s: float, count: int, began_s: float = 0.0) -> list[float]:
    return [began_s + number * window_s for number in range(count) for _ in range(most)]


def run(scenario: Scenario, times: list[float], call_s: float, **seen: Any) -> Run:
    calls = [Call(at_s, "admitted", at_s + call_s) for at_s in times]
    return replace(Run(scenario, calls, times[-1] + call_s, [], 0), **seen)


def test_whole_windows_at_the_limit_are_all_that_there_is() -> None:
    assert window_share(bursts(60, 6, 10), 60, 6) == pytest.approx(1)


def test_a_window_that_comes_late_is_missing_from_the_share() -> None:
    assert window_share(bursts(60, 6, 6) + bursts(60, 6, 5, began_s=39), 60, 6) == pytest.approx(60 / 63)


def test_less_than_a_window_is_no_share() -> None:
    assert window_share(bursts(60, 6, 1), 60, 6) == 0


def test_places_are_in_use_for_as_long_as_calls_are_in_flight() -> None:
    calls = [Call(0, "admitted", 4), Call(1, "admitted", 3), Call(2, "rate", None), Call(8, "admitted", None)]

    assert in_use([call for call in calls if call.word == "admitted"], 0, 10) == pytest.approx((4 + 2 + 2) / 10)


def test_the_best_that_a_rate_admits_follows_its_changes() -> None:
    assert best_by_rate([(0, 60)], 6, 60) == 600
    assert best_by_rate([(0, 60), (27, 30)], 6, 60) == 5 * 60 + 5 * 30
    # 60 more at once, when there are more.
    assert best_by_rate([(0, 60), (27, 120)], 6, 60) == 5 * 60 + 5 * 120 + 60


def test_who_asks_at_the_best_moments_reaches_every_share() -> None:
    found = figures(run(NAMED["rate"], bursts(60, 6, 10), 0.1))

    assert found == {"steady": pytest.approx(1), "overall": pytest.approx(1), "rate_limited": 0, "early": 0}


def test_refused_calls_are_a_share_of_all() -> None:
    seen = run(NAMED["rate"], bursts(60, 6, 10), 0.1)
    seen = replace(seen, calls=[*seen.calls, *[Call(1, "rate", None)] * 6], early=2)

    assert (figures(seen)["rate_limited"], figures(seen)["early"]) == (6 / 606, 2)


def test_a_doubled_rate_is_reached_with_the_first_window_that_is_nearly_full() -> None:
    times = bursts(60, 6, 14) + bursts(120, 6, 3, began_s=14 * 6)

    found = figures(run(NAMED["doubled"], times, 0.1, changed_s=[12 * 6.0]))

    assert found["windows_to_90"] == 2


def test_what_is_never_reached_is_never() -> None:
    found = figures(run(NAMED["doubled"], bursts(60, 6, 20), 0.1, changed_s=[12 * 6.0]))

    assert found["windows_to_90"] == NEVER


def test_of_two_outages_the_slower_end_counts() -> None:
    times = [0.0, 10.2, 20.0, 26.1]

    found = figures(run(NAMED["outage"], times, 0.1, changed_s=[5.0, 21.0], attempts_lost=1))

    assert found["first_answer_s"] == pytest.approx(0.3)
    assert found["attempts_lost"] == 1


def test_processes_are_as_far_apart_as_the_busiest_and_the_idlest() -> None:
    found = figures(run(NAMED["fair"], bursts(60, 6, 10), 0.1, shares=[306, 300]))

    assert found["unfair"] == pytest.approx(0.02)


def test_the_table_marks_what_was_missed_and_judges_medians() -> None:
    runs = [{"steady": share, "overall": 0.96, "rate_limited": 0.001, "early": 0.0} for share in (0.5, 0.97, 0.99)]
    row = Row(NAMED["rate"], "mira-queue", runs, NAMED["rate"].targets)

    assert row.missed == ["steady"]
    assert f"97.0% (98.0%) {MISSED}" in markdown([row])
    assert markdown([row]).count(MISSED) == 1


# --- other servers and starts ---


def calls_of(times: list[float], call_s: float = 0.1) -> list[Call]:
    return [Call(at_s, "admitted", at_s + call_s) for at_s in times]


def found(name: str, calls: list[Call]) -> dict[str, float]:
    return figures(Run(NAMED[name], calls, calls[-1].came_s + 1, [], 0))


def test_the_ideal_time_depends_on_the_limiter() -> None:
    rate = {"rate": 60, "rate_window_s": 6.0}

    assert ideal_s(rate, 600) == pytest.approx(54, abs=0.01)
    # From the middle of a window on: it needs one full window less, because the first one costs half.
    assert ideal_s({**rate, "limiter": "fixed-window"}, 600, began_s=3.0) == pytest.approx(51, abs=0.01)
    assert ideal_s({**rate, "limiter": "token-bucket", "burst": 10}, 600) == pytest.approx(59, abs=0.01)
    assert ideal_s({**rate, "limiter": "leaky-bucket"}, 600) == pytest.approx(59.9, abs=0.01)
    assert ideal_s({**rate, "other_calls": 3.0}, 420) == pytest.approx(54, abs=0.01)
    assert ideal_s({"token_rate": 6000, "token_window_s": 6.0}, 600, tokens=100) == pytest.approx(54, abs=0.01)


def test_who_needs_twice_the_ideal_time_reaches_half() -> None:
    # An ideal client sends 10 at once, and then 10 per second.
    times = [0.0] * 10 + [number / 10 for number in range(1, 591)]

    assert found("bucket-ms", calls_of(times))["overall"] == pytest.approx(1, abs=0.001)
    assert found("bucket-ms", calls_of([2 * at_s for at_s in times]))["overall"] == pytest.approx(0.5, abs=0.001)


def test_a_run_that_was_stopped_is_compared_with_the_ideal_of_its_calls() -> None:
    calls = calls_of([0.0] * 10 + [number / 5 for number in range(1, 51)])

    assert found("bucket-ms", calls)["overall"] == pytest.approx(5 / 11, abs=0.001)


def test_slots_are_in_use_when_so_many_calls_are_in_flight() -> None:
    calls = calls_of([number / 100 for number in range(8000)], 5.0)

    figures_found = found("no-limit", calls)
    assert figures_found["slots_200_s"] == pytest.approx(1.99)
    assert figures_found["slots_1000_s"] == NEVER


def test_every_row_has_a_name_of_its_own() -> None:
    assert len(NAMED) == len(SCENARIOS) + len(SERVERS) + len(START_UP)
