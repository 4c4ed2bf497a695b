"""The shim sets the clock of a running server, and of the one that replaces it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis

from mira_queue.ledger.embedded import EmbeddedServer, is_supported
from tests.chaos.result_monitor import client_url
from tests.chaos.server_clock import HOUR_S, ServerClock, find_compiler


@pytest.mark.skipif(not is_supported() or not find_compiler(), reason="needs the embedded server and a C compiler")
def test_the_clock_of_the_server_jumps_and_stays_shifted_after_a_restart(tmp_path: Path) -> None:
    clock = ServerClock(tmp_path / "clock")
    server = EmbeddedServer(tmp_path / "state", find_binary=clock.find_binary)

    def ahead_s() -> float:
        with redis.Redis.from_url(client_url(server.url)) as client:
            seconds, microseconds = client.time()
            return float(seconds + microseconds / 1e6 - time.time())

    with server:
        assert abs(ahead_s()) < 60
        clock.set(HOUR_S)
        assert abs(ahead_s() - 3600) < 60
    with server:
        assert abs(ahead_s() - 3600) < 60
        clock.set(-HOUR_S)
        assert abs(ahead_s() + 3600) < 60


@pytest.mark.skipif(not is_supported() or not find_compiler(), reason="needs the embedded server and a C compiler")
def test_every_jump_changes_the_clock_and_it_never_drifts_away(tmp_path: Path) -> None:
    clock = ServerClock(tmp_path)
    offsets = [0]
    for pick in (0.0, 0.0, 0.9, 0.9, 0.4, 0.6, 0.99):
        jump_s = clock.jump(pick)
        offsets.append(offsets[-1] + jump_s)
        assert jump_s
        assert clock.offset_s == offsets[-1]
    assert set(offsets) <= {-HOUR_S, 0, HOUR_S}
