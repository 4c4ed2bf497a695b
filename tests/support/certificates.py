"""A certificate authority of a test, and a server's certificate for loopback, made with the openssl command."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

OPENSSL = shutil.which("openssl")

needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="the openssl command is not installed")


class Certificates:
    """Files `ca`, `certificate` and `key` in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self.ca, self.certificate, self.key = (folder / name for name in ("ca.pem", "server.pem", "server.key"))
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        self._run("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca -keyout ca.key -out ca.pem")
        self._run("req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr")
        self._run(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem"
        )

    def _run(self, arguments: str) -> None:
        assert OPENSSL is not None
        subprocess.run([OPENSSL, *arguments.split()], cwd=self._folder, check=True, capture_output=True)
