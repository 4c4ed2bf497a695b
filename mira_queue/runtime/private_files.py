"""Files and directories that other users cannot write to, whatever the umask is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

PRIVATE_DIR_MODE = 0o700
PRIVATE_FILE_MODE = 0o600
OUTPUT_FILE_MODE = 0o644
WRITABLE_BY_OTHERS = 0o022


def make_private_dir(path: Path) -> None:
    """Create the directory and its missing parents. Raises OSError, also if another user could change its files."""
    for folder in reversed((path, *path.parents)):
        if not folder.is_dir():
            # Not `parents=True`: parents would be open to everyone with umask 0.
            folder.mkdir(mode=PRIVATE_DIR_MODE, exist_ok=True)
    found = path.stat()
    if found.st_uid != os.getuid():
        raise PermissionError(errno.EPERM, "it belongs to another user", str(path))
    if found.st_mode & WRITABLE_BY_OTHERS:
        raise PermissionError(errno.EPERM, "other users can write to it: run chmod go-w on it", str(path))


def private_opener(path: str, flags: int) -> int:
    """Create a file that only this user can access, as the `opener` of open()."""
    return os.open(path, flags, PRIVATE_FILE_MODE)


def output_opener(path: str, flags: int) -> int:
    """Create a file that other users can read, as the `opener` of open()."""
    return os.open(path, flags, OUTPUT_FILE_MODE)


def restrict_umask() -> None:
    """From now on, let this process create nothing that other users can write to. Only entry points call this."""
    os.umask(os.umask(WRITABLE_BY_OTHERS) | WRITABLE_BY_OTHERS)
