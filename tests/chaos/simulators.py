"""Simulated APIs of a run, one for each account, read and changed as one. The accounting tells their calls apart."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

from tests.support.simulator_process import SimulatorProcess

_SUMS = ("calls", "answered", "in_flight", "client_gone", "early")


class Simulators:
    """The simulators, in the order of the accounts."""

    def __init__(self, simulators: list[SimulatorProcess]) -> None:
        self.all = simulators
        #: The clock of each simulator minus the monotonic clock. Both count seconds of the same machine.
        self.clock_offsets_s = [simulator.stats()["uptime_s"] - time.monotonic() for simulator in simulators]

    @property
    def urls(self) -> list[str]:
        return [simulator.url for simulator in self.all]

    def stats(self) -> dict[str, int]:
        """Return the sums of calls, answered, in_flight, client_gone, early, and interim (responses of that kind)."""
        stats = [simulator.stats() for simulator in self.all]
        sums = {name: sum(each[name] for each in stats) for name in _SUMS}
        return sums | {"interim": sum(each["by_fault"].get("earlyhints", 0) for each in stats)}

    def recent(self) -> set[str]:
        """Return the contents of the requests that are in flight, or were within the last second."""
        return {content for simulator in self.all for content in simulator.recent()}

    def counts(self) -> dict[str, Counter[str]]:
        """Return the counts of calls, answered, and refused, by content."""
        found: dict[str, Counter[str]] = {}
        for simulator in self.all:
            for content, counts in simulator.requests()["by_content"].items():
                found.setdefault(content, Counter()).update(counts)
        return found

    def arrivals(self) -> list[dict[str, Any]]:
        """Return for each simulator: when each content came, in seconds of its clock, and from which accounts."""
        return [simulator.arrivals() for simulator in self.all]

    def times(self, arrivals: list[dict[str, Any]], content: str) -> list[str]:
        """Return when a content came, by the wall clock of the workers' logs."""
        behind_s = time.time() - time.monotonic()
        found = [
            came_s - offset_s + behind_s
            for offset_s, contents in zip(self.clock_offsets_s, arrivals, strict=True)
            for came_s in contents.get(content, {}).get("came_s", ())
        ]
        return [datetime.fromtimestamp(came_s, UTC).strftime("%H:%M:%S.%f")[:-3] for came_s in sorted(found)]

    def configure(self, **changes: Any) -> None:
        for simulator in self.all:
            simulator.configure(**changes)


@contextmanager
def started(count: int, **config: Any) -> Iterator[Simulators]:
    with ExitStack() as stack:
        yield Simulators([stack.enter_context(SimulatorProcess.start(**config)) for _ in range(count)])
