"""Several processes, one embedded server: who starts it, who stops it, and what survives when any of them is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mira_queue.ledger.embedded import (
    EmbeddedServer,
    EmbeddedServerError,
    EmbeddedServerUnavailable,
    find_binary,
    locks,
)
from mira_queue.ledger.embedded.files import locate_files
from mira_queue.ledger.embedded.process import read_pid, unavailable
from tests.waiting import wait_until

USER = """
import sys
from pathlib import Path
from mira_queue.ledger.embedded import EmbeddedServer

server = EmbeddedServer(Path(sys.argv[1]))
with server:
    print(server.status().pid, flush=True)
    for line in sys.stdin:
        if line.strip() == "ensure":
            server.ensure_running()
            print(server.status().pid, flush=True)
"""


class User:
    """A process that uses the server until it is told to finish."""

    def __init__(self, state_dir: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(state_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "MIRA_API_KEY": "sk-mira-secret-of-the-user"},
        )

    def server_pid(self) -> int:
        """Waits for what the user says next: the pid of its server."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        return int(line)

    def ask_to_ensure(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("ensure\n")
        self.process.stdin.flush()

    def finish(self) -> None:
        _, errors = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, errors

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "state"
    yield path
    end_server(path)


@pytest.fixture
def start_user(state_dir: Path) -> Iterator[Callable[[], User]]:
    users: list[User] = []

    def start() -> User:
        users.append(User(state_dir))
        return users[-1]

    yield start
    for user in users:
        if user.process.returncode is None:
            user.kill()


def end_server(state_dir: Path) -> None:
    """A failed test must not leave its server behind."""
    lock = locate_files(state_dir).server_lock
    if lock.exists() and locks.is_held(lock) and (pid := read_pid(lock)):
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def is_stopped(state_dir: Path) -> bool:
    return not locks.is_held(locate_files(state_dir).server_lock) and EmbeddedServer(state_dir).status() is None


@contextmanager
def connect(url: str) -> Iterator[redis.Redis]:
    path = url.removeprefix("redis+socket://")
    with redis.Redis(unix_socket_path=path, decode_responses=True, retry=Retry(NoBackoff(), 0)) as client:
        yield client


def kill_server(server: EmbeddedServer) -> int:
    status = server.status()
    assert status is not None
    os.kill(status.pid, signal.SIGKILL)
    return status.pid


def wrapped_server(directory: Path, shell: str) -> Callable[[], Path]:
    """The real server, started by a line of shell that ends in `exec … "$SERVER" "$@"`."""
    script = directory / "wrapped-server"
    script.write_text(f"#!/bin/sh\nSERVER={find_binary()}\n{shell}\n")
    script.chmod(0o700)
    return lambda: script


def test_two_processes_share_one_server(state_dir: Path, start_user: Callable[[], User]) -> None:
    first, second = start_user(), start_user()
    assert first.server_pid() == second.server_pid()
    first.finish()
    assert not is_stopped(state_dir)
    second.finish()
    assert is_stopped(state_dir)


def test_the_data_survive_the_last_user(state_dir: Path) -> None:
    with EmbeddedServer(state_dir) as url, connect(url) as client:
        client.set("job", "accepted")
    assert is_stopped(state_dir)
    with EmbeddedServer(state_dir) as url, connect(url) as client:
        assert client.get("job") == "accepted"


def test_a_killed_user_leaves_the_server_to_the_next_who_stops_it(
    state_dir: Path, start_user: Callable[[], User]
) -> None:
    killed = start_user()
    pid = killed.server_pid()
    killed.kill()
    assert not is_stopped(state_dir)
    heir = start_user()
    assert heir.server_pid() == pid
    heir.finish()
    assert is_stopped(state_dir)


def test_ten_processes_that_start_at_once_get_one_server(state_dir: Path, start_user: Callable[[], User]) -> None:
    users = [start_user() for _ in range(10)]
    assert len({user.server_pid() for user in users}) == 1
    for user in users:
        user.finish()
    assert is_stopped(state_dir)
    assert locate_files(state_dir).log.read_text().count("Server initialized") == 1


def test_users_that_come_and_go_at_once_never_lose_a_server_in_use(
    state_dir: Path, start_user: Callable[[], User]
) -> None:
    with EmbeddedServer(state_dir) as url, connect(url) as client:
        client.set("kept", "yes")
        for _ in range(3):
            users = [start_user() for _ in range(3)]
            for user in users:
                user.server_pid()
            for user in users:
                user.finish()
            assert client.get("kept") == "yes"
    assert locate_files(state_dir).log.read_text().count("Server initialized") == 1


def test_every_user_may_bring_a_killed_server_back_and_there_is_one(
    state_dir: Path, start_user: Callable[[], User]
) -> None:
    users = [start_user() for _ in range(4)]
    (pid,) = {user.server_pid() for user in users}
    os.kill(pid, signal.SIGKILL)
    for user in users:
        user.ask_to_ensure()
    (new_pid,) = {user.server_pid() for user in users}
    assert new_pid != pid


def count_until_killed(server: EmbeddedServer, url: str, kill_after: int) -> int:
    """INCR until the server dies; the last acknowledged value."""
    acknowledged = 0
    with connect(url) as client:
        client.ping()
        pid = int(client.info()["process_id"])
        killer: subprocess.Popen[bytes] | None = None
        with suppress(redis.RedisError):
            while True:
                acknowledged = int(client.incr("counter"))
                if killer is None and acknowledged >= kill_after:
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
            acknowledged = count_until_killed(server, url, expected + 500)
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
        '-e inject=fdatasync,fsync:delay_enter=500000 "$SERVER" "$@"',
    )
    server = EmbeddedServer(state_dir, find_binary=slow_disk)
    with server as url:
        # Writes for longer than a second, when "everysec" would be in the middle of an fsync.
        acknowledged = count_until_killed(server, url, 8000)
        server.ensure_running()
        with connect(url) as client:
            assert int(client.get("counter") or 0) in (acknowledged, acknowledged + 1)


