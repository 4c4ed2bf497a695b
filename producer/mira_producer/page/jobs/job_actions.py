"""Actions on all jobs that match: the question, the action in the background, and its progress.

The question fixes the filter: its times become absolute, and it ends at the time of the question. The action concerns
the jobs that match this filter when it begins, at most as many as were counted. A job that was accepted, or that
failed, after the question is left out.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, cast, get_args
from urllib.parse import urlencode

from starlette.background import BackgroundTask
from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.client import MiraQueue
from mira_producer.gateway.context import Context
from mira_producer.gateway.http.errors import invalid, not_found
from mira_producer.gateway.http.threads import in_thread
from mira_producer.gateway.http.whole_number import whole_number
from mira_producer.page.jobs.filter_form import FilterForm
from mira_producer.page.rendering import fragment, render
from mira_producer.page.views import Redirect, action, live, view
from mira_producer.page.visitor import Audience, Visitor
from mira_queue.contract import names
from mira_queue.contract.errors import QueueUnavailable
from mira_queue.contract.job_filter import JobFilter
from mira_queue.contract.states import JobState
from mira_queue.ledger.job_actions import JobAction, Verb, new_action_id

PATH = "/jobs/all"
# Jobs that are handled between two writes of the progress.
PIECE = 50
# An action whose progress was not written for so long belongs to a gateway that has crashed.
SILENT_MS = 60_000
STOPPED = "the gateway was stopped"
UNAVAILABLE = "the queue's server was unavailable"
CRASHED = "the gateway has crashed, or has lost the queue's server"
_ACTION_ID = re.compile(r"act_[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Question:
    """An action that waits for its confirmation. `until_ms` is the time of the question, and `count` how many match."""

    verb: Verb
    form: FilterForm
    wanted: JobFilter
    asked_ms: int
    count: int

    def ids(self, queue: MiraQueue) -> list[str]:
        """Return the jobs that the action concerns, now."""
        if self.verb == "cancel":
            found = queue.ledger.each_listed(self.wanted, only_open=True)
        elif self.wanted.state in (None, JobState.FAILED):
            found = queue.ledger.each_listed(replace(self.wanted, state=JobState.FAILED))
        else:
            return []
        return [
            job.id for job in islice((each for each in found if (each.finished_ms or 0) <= self.asked_ms), self.count)
        ]


def routes(context: Context) -> list[BaseRoute]:
    views = _JobActions(context)
    return [
        view(context, f"{PATH}/confirm", views.ask),
        action(context, PATH, views.begin),
        view(context, f"{PATH}/{{id}}", views.show),
        live(context, f"/live{PATH}/{{id}}", views.changes),
    ]


class _JobActions:
    """Handlers of the views and of the action."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def ask(self, request: Request, visitor: Visitor) -> Response:
        queue = self._context.queue
        asked_ms = await in_thread(queue.ledger.now_ms)
        now = datetime.fromtimestamp(asked_ms / 1000, UTC)
        verb = _verb_of(request.query_params)
        given = FilterForm.of(request.query_params)
        form = given.fixed(now)
        wanted = form.wanted(visitor.project, now)
        count = await in_thread(queue.count_cancellable if verb == "cancel" else queue.count_retryable, wanted)
        return render(
            request,
            visitor,
            "job_action_confirm.html",
            verb=verb,
            form=form,
            count=count,
            asked_ms=asked_ms,
            since_ms=wanted.since_ms,
            until_ms=wanted.until_ms,
            back="/jobs" + (f"?{urlencode(given.query, doseq=True)}" if given.query else ""),
            action_id=new_action_id(),
            max_listed=names.MAX_LISTED,
        )

    async def begin(self, request: Request, visitor: Visitor) -> Response:
        fields: ImmutableMultiDict[str, str] = request.state.form
        question = _question_of(fields, visitor)
        action_id = fields.get("action", "")
        if not _ACTION_ID.fullmatch(action_id):
            raise invalid("action", "expected the ID that the question has")
        place = f"{PATH}/{action_id}"
        ids = await in_thread(question.ids, self._context.queue)
        now_ms = _now_ms()
        progress = JobAction(
            action_id,
            question.verb,
            visitor.name,
            visitor.project,
            urlencode(question.form.query, doseq=True),
            len(ids),
            now_ms,
            now_ms,
        )
        # A form that is sent twice acts once.
        if not await in_thread(self._context.queue.ledger.begin_job_action, progress):
            return Redirect(request, place)
        running = _Running(self._context, progress, ids)
        if len(ids) <= PIECE:
            await running.run()
            return Redirect(request, place)
        response = Redirect(request, place)
        response.background = BackgroundTask(running.run)
        return response

    async def show(self, request: Request, visitor: Visitor) -> Response:
        values = await self._read(request, visitor.audience)
        is_running = values["state"] == "running"
        live_path = f"/live{PATH}/{values['action'].id}" if is_running else ""
        return render(request, visitor, "job_action.html", live=live_path, **values)

    async def changes(self, request: Request, audience: Audience) -> Mapping[str, str]:
        values = await self._read(request, audience)
        return {"action": fragment(request, audience, "parts/job_action_state.html", **values)}

    async def _read(self, request: Request, audience: Audience) -> dict[str, Any]:
        action_id = request.path_params["id"]
        found = None
        if _ACTION_ID.fullmatch(action_id):
            found = await in_thread(self._context.queue.ledger.job_action, action_id)
        if found is None or not audience.sees(found.project):
            raise not_found("action", action_id)
        if not found.has_ended and _now_ms() - found.written_ms > SILENT_MS:
            found = replace(found, has_ended=True, stopped=CRASHED)
        state = "running" if not found.has_ended else "stopped" if found.stopped else "done"
        return {"action": found, "state": state}


