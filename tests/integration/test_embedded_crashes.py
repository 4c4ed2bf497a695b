"""What survives, and what is said, when the embedded server is killed, damaged or kept from starting."""

from __future__ import annotations

import resource
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from operator import le
from pathlib import Path

import pytest
import redis

from mira_queue.ledger.embedded import EmbeddedServer, EmbeddedServerError
from mira_queue.ledger.embedded.errors import EmbeddedServerUnavailable
from mira_queue.ledger.embedded.files import locate_files
from mira_queue.ledger.embedded.process import unavailable
from tests.support.embedded_process import connect, is_stopped, kill_server, wrapped_server
from tests.support.waiting import wait_until


def count_until_killed(url: str, enough: Callable[[int], bool]) -> int:
    """INCR until the server dies; the last acknowledged value."""
    acknowledged = 0
    with connect(url) as client:
        pid = int(client.info()["process_id"])
        killer: subprocess.Popen[bytes] | None = None
        with suppress(redis.RedisError):
            while True:
                acknowledged = int(client.incr("counter"))
                if killer is None and enough(acknowledged):
                    # Another process, so that the kill falls into the middle of our calls.
                    killer = subprocess.Popen(["/bin/kill", "-KILL", str(pid)])
        assert killer is not None
        killer.wait()
    return acknowledged


def test_what_was_acknowledged_before_the_server_was_killed_is_there(state_dir: Path) -> None:
    server = EmbeddedServer(state_dir)
    with server as url:
        expected = 0
        for _ in range(5):
            goal = expected + 500
            acknowledged = count_until_killed(url, partial(le, goal))
            server.ensure_running()
            with connect(url) as client:
                expected = int(client.get("counter") or 0)
            # The call that was cut off may have been carried out as well.
            assert expected in (acknowledged, acknowledged + 1)


def can_trace() -> bool:
    try:
        return subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not can_trace(), reason="strace slows the disk down, and is not here")
def test_a_slow_disk_does_not_hold_acknowledged_writes_back(tmp_path: Path, state_dir: Path) -> None:
    slow_disk = wrapped_server(
        tmp_path,
        "exec strace -f -qq -o /dev/null -e trace=fdatasync,fsync "
        '-e inject=fdatasync,fsync:delay_enter=1500000 "$SERVER" "$@"',
    )
    server = EmbeddedServer(state_dir, find_binary=slow_disk)
    with server as url:
        # From the first second on, "everysec" would be in one long fsync after another, and hold writes back.
        end_s = time.monotonic() + 2.2
        acknowledged = count_until_killed(url, lambda _: time.monotonic() > end_s)
        server.ensure_running()
        with connect(url) as client:
            assert int(client.get("counter") or 0) in (acknowledged, acknowledged + 1)


def test_a_socket_file_without_a_listener_is_replaced(state_dir: Path) -> None:
    state_dir.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
        stale.bind(str(locate_files(state_dir).socket))
    with EmbeddedServer(state_dir) as url, connect(url) as client:
        assert client.ping()


def append_to_log_of_writes(state_dir: Path, tail: bytes) -> None:
    (path,) = locate_files(state_dir).data_dir.glob("*.incr.aof")
    with path.open("ab") as file:
        file.write(tail)


def test_a_write_cut_in_half_by_a_crash_costs_only_itself(state_dir: Path) -> None:
    with EmbeddedServer(state_dir) as url, connect(url) as client:
        client.set("job", "accepted")
    append_to_log_of_writes(state_dir, b"*3\r\n$3\r\nSET\r\n$3\r\njob\r\n$100\r\nhal")
    with EmbeddedServer(state_dir) as url, connect(url) as client:
        assert client.get("job") == "accepted"


