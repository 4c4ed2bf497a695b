"""Files of a submitted batch: a request that is repeated finds its input, and cannot remove it."""

from __future__ import annotations

from pathlib import Path

import pytest
from mira_producer.batches.spool import Spool
from mira_producer.jsonl.errors import InputError

BATCH, QUEUE = "batch_1", "queue"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.jsonl"
    path.write_text('{"prompt": "hello"}\n')
    return path


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "state")


@pytest.mark.parametrize("link", [True, False])
def test_an_input_that_was_received_is_left_as_it_is(spool: Spool, source: Path, *, link: bool) -> None:
    files = spool.receive(BATCH, source, QUEUE, link=link)
    before = files.input.stat()

    assert spool.receive(BATCH, source, QUEUE, link=link) == files
    assert (files.input.stat().st_ino, files.input.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_a_killed_process_has_left_does_not_stop_the_next_one(spool: Spool, source: Path) -> None:
    folder = spool.receive(BATCH, source, QUEUE).input.parent
    (folder / "input.jsonl").rename(folder / "input.0.part")

    assert spool.receive(BATCH, source, QUEUE).input.read_text() == source.read_text()


def test_a_request_that_fails_removes_only_what_no_other_has_completed(spool: Spool, source: Path) -> None:
    with pytest.raises(InputError):
        spool.receive("batch_2", source.with_name("missing.jsonl"), QUEUE)
    files = spool.receive(BATCH, source, QUEUE)
    spool.receive(BATCH, source.with_name("missing.jsonl"), QUEUE)

    assert spool.folders() == {BATCH}
    assert files.input.exists()
