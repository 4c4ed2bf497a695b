"""A real gateway for tests: `mira-queue serve` with an embedded server and a worker, on a free port."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from mira_queue import MiraQueue
from mira_queue.contract.settings import Settings
from mira_queue.ledger.connection import connect
from tests.support import redis_keys
from tests.support.batch_steps import end_supervisors
from tests.support.cli_process import Cli
from tests.support.queue_process import QUICK
from tests.support.waiting import wait_until

STOP_TIMEOUT_S = 60.0
# The SDK retries twice by default. A test that expects an error does not wait for that.
NO_RETRIES = 0


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway. `key` is its first one, with the scope admin; `cli` runs commands on the same queue."""

    process: subprocess.Popen[str]
    url: str
    key: str
    cli: Cli
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1].partition("/")[0])

    @property
    def state_dir(self) -> Path:
        return Path(self.cli.settings["state_dir"])

    @property
    def settings(self) -> Settings:
        """The settings of a producer on the same queue."""
        wanted = {**QUICK, **self.cli.settings}
        return Settings(_env_file=None, **{name: value for name, value in wanted.items() if value is not None})

    def create_key(self, name: str, *options: str) -> str:
        done = self.cli("keys", "create", "--name", name, *options)
        assert done.code == 0, done.err
        return done.out.strip()

    def client(self, key: str = "", **options: Any) -> openai.OpenAI:
        """Return the official SDK's client. It closes its connections when it is collected."""
        return openai.OpenAI(base_url=self.url, api_key=key or self.key, **{"max_retries": NO_RETRIES, **options})

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_TIMEOUT_S)


@contextmanager
def started_gateway(*arguments: str, workers: int = 1, **settings: Any) -> Iterator[Gateway]:
    """Run a gateway with a state directory of its own; at the end it has left no key of Redis behind.

    `settings` are those of the gateway, its worker, and its supervisor, such as `api_base`.
    """
    folder = Path(tempfile.mkdtemp(prefix="mq-gateway-"))
    cli = Cli(folder, state_dir=folder / "state", **settings)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        log = folder / "gateway.log"
        process = stack.enter_context(cli.start("serve", "--port", "0", "--workers", str(workers), *arguments, log=log))
        stack.callback(process.kill)
        assert process.stdout is not None
        lines = [process.stdout.readline().strip().partition("=") for _ in range(2)]
        assert [name for name, *_ in lines] == ["OPENAI_BASE_URL", "OPENAI_API_KEY"], log.read_text()
        gateway = Gateway(process, lines[0][2], lines[1][2], cli, log)
        # Keeps the embedded server running until the keys have been checked.
        queue = stack.enter_context(MiraQueue(gateway.settings))
        yield gateway
        end_supervisors(queue)
        if process.poll() is None:
            assert gateway.stop() == 0, log.read_text()
        with connect(queue.redis_url) as client:
            wait_until("no key is left behind", lambda: not redis_keys.leaked(client))