class _Running:
    """An action in progress."""

    def __init__(self, context: Context, progress: JobAction, job_ids: Sequence[str]) -> None:
        self._context = context
        self._progress = progress
        self._ids = job_ids

    async def run(self) -> None:
        """Act on the jobs, in pieces. If that stops early, the progress says why."""
        stopped = STOPPED
        queue = self._context.queue
        act = queue.cancel_jobs if self._progress.verb == "cancel" else queue.retry_jobs
        try:
            for start in range(0, len(self._ids), PIECE):
                piece = self._ids[start : start + PIECE]
                changed = await in_thread(act, piece)
                await self._write(handled=start + len(piece), changed=self._progress.changed + changed)
                if self._context.live.is_stopping():
                    return
            stopped = ""
        except QueueUnavailable:
            stopped = UNAVAILABLE
        finally:
            await self._end(stopped)

    async def _write(self, **changes: Any) -> None:
        self._progress = replace(self._progress, written_ms=_now_ms(), **changes)
        await in_thread(self._context.queue.ledger.write_job_action, self._progress)

    async def _end(self, stopped: str) -> None:
        try:
            await self._write(has_ended=True, stopped=stopped)
        except QueueUnavailable:
            # Readers find out by the time of the last write.
            self._context.log.warning("job_action_not_recorded", action=self._progress.id)
        self._context.log.info(
            "job_action_ended",
            action=self._progress.id,
            verb=self._progress.verb,
            total=self._progress.total,
            changed=self._progress.changed,
            stopped=stopped,
        )


def _verb_of(given: ImmutableMultiDict[str, str]) -> Verb:
    verb = given.get("verb", "")
    if verb not in get_args(Verb):
        raise invalid("verb", f"expected {' or '.join(get_args(Verb))}")
    return cast(Verb, verb)


def _question_of(fields: ImmutableMultiDict[str, str], visitor: Visitor) -> Question:
    """Return what a form confirms. Raises ApiError, InvalidRequest."""
    form = FilterForm.of(fields)
    count, asked_ms = (whole_number(name, fields.get(name, ""), 0, 10**15) for name in ("count", "asked_ms"))
    wanted = form.wanted(visitor.project, datetime.now(UTC))
    # The fixed filter ends at the time of the question. A form without that end must not reach newer jobs.
    until_ms = asked_ms if wanted.until_ms is None else min(wanted.until_ms, asked_ms)
    return Question(_verb_of(fields), form, replace(wanted, until_ms=until_ms), asked_ms, count)


def _now_ms() -> int:
    return round(time.time() * 1000)
