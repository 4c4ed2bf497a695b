"""Which messages count as lost."""

from __future__ import annotations

from datetime import timedelta

from mira_worker.lane_progress import LaneProgress

PATIENCE = timedelta(seconds=10)


def test_what_was_sent_long_before_the_head_is_lost() -> None:
    assert LaneProgress(PATIENCE).lost_before_ms(60_000, 0.0) == 50_000


def test_of_jobs_sent_in_one_moment_those_before_the_head_are_lost_once_they_were_taken_out_long_ago() -> None:
    taken_out = LaneProgress(PATIENCE)
    assert taken_out.lost_before_ms(1_005, 0.0) == 0
    assert taken_out.lost_before_ms(1_008, 9.0) == 0
    assert taken_out.lost_before_ms(1_009, 10.0) == 1_005
    assert taken_out.lost_before_ms(1_009, 19.0) == 1_008


def test_nothing_behind_the_head_is_lost_whatever_an_earlier_head_said() -> None:
    taken_out = LaneProgress(PATIENCE)
    taken_out.lost_before_ms(90_000, 0.0)
    assert taken_out.lost_before_ms(1_005, 10.0) == 1_005


def test_of_an_unknown_head_nothing_is_concluded() -> None:
    taken_out = LaneProgress(PATIENCE)
    taken_out.lost_before_ms(60_000, 0.0)
    assert taken_out.lost_before_ms(0, 10.0) == 0
    assert taken_out.lost_before_ms(60_000, 11.0) == 60_000
