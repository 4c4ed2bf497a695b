"""Debian's Chromium: `python -m tests.support.chromium` installs it if it is missing, and it can be installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome")
INSTALL = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", "install", "-y", "--no-install-recommends", "chromium")
INSTALL_TIMEOUT_S = 200
MISSING = "no Chromium, and it cannot be installed: on Debian, run apt-get install chromium as root"


def chromium() -> str | None:
    """Return the path of Chromium. Install it if needed, which only root can do."""
    return _installed() or (_install() if os.geteuid() == 0 and shutil.which(INSTALL[0]) else None)


def _installed() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def _install() -> str | None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(INSTALL, env=environment, capture_output=True, timeout=INSTALL_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return _installed()


if __name__ == "__main__":
    sys.exit(MISSING if chromium() is None else 0)
