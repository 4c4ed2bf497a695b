"""Usage of projects: what counts for the limits of their API keys. The scripts of jobs and batches write it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from mira_queue.contract import names
from mira_queue.contract.project_limits import ProjectUsage
from mira_queue.ledger.script_runner import ScriptRunner

_DAY_S = 86_400


class ProjectUsages(ScriptRunner):
    """Operations that read the usage of projects."""

    def usage_of(self, project: str) -> ProjectUsage:
        return self.usages_of([project])[0]

    def usages_of(self, projects: Sequence[str]) -> list[ProjectUsage]:
        """Return the usage of each of these projects, in one round trip. The day is that of the server, in UTC."""
        pipeline: Any = self._client.pipeline(transaction=False)
        pipeline.time()
        for project in projects:
            pipeline.hmget(names.usage_key(project), "day", "jobs", "lines", "cost", "reserved")
        (now_s, _), *found = pipeline.execute()
        return [
            _usage(now_s // _DAY_S, *(int(Decimal((value or b"0").decode())) for value in values)) for values in found
        ]


def _usage(today: int, day: int, jobs: int, lines: int, cost: int, reserved: int) -> ProjectUsage:
    return ProjectUsage(jobs, lines, cost if day == today else 0, reserved)
