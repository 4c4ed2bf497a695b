"""The compose stack as a test sees it: a project of its own, an environment of its own, gone at the end."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.queue_process import API_KEY
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
STAND_INS = Path(__file__).with_name("stand_in_images.sh")
PASSWORD = "not-for-production_" + uuid.uuid4().hex
# Building the image downloads its dependencies.
BUILD_TIMEOUT_S = 1200.0
COMMAND_TIMEOUT_S = 180.0
# A worker is healthy for a minute after its last touch, then the check fails twice; and machines are slow.
HEALTH_WITHIN_S = 180.0


def why_not() -> str | None:
    """Why the stack cannot be tested here; None when it can."""
    if os.environ.get("MIRA_TEST_DOCKER") != "1":
        return "builds images, which takes minutes: set MIRA_TEST_DOCKER=1"
    if _compose_command() is None:
        return "no docker-compose found"
    if subprocess.run(["docker", "version"], capture_output=True).returncode:
        return "no Docker Engine answers"
    return None


def _compose_command() -> list[str] | None:
    if shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


needs_engine = [
    pytest.mark.docker,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(why_not() is not None, reason=why_not() or ""),
]


class Stack:
    """`variables` are what a user would write into .env."""

    def __init__(self, env_file: Path, **variables: str) -> None:
        command = _compose_command()
        assert command is not None
        self.redis_port = _free_port()
        self.gateway_port = _free_port()
        self.project = f"mira-queue-test-{uuid.uuid4().hex[:8]}"
        # Nothing of the user's own: neither his .env, nor his variables, nor his image.
        own = {name: value for name, value in os.environ.items() if not name.startswith(("MIRA_", "COMPOSE_"))}
        self._environment = own | {
            "REDIS_PASSWORD": PASSWORD,
            "REDIS_PORT": str(self.redis_port),
            "GATEWAY_PORT": str(self.gateway_port),
            "IMAGE_TAG": "test",
            "MIRA_API_KEY": API_KEY,
            "MIRA_API_BASE": "http://simulator:8080/v1",
            **_base_images(),
            **variables,
        }
        env_file.touch()
        self._compose = [*command, "--project-directory", str(ROOT), "--file", str(ROOT / "docker-compose.yml")]
        self._compose += ["--project-name", self.project, "--env-file", str(env_file)]

    def redis_url(self, database: int) -> str:
        """The server from this host. The workers of the stack work in database 0."""
        return f"redis://:{PASSWORD}@127.0.0.1:{self.redis_port}/{database}"

    @property
    def gateway_url(self) -> str:
        """The gateway from this host."""
        return f"http://127.0.0.1:{self.gateway_port}"

    def compose(self, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S, check: bool = True) -> str:
        """docker-compose with these arguments; its standard output."""
        return self._run(*self._compose, *arguments, timeout_s=timeout_s, check=check)

    def docker(self, *arguments: str) -> str:
        return self._run("docker", *arguments, timeout_s=COMMAND_TIMEOUT_S, check=True)

    def up(self, *services: str, workers: int = 0) -> None:
        """Start these services, and so many workers; returns when all are healthy."""
        if workers:
            services = (*services, "worker")
        scale = ["--scale", f"worker={workers}"] if workers else []
        self.compose("up", "--detach", *scale, *services)
        for service in services:
            for container in self.containers(service):
                self.wait_health(container, "healthy")

    def wait_health(self, container: str, status: str) -> None:
        """Wait until the engine calls it `healthy`, or `unhealthy`."""
        wait_until(f"{container} is {status}", lambda: self._health(container) == status, HEALTH_WITHIN_S)

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--quiet", service).split()

    def inspect(self, thing: str) -> dict[str, Any]:
        """What the engine knows about a container or an image."""
        found: dict[str, Any] = json.loads(self.docker("inspect", thing))[0]
        return found

    def _health(self, container: str) -> str:
        return str(self.inspect(container)["State"]["Health"]["Status"])

    def _run(self, *command: str, timeout_s: float, check: bool) -> str:
        done = subprocess.run(
            command, env=self._environment, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout


@contextmanager
def running(**variables: str) -> Iterator[Stack]:
    """A built stack, nothing of it started yet; containers, network and volume are removed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder) / "empty.env", **variables)
        try:
            stack.compose("--profile", "simulator", "build", "worker", "simulator", timeout_s=BUILD_TIMEOUT_S)
            yield stack
        finally:
            stack.compose(
                "--profile", "simulator", "--profile", "dashboard", "down", "--volumes", "--remove-orphans", check=False
            )


def _base_images() -> dict[str, str]:
    """The user's choice of base images, else stand-ins: a test must not depend on what can be pulled today."""
    if "PYTHON_IMAGE" in os.environ and "REDIS_IMAGE" in os.environ:
        return {}
    said = subprocess.run([STAND_INS], stdout=subprocess.PIPE, text=True, timeout=BUILD_TIMEOUT_S, check=True).stdout
    return dict(word.split("=", 1) for word in said.removeprefix("export ").split())


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
