"""Which batches a supervisor has to run, as the ledger lists them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mira_queue.contract.batch import Batch, BatchFiles, BatchStatus
from mira_queue.contract.commands import Retry
from mira_queue.ledger.ledger import Ledger


def batch(batch_id: str, status: BatchStatus = BatchStatus.IN_PROGRESS) -> Batch:
    return Batch(batch_id, status, "in.jsonl", "here:/", 1)


def test_only_batches_that_a_supervisor_has_to_run_are_open(ledger: Ledger) -> None:
    files = BatchFiles(*(Path(f"/{number}") for number in range(5)))
    ledger.write_batch(batch("open"))
    ledger.write_batch(batch("finished", BatchStatus.COMPLETED))
    ledger.write_batch(replace(batch("run"), files=files))
    ledger.write_batch(batch("forgotten"))
    ledger.forget_batch("forgotten")
    assert ledger.open_batches() == ["open"]

    ledger.write_batch(batch("open", BatchStatus.FAILED))
    ledger.write_batch(batch("finished", BatchStatus.IN_PROGRESS))
    assert ledger.open_batches() == ["finished"]

    for each in ledger.batches():
        ledger.forget_batch(each.id)


def test_a_commanded_retry_opens_a_batch_that_has_ended(ledger: Ledger) -> None:
    ledger.write_batch(batch("ended", BatchStatus.COMPLETED))
    ledger.send_command("ended", Retry())

    assert ledger.reopen_for_retry("ended", 2).status is BatchStatus.IN_PROGRESS
    assert ledger.batch("ended").status is BatchStatus.IN_PROGRESS
    assert ledger.open_batches() == ["ended"]
    ledger.forget_batch("ended")


def test_a_batch_that_has_ended_again_after_a_retry_stays_ended(ledger: Ledger) -> None:
    ledger.write_batch(batch("ended", BatchStatus.COMPLETED))
    ledger.send_command("ended", Retry())
    # Between the command and the next step of the client, which may be stopped there for any time.
    ledger.ack_command("ended", Retry())

    assert ledger.reopen_for_retry("ended", 2).status is BatchStatus.COMPLETED
    assert ledger.open_batches() == []
    ledger.forget_batch("ended")


def test_a_batch_is_restored_only_if_it_was_lost(ledger: Ledger) -> None:
    there = batch("there")
    ledger.write_batch(there)

    assert ledger.restore_batch(replace(there, paused="lost", paused_by="lost")) == ledger.batch("there") == there
    assert ledger.restore_batch(batch("lost", BatchStatus.COMPLETED)).status is BatchStatus.COMPLETED
    assert {each.id for each in ledger.batches()} == {"there", "lost"}
    for each in ledger.batches():
        ledger.forget_batch(each.id)
