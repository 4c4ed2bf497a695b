"""The web page's views of jobs, and its actions on them. Over a socket, as a browser without scripts uses them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
import requests

from mira_queue import MiraQueue
from mira_queue.contract.names import Lane
from mira_queue.ledger.job_actions import JobAction
from mira_queue.ledger.records import NewJob, new_job_id
from tests.support.gateway_process import Gateway, started_gateway
from tests.support.page_browser import Browser, signed_in
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

HOUR = timedelta(hours=1)
MESSAGES = [{"role": "user", "content": "Hello, <b>page</b>"}]
FAILING = [{"role": "user", "content": "[[sim:422]]"}]

pytestmark = pytest.mark.usefixtures("simulator")


@pytest.fixture
def browser(gateway: Gateway) -> Iterator[Browser]:
    with signed_in(gateway) as found:
        yield found


@pytest.fixture
def queue(gateway: Gateway) -> Iterator[MiraQueue]:
    with MiraQueue(gateway.settings) as found:
        yield found
        found.cancel_all()


def create(gateway: Gateway, api_key: str, /, **body: Any) -> str:
    """A job of the project of an API key."""
    found = {"body": {"messages": MESSAGES}, **body}
    headers = {"Authorization": f"Bearer {api_key}"}
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(f"{gateway.url}/jobs", json=found, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def listed(page: requests.Response) -> list[str]:
    assert page.status_code == 200, page.text
    return re.findall(r'<td data-label="Job"><a href="/jobs/([0-9a-f-]+)">', page.text)


def fields_of(page: requests.Response) -> dict[str, str]:
    """The hidden fields of the form that asks for a confirmation, as a browser sends them."""
    form = page.text.partition('action="/jobs/all"')[2].partition("</form>")[0]
    assert form, page.text
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form)
    return {name: unescape(value) for name, value in found}


def ended(browser: Browser, page: requests.Response) -> str:
    """The page of an action on many jobs, when it has ended."""

    def read() -> str | None:
        text = browser.get(page.url.partition("//")[2].partition("/")[2].join(["/", ""])).text
        return None if "<progress" in text else text

    return wait_until("the action ends", read)


# --- the list ---


def test_the_list_has_each_filter_and_its_url_shows_the_same_jobs(
    browser: Browser, gateway: Gateway, queue: MiraQueue
) -> None:
    key = gateway.create_key("filters")
    seven = create(gateway, key, delay=3600, metadata={"tenant": "7", "a b": "x=y"})
    other = create(gateway, key, delay=3600, body={"messages": MESSAGES, "model": "mira-pro"})
    failed = create(gateway, key, body={"messages": FAILING})
    wait_until("it fails", lambda: queue.ledger.status(failed).state.is_final)

    def ids(query: str) -> list[str]:
        return listed(browser.get(f"/jobs?project=filters&{query}"))

    assert ids("") == [failed, other, seven]
    assert ids("state=waiting") == ids("state=open") == [other, seven]
    assert ids("code=unprocessable") == ids("state=failed") == [failed]
    assert ids("model=mira-pro") == [other]
    assert ids("metadata=tenant%3D7") == ids("metadata=tenant%3D7&metadata=a+b%3Dx%3Dy") == [seven]
    assert ids("metadata=tenant%3D8") == []
    assert ids("since=1h") == [failed, other, seven]
    assert ids("until=1h") == ids("since=2h&until=1h") == []
    assert ids("since=2030-01-01") == []
    page = browser.get("/jobs?project=filters&state=failed&metadata=tenant%3D7&since=2h")
    assert 'value="tenant=7"' in page.text
    assert 'value="2h"' in page.text
    assert re.search(r'<option value="failed" selected>', page.text)
    queue.cancel_all()


@pytest.mark.parametrize(
    ("query", "name"),
    [("state=late", "state"), ("metadata=tenant", "metadata"), ("since=soon", "since"), ("code=x&state=open", "")],
)
def test_a_wrong_filter_is_named_on_the_page(browser: Browser, query: str, name: str) -> None:
    page = browser.get(f"/jobs?{query}")

    assert page.status_code == (400 if name else 200)
    assert f'role="alert">{name}' in page.text or not name


def test_pages_of_the_list_follow_one_another(browser: Browser, gateway: Gateway, queue: MiraQueue) -> None:
    handles = queue.enqueue_many([{"messages": MESSAGES}] * 70, delay=HOUR)
    page = browser.get("/jobs?state=waiting")
    first = listed(page)
    older = re.search(r'<a href="([^"]+)">Older jobs</a>', page.text)
    assert older is not None
    second = browser.get(unescape(older[1]))

    assert (len(first), len(listed(second))) == (50, 20)
    assert {*first, *listed(second)} == {job.id for job in handles}
    assert "state=waiting" in second.url
    assert "Newest jobs" in second.text
    assert browser.get("/jobs?after=nonsense").status_code == 200
    queue.cancel_all()


def test_a_user_of_a_project_sees_its_jobs_only(gateway: Gateway, queue: MiraQueue) -> None:
    mine = create(gateway, gateway.create_key("mine"), delay=3600, key="order 7")
    theirs = create(gateway, gateway.create_key("theirs"), delay=3600, key="order 7")
    reader = gateway.create_key("mine", "--scope", "read")
    with signed_in(gateway, reader) as browser:
        assert listed(browser.get("/jobs")) == [mine]
        # The project of a user is not a part of the filter.
        assert listed(browser.get("/jobs?project=theirs")) == [mine]
        assert browser.get(f"/jobs/{theirs}").status_code == browser.get("/jobs/none").status_code == 404
        assert browser.get("/jobs?q=order+7").url.endswith(f"/jobs/{mine}")
        assert "Nothing has this ID" in browser.get(f"/jobs?q={theirs}").text
        page = browser.get(f"/jobs/{mine}")
        assert "Cancel" not in page.text
        assert browser.act(f"/jobs/{mine}/cancel").status_code == 403
        assert browser.act("/jobs/all", {"verb": "cancel"}).status_code == 403
        with browser.get(f"/live/jobs/{theirs}", stream=True) as stream:
            first = next(line for line in stream.iter_lines() if line.startswith(b"data:"))
            assert b"no job" in first
            assert b"Waiting" not in first
    assert not queue.ledger.status(mine).state.is_final
    queue.cancel_all()


def test_texts_of_clients_are_escaped(browser: Browser, gateway: Gateway, queue: MiraQueue) -> None:
    evil = '"><script>alert(1)</script>'
    job_id = create(gateway, gateway.key, key=evil, delay=3600, metadata={evil: evil})
    for page in (
        browser.get("/jobs"),
        browser.get(f"/jobs/{job_id}"),
        browser.get("/jobs", params={"q": evil + "x"}),
        browser.get("/jobs", params={"metadata": f"{evil}={evil}", "model": evil, "code": evil}),
        browser.get("/jobs/all/confirm", params={"verb": "cancel", "metadata": f"{evil}={evil}"}),
    ):
        assert "<script>alert" not in page.text
        assert "alert(1)" in page.text
    assert browser.get("/jobs", params={"q": evil}).url.endswith(job_id)
    queue.cancel_all()


# --- the search ---


def test_a_job_is_found_by_each_of_its_names(browser: Browser, gateway: Gateway, queue: MiraQueue) -> None:
    of_key = create(gateway, gateway.key, key="order 8", delay=3600)
    python = queue.enqueue(MESSAGES, key="order 9", delay=HOUR).id
    with gateway.client() as client:
        response = client.responses.create(model="mira", input="Hello", background=True)
        found = client.chat.completions.with_raw_response.create(
            model="mira", messages=[{"role": "user", "content": "Hi"}], extra_headers={"Prefer": "respond-async"}
        )
        completion = found.http_response.json()["id"]

    def place(text: str) -> str:
        return browser.get("/jobs", params={"q": text}).url.rpartition("/")[2]

    assert place("order 8") == place(of_key) == place(f" {of_key.upper()} ") == of_key
    assert place("order 9") == place(f"batch_req_{python}") == python
    assert place(response.id).replace("-", "") == response.id.removeprefix("resp_")
    assert place(completion).replace("-", "") == completion.removeprefix("chatcmpl-")
    nothing = browser.get("/jobs", params={"q": "no such key"})
    assert "Nothing has this ID" in nothing.text
    queue.cancel_all()


def test_a_key_of_two_projects_names_two_jobs(browser: Browser, gateway: Gateway, queue: MiraQueue) -> None:
    ids = {create(gateway, gateway.create_key(name), key="order 10", delay=3600) for name in ("one", "two")}

    assert set(listed(browser.get("/jobs?q=order+10"))) == ids
    queue.cancel_all()


def test_an_output_line_is_found_in_the_files_of_its_batch(browser: Browser, gateway: Gateway) -> None:
    line = b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": %b}\n'
    bodies = (b'{"messages": [{"role": "user", "content": "Hello %d"}]}' % number for number in range(3))
    content = b"".join(line.replace(b'"a"', b'"line-%d"' % n) % body for n, body in enumerate(bodies))
    with gateway.client() as client:
        file = client.files.create(file=("input.jsonl", content), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        done = wait_until(
            "the batch ends", lambda: found if (found := client.batches.retrieve(batch.id)).completed_at else None
        )
        lines = client.files.content(str(done.output_file_id)).text.splitlines()
    # Its job is deleted: the batch has ended.
    line_id = re.findall(r'"id":"(batch_req_[^"]+)"', lines[1])[0]
    page = browser.get("/jobs", params={"q": line_id})

    assert page.status_code == 200
    assert "Line 2 of the output" in page.text
    assert f"/batches/{batch.id}" in page.text


def test_a_line_that_is_open_is_shown_and_its_batch_decides_on_it(browser: Browser, queue: MiraQueue) -> None:
    account = queue.accounts.current
    line = NewJob(queue.check({"messages": MESSAGES}), new_job_id(), "a line", "a group", Lane.BULK)
    queue.ledger.accept(account.id, [line], base=account.base)

    assert browser.get("/jobs", params={"q": f"batch_req_{line.id}"}).url.endswith(f"/jobs/{line.id}")
    assert "Cancel" not in browser.get(f"/jobs/{line.id}").text.partition("<main")[2]
    assert browser.act(f"/jobs/{line.id}/cancel").status_code == 409
    assert queue.ledger.remove_unstarted(account.id, [(line.id, "a line")]) != [None]


# --- one job ---


def test_a_job_shows_its_timeline_its_answer_and_its_details(
    browser: Browser, gateway: Gateway, queue: MiraQueue
) -> None:
    job_id = create(gateway, gateway.key, key="order 11", metadata={"tenant": "7"}, priority="high")
    wait_until("it is answered", lambda: queue.ledger.status(job_id).state.is_final)

    page = browser.get(f"/jobs/{job_id}")

    for text in ("Accepted", "Claimed by worker", "Call: HTTP 200 after", "Succeeded", "order 11", "High"):
        assert text in page.text
    assert "Simulated answer to: Hello, &lt;b&gt;page&lt;/b&gt;" in page.text
    assert "tokens in" in page.text
    assert "tenant=7" in page.text
    assert "The action" not in page.text
    answer = browser.get(f"/jobs/{job_id}/answer")
    assert answer.json()["choices"][0]["message"]["content"] == "Simulated answer to: Hello, <b>page</b>"
    assert "attachment" in answer.headers["content-disposition"]


def test_a_failed_job_shows_the_message_of_the_server_and_is_retried(
    browser: Browser, gateway: Gateway, queue: MiraQueue
) -> None:
    job_id = create(gateway, gateway.key, body={"messages": FAILING})
    wait_until("it fails", lambda: queue.ledger.status(job_id).state.is_final)
    page = browser.get(f"/jobs/{job_id}")
    assert "HTTP 422" in page.text
    assert "unprocessable" in page.text
    assert browser.get(f"/jobs/{job_id}/answer").status_code == 409

    answer = browser.act(f"/jobs/{job_id}/retry")

    assert answer.url.endswith(f"/jobs/{job_id}")
    assert "queued again" in answer.text
    wait_until("it fails again", lambda: queue.ledger.status(job_id).state.is_final)
    assert "Retried" in browser.get(f"/jobs/{job_id}").text


def test_an_open_job_is_cancelled_once(browser: Browser, gateway: Gateway) -> None:
    job_id = create(gateway, gateway.key, delay=3600)

    assert "Waiting" in browser.get(f"/jobs/{job_id}").text
    assert "The job is cancelled" in browser.act(f"/jobs/{job_id}/cancel").text
    again = browser.act(f"/jobs/{job_id}/retry")
    assert 'role="alert"' in again.text


def test_a_live_stream_has_the_job_when_it_changes(browser: Browser, gateway: Gateway, queue: MiraQueue) -> None:
    job_id = create(gateway, gateway.key, delay=3600)
    with browser.get(f"/live/jobs/{job_id}", stream=True) as stream:
        lines = stream.iter_lines()
        assert b"Waiting" in next(line for line in lines if line.startswith(b"data:"))
        queue.ledger.cancel(job_id)
        assert b"Cancelled" in next(line for line in lines if line.startswith(b"data:"))


def test_a_live_list_has_new_jobs(browser: Browser, gateway: Gateway, queue: MiraQueue) -> None:
    with browser.get("/live/jobs?state=waiting", stream=True) as stream:
        lines = stream.iter_lines()
        next(line for line in lines if line.startswith(b"data:"))
        job_id = create(gateway, gateway.key, delay=3600)
        assert job_id.encode() in next(line for line in lines if line.startswith(b"data:"))
    queue.cancel_all()


def test_a_live_list_with_a_wrong_filter_says_what_is_wrong(browser: Browser) -> None:
    answer = browser.get("/live/jobs?state=lost")

    assert (answer.status_code, "state" in answer.text) == (400, True)


def test_requests_are_hidden_unless_setting_and_scope_allow_them(
    browser: Browser, gateway: Gateway, queue: MiraQueue, simulator: SimulatorProcess
) -> None:
    text = "A secret prompt"
    body = {"messages": [{"role": "user", "content": text}], "temperature": 0.5}
    job_id = create(gateway, gateway.key, body=body, delay=3600)
    page = browser.get(f"/jobs/{job_id}")
    assert text not in page.text
    assert "MIRA_PAGE_REQUESTS=shown" in page.text
    queue.cancel_all()

    with started_gateway(workers=0, api_base=simulator.url, page_requests="shown") as open_gateway:
        key = open_gateway.create_key("app")
        own = create(open_gateway, key, body=body)
        with signed_in(open_gateway) as admin, signed_in(open_gateway, key) as owner:
            assert text in admin.get(f"/jobs/{own}").text
            assert "temperature" in admin.get(f"/jobs/{own}").text
            assert text not in owner.get(f"/jobs/{own}").text
            assert "no worker" in admin.get(f"/jobs/{own}").text
            assert "cancelled" in admin.act(f"/jobs/{own}/cancel").text
            assert text not in admin.get(f"/jobs/{own}").text


# --- actions on all that match ---


def test_all_that_match_are_counted_first_and_then_cancelled(
    browser: Browser, gateway: Gateway, queue: MiraQueue
) -> None:
    key = gateway.create_key("many")
    seven = [create(gateway, key, delay=3600, metadata={"tenant": "7"}) for _ in range(3)]
    other = create(gateway, key, delay=3600, metadata={"tenant": "8"})
    page = browser.get("/jobs/all/confirm?verb=cancel&project=many&metadata=tenant%3D7")
    assert "Cancel 3 jobs?" in page.text
    assert not queue.ledger.status(seven[0]).state.is_final
    fields = fields_of(page)
    # Accepted after the question: it is left out.
    later = create(gateway, key, delay=3600, metadata={"tenant": "7"})

    result = ended(browser, browser.act("/jobs/all", fields))

    assert "3 of 3 jobs are cancelled" in result
    assert [queue.ledger.status(each).state for each in (*seven, other, later)] == ["cancelled"] * 3 + ["waiting"] * 2
    # The same form again: the action has begun already.
    assert "3 of 3 jobs are cancelled" in ended(browser, browser.act("/jobs/all", fields))
    assert queue.ledger.status(later).state == "waiting"
    queue.cancel_all()


def test_a_large_action_runs_in_the_background_and_its_progress_is_shown(
    browser: Browser, gateway: Gateway, queue: MiraQueue
) -> None:
    handles = queue.enqueue_many([{"messages": MESSAGES}] * 300, delay=HOUR, metadata={"load": "1"})
    page = browser.get("/jobs/all/confirm?verb=cancel&metadata=load%3D1")
    assert "Cancel 300 jobs?" in page.text

    began = browser.act("/jobs/all", fields_of(page))

    assert re.search(r"/jobs/all/act_[0-9a-f]{32}$", began.url)
    assert "300 of 300 jobs are cancelled" in ended(browser, began)
    assert {status.state for status in queue.ledger.statuses([job.id for job in handles])} == {"cancelled"}


def test_failed_jobs_that_match_a_code_are_retried(browser: Browser, gateway: Gateway, queue: MiraQueue) -> None:
    key = gateway.create_key("codes")
    ids = [create(gateway, key, body={"messages": FAILING}) for _ in range(2)]
    wait_until("they fail", lambda: all(each.state.is_final for each in queue.ledger.statuses(ids)))
    page = browser.get("/jobs/all/confirm?verb=retry&project=codes&code=unprocessable")
    assert "Retry 2 jobs?" in page.text

    assert "2 of 2 jobs are queued again" in ended(browser, browser.act("/jobs/all", fields_of(page)))
    wait_until("they fail again", lambda: all(each.state.is_final for each in queue.ledger.statuses(ids)))


def test_nothing_is_confirmed_if_nothing_matches(browser: Browser) -> None:
    page = browser.get("/jobs/all/confirm?verb=retry&code=poison&metadata=no%3Done")

    assert "No jobs match" in page.text
    assert "<form" not in page.text.partition("<main")[2]


@pytest.mark.parametrize(
    "change",
    [{"verb": "delete"}, {"count": "-1"}, {"count": ""}, {"asked_ms": "x"}, {"action": "../etc"}, {"until": "soon"}],
)
def test_a_changed_confirmation_acts_on_nothing(
    browser: Browser, gateway: Gateway, queue: MiraQueue, change: dict[str, str]
) -> None:
    job_id = create(gateway, gateway.key, delay=3600, metadata={"changed": "1"})
    fields = fields_of(browser.get("/jobs/all/confirm?verb=cancel&metadata=changed%3D1"))

    answer = browser.act("/jobs/all", {**fields, **change, "back": ""})

    assert answer.status_code == 400
    assert queue.ledger.status(job_id).state == "waiting"
    queue.cancel_all()


def test_another_project_does_not_see_an_action(gateway: Gateway, browser: Browser, queue: MiraQueue) -> None:
    create(gateway, gateway.key, delay=3600, metadata={"seen": "1"})
    fields = fields_of(browser.get("/jobs/all/confirm?verb=cancel&metadata=seen%3D1"))
    browser.act("/jobs/all", fields)
    reader = gateway.create_key("stranger", "--scope", "read")
    with signed_in(gateway, reader) as other:
        assert other.get(f"/jobs/all/{fields['action']}").status_code == 404
    assert browser.get("/jobs/all/act_" + "0" * 32).status_code == 404


def test_an_action_of_a_crashed_gateway_is_shown_as_stopped(browser: Browser, queue: MiraQueue) -> None:
    now_ms = round(time.time() * 1000)
    running = JobAction("act_" + "a" * 32, "retry", "someone", "", "state=failed", 900, now_ms, now_ms, 300, 299)
    silent = replace(running, id="act_" + "b" * 32, written_ms=now_ms - 3_600_000)
    for each in (running, silent):
        assert queue.ledger.begin_job_action(each)

    assert "300 of 900" in browser.get(f"/jobs/all/{running.id}").text
    stopped = browser.get(f"/jobs/all/{silent.id}").text
    assert "crashed" in stopped
    assert "299 of 900 jobs are queued again" in stopped


def test_a_gateway_that_stops_ends_its_actions_and_says_how_far_they_came(simulator: SimulatorProcess) -> None:
    with started_gateway(workers=0, api_base=simulator.url) as own, MiraQueue(own.settings) as queue:
        queue.enqueue_many([{"messages": MESSAGES}] * 2000, delay=HOUR)
        with signed_in(own) as browser:
            fields = fields_of(browser.get("/jobs/all/confirm?verb=cancel"))
            browser.act("/jobs/all", fields)

            assert own.stop() == 0
        action = queue.ledger.job_action(fields["action"])
        assert action is not None
        assert action.has_ended
        assert action.changed == action.handled
        assert (action.stopped == "") is (action.handled == action.total)
        assert 2000 - action.changed == queue.cancel_all()
