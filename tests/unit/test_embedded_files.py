"""Where the embedded server's files go, who may touch them, and what its socket is understood to say."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mira_queue.ledger.embedded import is_supported, locks
from mira_queue.ledger.embedded.errors import EmbeddedServerUnavailable, ServerSilentError, StateDirError
from mira_queue.ledger.embedded.files import SOCKET_PATH_MAX_BYTES, locate_files
from mira_queue.ledger.embedded.process import Answer, find_binary, log_tail, probe, unavailable


def test_the_socket_lives_in_the_state_directory(tmp_path: Path) -> None:
    short = Path(os.path.realpath("/tmp")) / "mira-queue-no-such-dir"
    assert locate_files(short).socket == short / "valkey.sock"


@pytest.mark.parametrize("name", ["d" * 120, "with space", "with%percent", "with#hash", "mit-ümlaut"])
def test_a_path_that_fits_no_address_or_url_gets_a_short_socket(tmp_path: Path, name: str) -> None:
    socket_path = locate_files(tmp_path / name, tmp_path).socket
    assert socket_path.parent == tmp_path / f"mira-queue-{os.getuid()}"
    assert len(os.fsencode(locate_files(tmp_path / name).socket)) <= SOCKET_PATH_MAX_BYTES


def test_the_short_socket_is_the_same_for_every_user_and_differs_between_state_directories(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    assert locate_files(deep).socket == locate_files(deep).socket
    assert locate_files(deep / "a").socket != locate_files(deep / "b").socket


def test_a_state_directory_reached_by_a_symbolic_link_has_the_same_socket(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert locate_files(tmp_path / "link") == locate_files(tmp_path / "real")


def test_the_directories_are_private(tmp_path: Path) -> None:
    files = locate_files(tmp_path / "a" / ("d" * 120), tmp_path)
    files.prepare()
    for directory in (files.state_dir, files.socket.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777, 0o702])
def test_a_state_directory_that_other_users_can_write_to_is_rejected(tmp_path: Path, mode: int) -> None:
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    state_dir.chmod(mode)
    with pytest.raises(StateDirError, match="MIRA_STATE_DIR") as caught:
        locate_files(state_dir).prepare()
    assert "chmod" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_a_state_directory_of_another_user_is_rejected(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    os.chown(state_dir, 12345, -1)
    with pytest.raises(StateDirError, match="another user"):
        locate_files(state_dir).prepare()


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_a_state_directory_and_its_parents_are_private_whatever_the_umask_is(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        locate_files(tmp_path / "a" / "b" / "state").prepare()
    finally:
        os.umask(before)
    for directory in (tmp_path / "a").rglob("."):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_short_directory_left_open_to_others_is_closed(tmp_path: Path) -> None:
    files = locate_files(tmp_path / ("d" * 120), tmp_path)
    files.socket.parent.mkdir()
    files.socket.parent.chmod(0o777)
    files.prepare()
    assert stat.S_IMODE(files.socket.parent.stat().st_mode) == 0o700


def test_a_short_directory_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    files = locate_files(tmp_path / ("d" * 120), tmp_path)
    files.socket.parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateDirError, match="belongs to another user"):
        files.prepare()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_a_short_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    files = locate_files(tmp_path / ("d" * 120), tmp_path)
    files.socket.parent.mkdir(mode=0o700)
    os.chown(files.socket.parent, 12345, -1)
    with pytest.raises(StateDirError, match="belongs to another user"):
        files.prepare()


def test_a_lock_that_is_not_let_go_ends_in_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "start.lock"
    with locks.exclusive(path, 1):
        assert locks.is_held(path)
        with pytest.raises(ServerSilentError, match=r"start\.lock") as caught, locks.exclusive(path, 0.05):
            pass
    assert not locks.is_held(path)
    assert "\n" not in str(caught.value)


def test_a_lock_file_is_private_and_stays_out_of_programs_that_we_start(tmp_path: Path) -> None:
    fd = locks.open_lock(tmp_path / "users.lock")
    try:
        assert not os.get_inheritable(fd)
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o600
    finally:
        os.close(fd)


@contextmanager
def listener(path: Path, answer: bytes | None) -> Iterator[None]:
    """Answers every connection with the same bytes; None: never."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        while answer is not None:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(100)
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


@pytest.mark.parametrize(
    ("said", "understood"),
    [
        (b"+PONG\r\n", Answer.READY),
        (b"-LOADING Valkey is loading the dataset in memory\r\n", Answer.LOADING),
        (b"-MISCONF Errors writing to the AOF file: No space left on device\r\n", Answer.CANNOT_WRITE),
        (b"-BUSY Valkey is busy running a script.\r\n", Answer.READY),
        (b"-ERR max number of clients reached\r\n", Answer.READY),
        (b"", Answer.ABSENT),
        (None, Answer.SILENT),
    ],
)
def test_every_answer_of_a_server_is_told_apart(said: bytes | None, understood: Answer) -> None:
    # pytest's own directories may be too deep for a socket.
    path = Path(f"/tmp/mira-queue-probe-{os.getpid()}.sock")
    try:
        with listener(path, said):
            assert probe(path, 5 if said is not None else 0.1) is understood
        assert probe(path, 5) is Answer.ABSENT
    finally:
        path.unlink()


def test_no_socket_is_no_server(tmp_path: Path) -> None:
    assert probe(tmp_path / "none", 1) is Answer.ABSENT


def test_a_machine_without_the_wheel_is_not_supported() -> None:
    def missing() -> Path:
        raise unavailable()

    assert not is_supported(missing)
    with pytest.raises(EmbeddedServerUnavailable, match="set MIRA_REDIS_URL") as caught:
        missing()
    assert "\n" not in str(caught.value)


def test_this_machine_has_a_server_that_can_be_executed() -> None:
    assert os.access(find_binary(), os.X_OK)
    assert is_supported()


def test_the_end_of_a_long_log_is_shown_and_no_log_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "valkey.log"
    assert "no log" in log_tail(path)
    path.write_text("".join(f"line {number}\n" for number in range(5000)))
    assert log_tail(path).splitlines()[-1].strip() == "line 4999"
    assert len(log_tail(path).splitlines()) < 10
