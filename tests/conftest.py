"""Fixtures of all tests: a server, a simulator, workers, and a client. All are real, and all are stopped at the end.

MIRA_TEST_REDIS_URL=redis://:password@host:6379/0 runs the tests against that server instead of an embedded one. Its
database must be empty: every test clears it, and so the tests run one at a time.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis

from mira_queue import MiraQueue
from mira_queue.contract import names
from mira_queue.contract.settings import Settings
from mira_queue.ledger.connection import connect
from mira_queue.ledger.embedded import EmbeddedServer
from mira_queue.runtime.accounts_file import load_accounts
from mira_queue.runtime.network_path import CA_VARIABLES
from tests.support import redis_keys
from tests.support.gateway_process import Gateway, started_gateway
from tests.support.queue_process import QUICK, WorkerProcess
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

SERVER_VARIABLE = "MIRA_TEST_REDIS_URL"
NETWORK_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", *(name.lower() for name in CA_VARIABLES))
# A job that a test leaves running ends, and its last keys with it, a moment after the test.
SETTLE_S = 20.0

StartWorker = Callable[..., WorkerProcess]
OpenQueue = Callable[..., MiraQueue]

_shared_workers: list[WorkerProcess] = []


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get(SERVER_VARIABLE) and config.getoption("numprocesses", None):
        raise pytest.UsageError(f"{SERVER_VARIABLE}: tests side by side would clear its database for each other: -n 0")
    # Started in the background, a shell tells us to ignore Ctrl-C, and every process of the tests would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _without_the_users_environment()


def _without_the_users_environment() -> None:
    """Remove what the user has set for real work: variables, proxies, and certificates."""
    for name in list(os.environ):
        ours = name.startswith("MIRA_") and not name.startswith("MIRA_TEST_")
        if ours or name.lower() in NETWORK_VARIABLES:
            del os.environ[name]
    # How long an example takes says something of the machine, and nothing of the code.
    hypothesis.settings.register_profile(
        "tests", deadline=None, max_examples=60, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("tests")


@pytest.fixture(autouse=True, scope="session")
def _away_from_the_users_env_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A `.env` in the working directory would be read: tests run in a directory without one."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("empty"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A directory whose path is short enough for a socket's."""
    folder = Path(tempfile.mkdtemp(prefix="mq-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_url(short_folder: Path) -> Iterator[str]:
    """The server of this session: MIRA_TEST_REDIS_URL, or an embedded one."""
    url = os.environ.get(SERVER_VARIABLE)
    if url:
        with connect(url) as client:
            # Connecting has written the version of the schema.
            if count := client.dbsize() - client.exists(names.SCHEMA_KEY):
                pytest.exit(f"{SERVER_VARIABLE}: its database holds {count} keys, and tests would delete them", 2)
        yield url
        with connect(url) as client:
            client.flushdb()
        return
    with EmbeddedServer(short_folder / "server") as url:
        yield url


@pytest.fixture(scope="session")
def _redis_connection(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as client:
        yield client


@pytest.fixture(autouse=True)
def _no_key_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """A clean database before every test that uses the server, and no leaked key after it."""
    if "redis_url" not in request.fixturenames:
        yield
        return
    client: redis.Redis = request.getfixturevalue("_redis_connection")
    redis_keys.clear(client)
    yield
    try:
        wait_until("no key is left behind", lambda: not redis_keys.leaked(client), SETTLE_S)
    except AssertionError:
        pytest.fail("Redis keys left behind:\n" + "\n".join(redis_keys.leaked(client)))


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Return a port that rejects connections, whatever else runs on this machine: bound, but not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def redis_client(_redis_connection: redis.Redis) -> redis.Redis:
    """The session's server, for looking and for meddling."""
    return _redis_connection


@pytest.fixture(scope="session")
def simulator_process() -> Iterator[SimulatorProcess]:
    """The session's simulator; its URL stays the same, so that a worker of a whole module can point to it."""
    with SimulatorProcess.start() as simulator:
        yield simulator


@pytest.fixture
def simulator(simulator_process: SimulatorProcess) -> Iterator[SimulatorProcess]:
    """The session's simulator as new: counts forgotten now, configuration restored at the end."""
    before = simulator_process.config()
    simulator_process.reset()
    yield simulator_process
    simulator_process.configure(**before)


@pytest.fixture(scope="module")
def worker(
    redis_url: str, simulator_process: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    """One worker for all tests of a module, quick, on the session's server and simulator. Not to be killed."""
    folder = tmp_path_factory.mktemp("worker")
    with WorkerProcess.start(folder, redis_url=redis_url, api_base=simulator_process.url) as process:
        _shared_workers.append(process)
        yield process
        _shared_workers.remove(process)


@pytest.fixture
def start_worker(redis_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts workers for one test: `start_worker(lease=2, wait=False)`. Not in a module that uses `worker`."""
    assert not _shared_workers, "the worker of this module would take the jobs: use start_worker in another module"
    with ExitStack() as stack:

        def start(**options: Any) -> WorkerProcess:
            settings = {"redis_url": redis_url, "api_base": simulator.url, **options}
            return stack.enter_context(WorkerProcess.start(tmp_path, **settings))

        yield start


@pytest.fixture(scope="module")
def gateway(simulator_process: SimulatorProcess) -> Iterator[Gateway]:
    """A gateway for all tests of a module, with a worker, on the session's simulator. Not to be stopped."""
    with started_gateway(api_base=simulator_process.url) as running:
        yield running


@pytest.fixture
def settings(redis_url: str, simulator_process: SimulatorProcess, tmp_path: Path) -> Settings:
    """Settings of a producer, or of parts of a worker, on the session's server and simulator; files are the test's."""
    places = {"redis_url": redis_url, "api_base": simulator_process.url, "state_dir": tmp_path / "state"}
    return Settings(_env_file=None, **{**QUICK, **places})


@pytest.fixture
def account(settings: Settings) -> str:
    """The id of the account of these settings."""
    return load_accounts(settings).current.id


@pytest.fixture
def open_queue(settings: Settings) -> Iterator[OpenQueue]:
    """Opens clients of other accounts: `open_queue(api_base=server.url)`."""
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(MiraQueue(settings.model_copy(update=changes)))


@pytest.fixture
def queue(settings: Settings) -> Iterator[MiraQueue]:
    """The client under test."""
    with MiraQueue(settings) as client:
        yield client
