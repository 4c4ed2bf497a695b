"""The machine, and the resources that processes use. Reads /proc, so Linux only."""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def described() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, Python {platform.python_version()}"


def load() -> float:
    """Return the load average of the last minute, over all processes."""
    return os.getloadavg()[0]


def tree(pid: int) -> list[int]:
    """Return the PIDs of the process and its descendants."""
    pids = [pid]
    for each in pids:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            with suppress(OSError):
                pids += map(int, task.read_text().split())
    return pids


def cpu_s(pids: Iterable[int]) -> float:
    """Return the processor time of these processes, seconds."""
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_PER_S


def peak_mib(pid: int) -> float:
    """Return the peak memory of the process; 0 if it has exited."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    return 0.0


def command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def suspend(pid: int) -> None:
    """Suspend a process and its descendants until `resume`."""
    for each in tree(pid):
        os.kill(each, signal.SIGSTOP)


def resume(pid: int) -> None:
    for each in tree(pid):
        os.kill(each, signal.SIGCONT)
