"""Text that is not valid Unicode, as Python allows it: one clear error, wherever a caller passes it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mira_queue import InvalidRequest, MiraQueue
from mira_queue.contract.errors import MiraQueueError
from tests.support.cli_process import Cli
from tests.support.run_process import write_lines

HALF = "\ud83d"
MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("key", lambda queue: queue.enqueue(MESSAGES, key=HALF)),
        ("keys[0]", lambda queue: queue.enqueue_many([{"messages": MESSAGES}], keys=[HALF])),
        ("group", lambda queue: queue.enqueue_many([{"messages": MESSAGES}], group=HALF)),
        ("body", lambda queue: queue.enqueue(MESSAGES, model=HALF)),
        ("body", lambda queue: queue.enqueue([{"role": "user", "content": HALF}])),
        ("body", lambda queue: queue.enqueue(MESSAGES, extra_body={HALF: 1})),
        ("id", lambda queue: queue.job(HALF).status()),
        ("id", lambda queue: queue.job(HALF).outcome(0)),
        ("id", lambda queue: queue.job(HALF).cancel()),
        ("id", lambda queue: queue.job(HALF).retry()),
        ("id", lambda queue: queue.batches.get(HALF)),
        ("id", lambda queue: queue.batches.pause(HALF)),
        ("id", lambda queue: queue.batches.retry(HALF)),
    ],
)
def test_a_client_names_the_field(field: str, call: Callable[[MiraQueue], Any], queue: MiraQueue) -> None:
    with pytest.raises(InvalidRequest) as caught:
        call(queue)
    assert caught.value.field == field
    str(caught.value).encode()


def test_metadata_and_the_name_of_a_file(queue: MiraQueue, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", [{"prompt": "Hello"}])
    misnamed = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jsonl"))
    misnamed.write_bytes(source.read_bytes())

    for path, metadata in ((source, {"name": HALF}), (source, {HALF: "name"}), (misnamed, {})):
        with pytest.raises(MiraQueueError):
            queue.batches.submit(path, metadata=metadata)
    assert queue.batches.all() == []


def test_commands_have_one_line_and_no_traceback(tmp_path: Path, redis_url: str) -> None:
    bad = os.fsdecode(b"\xff")
    write_lines(tmp_path / f"{bad}.jsonl", [{"prompt": "Hello"}])
    cli = Cli(tmp_path, redis_url=redis_url, state_dir=tmp_path / "state")

    for arguments in [
        ("enqueue", "Hello", "--key", bad),
        ("enqueue", bad),
        ("status", bad),
        ("result", bad),
        ("cancel", bad),
        ("retry", bad),
        ("pause", bad),
        ("run", f"{bad}.jsonl", "--simulate"),
        ("submit", f"{bad}.jsonl"),
    ]:
        done = cli(*arguments)
        assert done.code in (1, 2), arguments
        assert "unexpected" not in done.err, done.err
        assert done.err.count("\n") == 1, done.err
    assert cli("enqueue", "Hello", state_dir=tmp_path / bad, redis_url=None).code == 2
