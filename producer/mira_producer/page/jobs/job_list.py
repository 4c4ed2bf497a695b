"""The list of jobs, with its filter and its search."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.client import MiraQueue
from mira_producer.gateway.context import Context
from mira_producer.gateway.http.threads import in_thread
from mira_producer.page.jobs.filter_form import FIELDS, OPEN, STATES, FilterForm
from mira_producer.page.jobs.job_search import find_jobs, job_of_line
from mira_producer.page.jobs.line_search import LineSearch, find_line
from mira_producer.page.rendering import fragment, render
from mira_producer.page.views import Redirect, live, view
from mira_producer.page.visitor import Audience, Visitor
from mira_queue.contract import names
from mira_queue.contract.errors import InvalidRequest, error_codes
from mira_queue.contract.job_filter import JobFilter
from mira_queue.contract.states import FINAL, JobState, JobStatus
from mira_queue.ledger.listed_jobs import Place

PATH = "/jobs"
# Without a server-side session, the place in a list is in its URL: when the last job was accepted, and its id.
_PLACE = re.compile(r"(\d{1,16})-([0-9a-f-]{1,64})")
PAGE_SIZE = 50
MAX_SEARCH_CHARS = 600
TABS = (OPEN, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class JobPage:
    """A page of the list. `next` is the place after it, or empty; `is_cut` is True if the search stopped early."""

    jobs: tuple[JobStatus, ...]
    next: str
    is_cut: bool
    counts: Mapping[str, int]


def routes(context: Context) -> list[BaseRoute]:
    views = _JobList(context)
    return [view(context, PATH, views.show), live(context, "/live/jobs", views.changes, FIELDS)]


class _JobList:
    """Handlers of the views."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def show(self, request: Request, visitor: Visitor) -> Response:
        text = request.query_params.get("q", "").strip()[:MAX_SEARCH_CHARS]
        if text:
            return await self._search(request, visitor, text)
        form = FilterForm.of(request.query_params)
        problem, page, wanted = "", JobPage((), "", False, dict.fromkeys(TABS, 0)), JobFilter()
        try:
            wanted = form.wanted(visitor.project, datetime.now(UTC))
        except InvalidRequest as error:
            problem = str(error)
        place = request.query_params.get("after", "")
        if not problem:
            page = await in_thread(read_page, self._context.queue, form, wanted, _place_of(place))
        return render(
            request,
            visitor,
            "job_list.html",
            400 if problem else 200,
            # A page that is not the first one, or that costs much, stays as it is.
            live="" if problem or place or wanted.model or wanted.metadata else _live_path(request),
            problem=problem,
            codes=error_codes(),
            projects=await in_thread(self._projects, visitor.audience),
            states=STATES,
            after=place,
            **_values(form, page, visitor.audience),
        )

    async def changes(self, request: Request, audience: Audience) -> Mapping[str, str]:
        form = FilterForm.of(request.query_params)
        wanted = form.wanted(audience.project, datetime.now(UTC))
        page = await in_thread(read_page, self._context.queue, form, wanted, None)
        return {"jobs": fragment(request, audience, "parts/job_table.html", after="", **_values(form, page, audience))}

    async def _search(self, request: Request, visitor: Visitor, text: str) -> Response:
        queue = self._context.queue
        jobs = await in_thread(find_jobs, queue, visitor.audience, text)
        if len(jobs) == 1:
            return Redirect(request, f"{PATH}/{jobs[0].id}")
        lines = LineSearch(None)
        if not jobs and job_of_line(text):
            lines = await self._context.file_threads.run(find_line, queue.batches, visitor.audience, text)
        return render(
            request,
            visitor,
            "job_search.html",
            text=text,
            jobs=jobs,
            lines=lines,
            line_text=lines.found.text if lines.found else "",
        )

    def _projects(self, audience: Audience) -> list[str]:
        """Return the projects from which the users may choose."""
        return [] if audience.project else sorted({each.project for each in self._context.queue.ledger.api_keys()})


def read_page(queue: MiraQueue, form: FilterForm, wanted: JobFilter, place: Place | None) -> JobPage:
    ledger = queue.ledger
    found = ledger.search(wanted, place, PAGE_SIZE, only_open=form.only_open)
    of_project = JobFilter(project=wanted.project)
    counts = {OPEN: ledger.count_listed(of_project, only_open=True)}
    counts |= {state: ledger.count_listed(JobFilter(state=JobState(state), project=wanted.project)) for state in FINAL}
    place_after = f"{found.next[0]}-{found.next[1]}" if found.next else ""
    return JobPage(tuple(found.jobs), place_after, len(found.jobs) < PAGE_SIZE and found.next is not None, counts)


def _values(form: FilterForm, page: JobPage, audience: Audience) -> dict[str, Any]:
    """Return what the table shows."""
    return {
        "form": form,
        "page": page,
        "tabs": TABS,
        "max_listed": names.MAX_LISTED,
        "actions": _actions(form, page.counts),
        "with_project": not audience.project,
    }


def _actions(form: FilterForm, counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return the actions on all jobs that match, with their labels, if there may be such jobs."""
    found = []
    if counts[JobState.FAILED] and (form.code or form.state in ("", JobState.FAILED)):
        found.append(("retry", "Retry all that have failed"))
    if counts[OPEN] and not form.code and form.state not in FINAL:
        found.append(("cancel", "Cancel all that have not finished"))
    return found


def _place_of(text: str) -> Place | None:
    found = _PLACE.fullmatch(text)
    return (int(found[1]), found[2]) if found else None


def _live_path(request: Request) -> str:
    return "/live/jobs" + (f"?{request.url.query}" if request.url.query else "")
