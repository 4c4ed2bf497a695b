"""Tasks that run as long as the gateway."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import structlog
from mira_producer.gateway import app
from structlog.testing import capture_logs


def test_a_task_that_raises_is_logged_and_begins_again_and_the_others_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[str] = []

    async def scenario() -> None:
        again, other = anyio.Event(), anyio.Event()

        async def fails(_: Any) -> None:
            began.append("fails")
            if len(began) > 1:
                again.set()
            raise TypeError("a bug")

        async def runs(_: Any) -> None:
            await again.wait()
            other.set()
            await anyio.sleep_forever()

        monkeypatch.setattr(app, "BACKGROUND", (fails, runs))
        monkeypatch.setattr(app, "RESTART_AFTER_S", 0.01)
        context: Any = SimpleNamespace(log=structlog.get_logger())
        with anyio.fail_after(10):
            async with app._background(context):
                await other.wait()

    with capture_logs() as logged:
        anyio.run(scenario)

    assert {(each["event"], each["log_level"]) for each in logged} == {("background_task_failed", "error")}
