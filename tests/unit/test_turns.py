"""Turns of projects: how many lines of a batch go ahead of the others."""

from __future__ import annotations

import pytest
from mira_producer.batches.turns import MAX_SHARE, Turns, share_of_batch

from mira_queue.contract.batch import Batch, BatchOrigin, BatchStatus


def batch(name: str, project: str, account: str = "account") -> Batch:
    return Batch(name, BatchStatus.IN_PROGRESS, "a.jsonl", "here", 1, account=account, origin=BatchOrigin(project))


@pytest.mark.parametrize(
    ("limit", "projects", "own", "share"),
    [(3, 1, 1, 0), (3, 1, 5, 0), (3, 2, 1, 1), (64, 2, 1, MAX_SHARE), (64, 8, 2, 4), (3, 10, 1, 1), (0, 2, 1, 4)],
)
def test_projects_share_the_calls_in_flight(limit: int, projects: int, own: int, share: int) -> None:
    assert share_of_batch(limit, projects, own) == share


def test_batches_of_one_project_or_of_other_accounts_do_not_count() -> None:
    turns = Turns()
    with turns.takes_part(batch("a1", "a")), turns.takes_part(batch("a2", "a")):
        with turns.takes_part(batch("b1", "b", "another")):
            assert turns.share("a1", 8) == turns.share("b1", 8) == 0
        with turns.takes_part(batch("b2", "b")):
            assert (turns.share("a1", 8), turns.share("b2", 8)) == (2, 4)
        assert turns.share("a1", 8) == 0