def test_a_socket_file_without_a_listener_is_replaced(state_dir: Path) -> None:
    state_dir.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
        stale.bind(str(locate_files(state_dir).socket))
    with EmbeddedServer(state_dir) as url, connect(url) as client:
        assert client.ping()


def test_a_state_directory_too_deep_for_a_socket_works(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 30) / "state with spaces"
    try:
        with EmbeddedServer(deep) as url, connect(url) as client:
            client.set("job", "accepted")
        with EmbeddedServer(deep) as url, connect(url) as client:
            assert client.get("job") == "accepted"
        assert not locate_files(deep).socket.exists()
    finally:
        end_server(deep)


def test_a_state_directory_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(EmbeddedServerError, match="MIRA_STATE_DIR") as caught:
        EmbeddedServer(tmp_path / "file" / "state").acquire()
    assert "\n" not in str(caught.value)


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


def test_a_record_that_cannot_be_read_is_told_with_the_log_and_nothing_is_left_running(state_dir: Path) -> None:
    with EmbeddedServer(state_dir) as url, connect(url) as client:
        client.set("job", "accepted")
    append_to_log_of_writes(state_dir, b"this is no command\r\n" * 10)
    server = EmbeddedServer(state_dir)
    with pytest.raises(EmbeddedServerError, match="did not start") as caught:
        server.acquire()
    assert "Bad file format" in str(caught.value)
    assert str(server.log_path) in str(caught.value)
    assert is_stopped(state_dir)


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
    with pytest.raises(EmbeddedServerError, match="cannot be executed.*set MIRA_REDIS_URL") as caught:
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


def test_a_full_disk_is_one_clear_line_for_a_newcomer(tmp_path: Path, state_dir: Path) -> None:
    # SIGXFSZ ignored, the limit on file size is an error like that of a full disk.
    full = wrapped_server(tmp_path, 'trap "" XFSZ; ulimit -f 64; exec "$SERVER" "$@"')
    server = EmbeddedServer(state_dir, find_binary=full)
    with server as url, connect(url) as client:
        with suppress(redis.ResponseError):
            for number in range(100):
                client.set(f"key{number}", "x" * 2000)
        server.ensure_running()  # It answers: its users see the error of each write.
        with pytest.raises(EmbeddedServerError, match="refuses writes") as caught:
            EmbeddedServer(state_dir).acquire()
        assert "\n" not in str(caught.value)
        assert client.get("key0") == "x" * 2000
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


def test_a_fork_keeps_the_server_that_its_parent_releases(state_dir: Path) -> None:
    server = EmbeddedServer(state_dir)
    server.acquire()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write_end)
        os.read(read_end, 1)  # Until the parent closes its end.
        os._exit(0)
    try:
        os.close(read_end)
        server.release()
        assert not is_stopped(state_dir)
    finally:
        os.close(write_end)
        os.waitpid(child, 0)
    with EmbeddedServer(state_dir):
        pass
    assert is_stopped(state_dir)


def test_ctrl_c_at_the_terminal_does_not_reach_the_server(state_dir: Path) -> None:
    server = EmbeddedServer(state_dir)
    with server:
        status = server.status()
        assert status is not None
        assert os.getsid(status.pid) == status.pid != os.getsid(0)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc")
def test_the_server_knows_no_key_and_holds_no_file_of_its_user(state_dir: Path, start_user: Callable[[], User]) -> None:
    proc = Path("/proc") / str(start_user().server_pid())
    assert b"sk-mira-secret" not in (proc / "environ").read_bytes()
    opened = {os.readlink(fd) for fd in (proc / "fd").iterdir()}
    assert not [name for name in opened if name.endswith(("users.lock", "start.lock"))]


def test_the_server_is_nobody_elses(state_dir: Path) -> None:
    server = EmbeddedServer(state_dir)
    with server as url, connect(url) as client:
        client.set("prompt", "private")
        assert client.config_get("port") == {"port": "0"}
        for path in [state_dir, *state_dir.rglob("*")]:
            assert path.stat().st_mode & 0o077 == 0, path


def test_the_status_tells_a_doctor_what_runs(state_dir: Path) -> None:
    server = EmbeddedServer(state_dir)
    assert server.status() is None
    with server:
        status = server.status()
        assert status is not None
        os.kill(status.pid, 0)
        assert status.version[0].isdigit()
        assert status.memory_bytes > 0
        assert status.data_bytes > 0
        assert status.uptime_s >= 0
        assert status.socket.is_socket()
    assert server.status() is None


def test_a_server_that_was_not_acquired_is_not_started(state_dir: Path) -> None:
    server = EmbeddedServer(state_dir)
    server.release()
    with pytest.raises(EmbeddedServerError, match="not acquired"):
        server.ensure_running()
    assert not state_dir.exists()