@pytest.mark.parametrize("half", [b"", b"*3\r\n$3\r\nSET\r\n$3\r\njob\r\n$100\r\nhal"])
def test_zeros_that_a_power_cut_left_at_the_end_are_cut_off_and_reported(
    state_dir: Path, half: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with EmbeddedServer(state_dir) as url, connect(url) as client:
        client.set("job", "accepted")
    append_to_log_of_writes(state_dir, half + bytes(4096))
    with EmbeddedServer(state_dir) as url, connect(url) as client:
        assert client.get("job") == "accepted"
        client.set("job", "after")
    assert "4,096" in caplog.text
    assert ".incr.aof" in caplog.text
    caplog.clear()
    with EmbeddedServer(state_dir) as url, connect(url) as client:
        assert client.get("job") == "after"
    assert not caplog.text


def test_an_append_only_file_of_zeros_alone_is_an_empty_one(state_dir: Path) -> None:
    with EmbeddedServer(state_dir):
        pass
    append_to_log_of_writes(state_dir, bytes(200_000))
    with EmbeddedServer(state_dir) as url, connect(url) as client:
        assert client.dbsize() == 0


def test_a_record_that_cannot_be_read_is_told_with_the_log_and_nothing_is_left_running(state_dir: Path) -> None:
    with EmbeddedServer(state_dir) as url, connect(url) as client:
        client.set("job", "accepted")
    append_to_log_of_writes(state_dir, b"this is no command\r\n" * 10)
    server = EmbeddedServer(state_dir)
    with pytest.raises(EmbeddedServerError, match="did not start") as caught:
        server.acquire()
    assert "Bad file format" in str(caught.value)
    assert str(locate_files(state_dir).log) in str(caught.value)
    assert is_stopped(state_dir)


def test_a_state_directory_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(EmbeddedServerError, match="MIRA_STATE_DIR") as caught:
        EmbeddedServer(tmp_path / "file" / "state").acquire()
    assert "\n" not in str(caught.value)


def fill(client: redis.Redis) -> int:
    """Write until the server refuses; how many writes were acknowledged."""
    for number in range(10_000):
        try:
            client.set(f"key{number}", "x" * 2000)
        except redis.ResponseError:
            return number
    raise AssertionError("the disk never became full")


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux can free this disk again")
def test_a_full_disk_is_one_clear_line_for_a_newcomer_and_costs_nothing_acknowledged(
    tmp_path: Path, state_dir: Path
) -> None:
    # SIGXFSZ ignored, the limit on file size is an error like that of a full disk.
    full = wrapped_server(tmp_path, 'trap "" XFSZ; ulimit -S -f 64; exec "$SERVER" "$@"')
    server = EmbeddedServer(state_dir, find_binary=full)
    with server as url, connect(url) as client:
        acknowledged = fill(client)
        server.ensure_running()  # It answers: its users see the error of each write.
        with pytest.raises(EmbeddedServerError, match="MIRA_STATE_DIR") as caught:
            EmbeddedServer(state_dir).acquire()
        assert "\n" not in str(caught.value)
        pid = int(client.info()["process_id"])
    # Stopped now, it would take with it what it acknowledged as the disk became full.
    assert not is_stopped(state_dir)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with connect(url) as client:
        wait_until("it can write again", lambda: client.info("persistence")["aof_last_write_status"] == "ok")
    with EmbeddedServer(state_dir):
        pass
    assert is_stopped(state_dir)
    with EmbeddedServer(state_dir) as url, connect(url) as client:
        assert client.dbsize() == acknowledged


def test_a_machine_without_the_wheel_is_told_to_set_the_url(state_dir: Path) -> None:
    def missing() -> Path:
        raise unavailable()

    with pytest.raises(EmbeddedServerUnavailable, match="set MIRA_REDIS_URL") as caught:
        EmbeddedServer(state_dir, find_binary=missing).acquire()
    assert "\n" not in str(caught.value)


def test_a_server_that_cannot_be_executed_is_one_clear_line(tmp_path: Path, state_dir: Path) -> None:
    broken = tmp_path / "valkey-server"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o700)
    with pytest.raises(EmbeddedServerError, match=r"cannot be executed.*set MIRA_REDIS_URL") as caught:
        EmbeddedServer(state_dir, find_binary=lambda: broken).acquire()
    assert "\n" not in str(caught.value)


def test_a_server_that_still_loads_is_waited_for(tmp_path: Path, state_dir: Path) -> None:
    with EmbeddedServer(state_dir) as url, connect(url) as client:
        for number in range(3000):
            client.set(f"key{number}", number)
    slow = wrapped_server(tmp_path, 'exec "$SERVER" "$@" --key-load-delay 300')
    server = EmbeddedServer(state_dir, find_binary=slow)
    with server as url, connect(url) as client:
        assert client.dbsize() == 3000
    assert is_stopped(state_dir)


def test_what_a_killed_server_was_rewriting_does_not_hold_up_the_next(state_dir: Path) -> None:
    server = EmbeddedServer(state_dir)
    with server as url, connect(url) as client:
        client.mset({f"key{number}": number for number in range(100)})
        client.config_set("rdb-key-save-delay", 10_000_000)  # us for each key: the child would take minutes
        client.bgrewriteaof()
        wait_until("a rewrite runs", lambda: client.info("persistence")["aof_rewrite_in_progress"])
        wait_until("the child writes", lambda: list(state_dir.glob("temp-*")))
        kill_server(server)
        server.ensure_running()
        assert client.dbsize() == 100
        assert not list(state_dir.glob("temp-*"))
