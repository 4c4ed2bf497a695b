"""`python -m tests.chaos.stock.batch INPUT OUTPUT ERRORS`: a typical script that runs a file of requests with Celery.

It keeps a window of open tasks and writes a line when its result is available. After a restart, it skips lines that are
already written. It stops waiting for a result after a timeout.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import orjson
from celery.result import AsyncResult
from kombu.exceptions import OperationalError
from redis import RedisError

from tests.chaos.child import end_with_driver
from tests.chaos.stock.app import CONFIG, app, chat

WINDOW = 200
PAUSE_S = 0.05
# After this time, the line counts as missing.
GIVE_UP_S = float(CONFIG["patience_s"])


def main(arguments: list[str]) -> None:
    end_with_driver()
    source, output, errors = map(Path, arguments)
    written = {entry["custom_id"] for path in (output, errors) for entry in _entries(path)}
    todo = (entry for entry in _entries(source) if entry["custom_id"] not in written)
    opened: deque[tuple[str, AsyncResult, float]] = deque()
    more = True
    with output.open("ab", buffering=0) as answers, errors.open("ab", buffering=0) as failures:
        while more or opened:
            while more and len(opened) < WINDOW:
                entry = next(todo, None)
                more = entry is not None
                if entry is not None:
                    sent = _send(entry["custom_id"], entry["body"]["messages"][0]["content"])
                    opened.append((entry["custom_id"], sent, time.monotonic()))
            for _ in range(len(opened)):
                custom_id, result, sent_s = opened.popleft()
                succeeded, text = _ended(result)
                if succeeded is not None:
                    entry = {"custom_id": custom_id, "succeeded": succeeded, "text": text}
                    line = orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
                    (answers if succeeded else failures).write(line)
                elif time.monotonic() - sent_s < GIVE_UP_S:
                    opened.append((custom_id, result, sent_s))
            time.sleep(PAUSE_S)


def _send(custom_id: str, content: str) -> AsyncResult:
    while True:
        try:
            return chat.apply_async(args=[content], task_id=f"batch-{custom_id}")
        except (OperationalError, RedisError, OSError):
            time.sleep(PAUSE_S)


def _ended(result: AsyncResult) -> tuple[bool | None, str]:
    """Return whether the task succeeded (None: it has not ended), and its answer or its error."""
    try:
        meta = app.backend.get_task_meta(result.id, cache=False)
    except (OperationalError, RedisError, OSError):
        return None, ""
    if meta["status"] == "SUCCESS":
        return True, str(meta["result"]["choices"][0]["message"]["content"])
    return (False, str(meta["result"])[:200]) if meta["status"] == "FAILURE" else (None, "")


def _entries(path: Path) -> Iterator[dict]:  # type: ignore[type-arg]
    if path.exists():
        with path.open("rb") as file:
            yield from (orjson.loads(line) for line in file if line.endswith(b"\n"))


if __name__ == "__main__":
    main(sys.argv[1:])
