"""What an owner wishes of a batch is kept until it is done, and a newer wish is not lost with an older one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from mira_queue.contract.batch import Batch, BatchStatus, new_batch_id
from mira_queue.ledger.ledger import Ledger

ROUNDS = 300


@pytest.fixture
def batch_id(ledger: Ledger) -> Iterator[str]:
    batch = Batch(new_batch_id(), BatchStatus.IN_PROGRESS, "input.jsonl", "here", 1)
    ledger.write_batch(batch)
    yield batch.id
    ledger.forget_batch(batch.id)


def test_a_wish_that_is_done_is_no_wish_any_more(ledger: Ledger, batch_id: str) -> None:
    ledger.wish(batch_id, "pause")
    ledger.wish_done(batch_id, "resume")
    assert ledger.wish_of(batch_id) == "pause"

    ledger.wish_done(batch_id, "pause")
    ledger.wish_done(batch_id, "pause")
    assert ledger.wish_of(batch_id) == ""


def test_a_wish_that_comes_while_an_older_one_is_being_done_stays(ledger: Ledger, batch_id: str) -> None:
    both = threading.Barrier(2)

    def do() -> None:
        for _ in range(ROUNDS):
            both.wait()
            ledger.wish_done(batch_id, "pause")
            both.wait()

    with ThreadPoolExecutor(1) as keeper:
        done = keeper.submit(do)
        kept = 0
        for _ in range(ROUNDS):
            ledger.wish(batch_id, "pause")
            both.wait()
            ledger.wish(batch_id, "cancel")
            both.wait()
            kept += ledger.wish_of(batch_id) == "cancel"
        done.result()

    assert kept == ROUNDS
