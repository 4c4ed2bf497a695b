"""Several processes, one embedded server: who starts it, who stops it, and what nobody else can reach."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mira_queue.ledger.embedded import (
    EmbeddedServer,
    EmbeddedServerError,
    locks,
)
from mira_queue.ledger.embedded.files import locate_files
from mira_queue.ledger.server import QueueServer
from mira_queue.runtime.settings_loader import load_settings
from tests.support.embedded_process import User, connect, end_server, is_stopped
from tests.support.waiting import wait_until


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


def test_two_processes_share_one_server(state_dir: Path, start_user: Callable[[], User]) -> None:
    first, second = start_user(), start_user()
    assert first.server_pid() == second.server_pid()
    first.finish()
    assert not is_stopped(state_dir)
    second.finish()
    assert is_stopped(state_dir)


def test_who_only_looks_finds_a_server_that_runs_and_starts_none(state_dir: Path) -> None:
    looking = QueueServer(load_settings(state_dir=state_dir, redis_url=None))
    assert looking.url_if_running() is None
    with EmbeddedServer(state_dir) as url:
        assert looking.url_if_running() == url
    assert looking.url_if_running() is None


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


def test_a_server_whose_last_user_was_killed_stops_with_its_data(
    state_dir: Path, start_user: Callable[[], User]
) -> None:
    user = start_user()
    user.server_pid()
    with connect(EmbeddedServer(state_dir).url) as client:
        client.set("job", "accepted")
    user.kill()
    wait_until("the server has stopped", lambda: is_stopped(state_dir))
    assert not locate_files(state_dir).socket.exists()
    with EmbeddedServer(state_dir) as url, connect(url) as client:
        assert client.get("job") == "accepted"


def test_a_server_without_users_ends_after_its_directory_was_deleted_and_leaves_its_successor_alone(
    state_dir: Path, start_user: Callable[[], User]
) -> None:
    user = start_user()
    pid = user.server_pid()
    with locate_files(state_dir).server_lock.open("rb") as held:
        user.kill()
        shutil.rmtree(state_dir)
        with EmbeddedServer(state_dir) as url, connect(url) as client:
            wait_until("the old server has ended", lambda: locks.try_lock(held.fileno(), fcntl.LOCK_SH))
            assert client.info()["process_id"] != pid
            assert locate_files(state_dir).socket.exists()


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
        pid = server.running_pid()
        assert pid is not None
        assert os.getsid(pid) == pid != os.getsid(0)


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


def test_the_process_of_a_running_server_is_known_and_of_a_stopped_one_is_not(state_dir: Path) -> None:
    server = EmbeddedServer(state_dir)
    assert server.running_pid() is None
    with server:
        pid = server.running_pid()
        assert pid is not None
        os.kill(pid, 0)
    assert server.running_pid() is None


def test_a_server_that_was_not_acquired_is_not_started(state_dir: Path) -> None:
    server = EmbeddedServer(state_dir)
    server.release()
    with pytest.raises(EmbeddedServerError, match="not acquired"):
        server.ensure_running()
    assert not state_dir.exists()
