"""Which batches a supervisor has to run, as the ledger lists them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mira_queue.contract.batch import Batch, BatchFiles, BatchStatus
from mira_queue.contract.commands import Pause, Retry
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


def test_batches_are_read_page_by_page_and_a_batch_that_has_gone_hides_no_other(ledger: Ledger) -> None:
    # Several in the same second: their order is that of their ids.
    created = {f"batch_{number}": 100 + number // 3 for number in range(10)}
    for batch_id, created_at in created.items():
        ledger.write_batch(replace(batch(batch_id), created_at=created_at))
    ledger.send_command("batch_4", Pause())

    pages, place = [], None
    while page := ledger.batches_after(place, 4):
        pages.append([(each.id, command) for each, command in page])
        place = (page[-1][0].created_at, page[-1][0].id)
        ledger.forget_batch(page[-1][0].id)

    newest_first = sorted(created, key=lambda each: (created[each], each), reverse=True)
    assert [len(page) for page in pages] == [4, 4, 2]
    assert [batch_id for page in pages for batch_id, _ in page] == newest_first
    assert [batch_id for page in pages for batch_id, command in page if command] == ["batch_4"]

    for each in ledger.batches():
        ledger.forget_batch(each.id)
