"""Batches on the web page, over a socket: the list, a new batch, one batch with its actions, and its results."""

from __future__ import annotations

import gzip
import html
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
import requests

from tests.integration.test_gateway_batches import FINAL, created, ended, line, lines
from tests.support.gateway_process import Gateway, started_gateway
from tests.support.page_browser import Browser, signed_in
from tests.support.run_process import write_lines
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import PATIENCE_S, wait_until

MAX_COUNT_OF_INVALID = 20


@pytest.fixture
def browser(gateway: Gateway, simulator: SimulatorProcess) -> Iterator[Browser]:
    with signed_in(gateway) as found:
        yield found


def text_of(entries: list[dict[str, Any]]) -> str:
    return "".join(f"{json.dumps(entry)}\n" for entry in entries)


def uploaded(browser: Browser, content: str | bytes, name: str = "requests.jsonl") -> str:
    """Upload a file as the page's script does, and return the path of its check."""
    answer = browser.post(
        "/batches/new",
        files={"purpose": (None, "batch"), "file": (name, content)},
        headers={"accept": "application/json", "x-csrf-token": browser.csrf},
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["location"])


def checked(browser: Browser, place: str) -> str:
    """Return the page of a file when its check is complete."""
    page = ""

    def is_complete() -> bool:
        nonlocal page
        page = browser.get(place).text
        return "reload.js" not in page

    wait_until("the file is checked", is_complete)
    return page


def field(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None, name
    return found[1]


def started(browser: Browser, entries: list[dict[str, Any]], **options: str) -> str:
    """Upload a file, start its batch, and return the id."""
    place = uploaded(browser, text_of(entries))
    identity = field(checked(browser, place), "identity")
    answer = browser.act(f"{place}/start", {"identity": identity, "completion_window": "24h", **options})
    assert answer.status_code == 200, answer.text
    return answer.url.rsplit("/", 1)[1]


def path_of(answer: requests.Response) -> str:
    return "/" + answer.url.split("/", 3)[3]


def state_of(browser: Browser, batch_id: str) -> str:
    """Return the text of the batch's state."""
    page = browser.get(f"/batches/{batch_id}").text
    part = page.split('<div id="batch-state"', 1)[1].split('<div id="batch-actions"', 1)[0].partition(">")[2]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", part)).split())


def test_a_file_with_invalid_lines_is_fixed_on_the_page_and_started_once(
    browser: Browser, openai_client: openai.OpenAI
) -> None:
    wrong = {"custom_id": "wrong", "body": {"model": 7}}
    content = text_of([*lines(3, "fixed"), wrong]) + '{"custom_id": "<script>" "no json"}\n'
    place = uploaded(browser, content)

    page = checked(browser, place)
    assert "2 of 5 lines are invalid" in page
    assert "body.model" in page
    assert html.escape('{"custom_id": "<script>" "no json"}') in page.replace("&#34;", "&quot;")
    assert "<script>&" not in page
    edits = {"copy": field(page, "copy"), "line-4": json.dumps(line("right", "fixed"), indent=2), "line-5": "  "}
    fixed = browser.act(f"{place}/lines", edits)
    assert browser.act(f"{place}/lines", edits).url == fixed.url != browser.get(place).url

    fixed_page = checked(browser, path_of(fixed))
    assert "4 lines, all valid" in fixed_page
    form = {
        "identity": field(fixed_page, "identity"),
        "completion_window": "6h",
        "max_requests": "100",
        "dedupe": "yes",
    }
    with ThreadPoolExecutor(2) as threads:
        csrf = browser.csrf
        answers = list(
            threads.map(
                lambda _: browser.post(f"{path_of(fixed)}/start", {"csrf": csrf, **form}, allow_redirects=False),
                range(2),
            )
        )
    assert {answer.status_code for answer in answers} == {303}
    (location,) = {answer.headers["location"] for answer in answers}
    done = ended(openai_client, location.rsplit("/", 1)[1])
    assert done.request_counts is not None
    assert (done.status, done.request_counts.completed, done.request_counts.total) == ("completed", 4, 4)
    assert done.completion_window == "6h"
    assert done.model_extra is not None
    options = done.model_extra["mira"]["options"]
    assert (options["max_requests"], options["dedupe"], options["ordered"]) == (100, True, False)
    # The uploaded file is as it was, and the next form starts another batch.
    assert openai_client.files.content(place.rsplit("/", 1)[1]).text == content
    assert field(checked(browser, path_of(fixed)), "identity") != form["identity"]


def test_a_compressed_file_is_checked_and_fixed(browser: Browser) -> None:
    content = gzip.compress((text_of(lines(2, "packed")) + "no json\n").encode())
    place = uploaded(browser, content, "requests.jsonl.gz")
    page = checked(browser, place)

    fixed = browser.act(f"{place}/lines", {"copy": field(page, "copy"), "line-3": ""})

    page = checked(browser, path_of(fixed))
    assert "2 lines, all valid" in page
    assert "<h1>requests.jsonl</h1>" in page


def test_many_invalid_lines_are_shown_in_parts_and_long_ones_are_not_edited_here(browser: Browser) -> None:
    long = json.dumps({"custom_id": "long", "body": {"model": 7, "x": "y" * 20_000}})
    page = checked(browser, uploaded(browser, f"{long}\n" + "no json\n" * 60))

    assert len(re.findall(r'name="line-\d+"', page)) == MAX_COUNT_OF_INVALID - 1
    assert "41 more invalid lines" in page
    assert len(page) < 60_000


@pytest.mark.parametrize(("content", "word"), [("  \n", "no requests"), ("%PDF-1.4", "PDF"), ("[{}]\n", "JSON array")])
def test_a_file_that_is_no_file_of_requests_says_so(browser: Browser, content: str, word: str) -> None:
    page = checked(browser, uploaded(browser, content))

    assert word in page
    assert 'name="identity"' not in page


def test_a_wrong_option_is_shown_in_the_form_which_keeps_the_others(browser: Browser) -> None:
    place = uploaded(browser, text_of(lines(1, "option")))
    identity = field(checked(browser, place), "identity")

    answer = browser.act(f"{place}/start", {"identity": identity, "max_requests": "many", "max_tokens": "77"})

    assert answer.status_code == 400
    assert "max_requests" in answer.text
    assert 'value="77"' in answer.text
    assert browser.act(f"{place}/start", {"identity": "../../x"}).status_code == 400
    assert browser.act(f"{place}/start", {"identity": identity, "max_cost": "1"}).status_code == 400


def test_the_cost_is_estimated_with_the_price_table_of_the_gateway_and_limited(
    simulator: SimulatorProcess, tmp_path: Path
) -> None:
    table = tmp_path / "gateway-prices.toml"
    table.write_text('currency = "EUR"\n[models.mira]\nprompt = 1_000_000\ncompletion = 1_000_000\n')
    with started_gateway("--prices", str(table), api_base=simulator.url) as gateway, signed_in(gateway) as browser:
        priced, unpriced = line("a", "x"), line("b", "x")
        unpriced["body"]["model"] = "mira-mini"
        page = checked(browser, uploaded(browser, text_of([priced])))
        assert re.search(r"at most [\d,.]+ EUR", page)
        place = uploaded(browser, text_of([priced, unpriced]))
        assert "no price for mira-mini" in checked(browser, place)
        form = {"identity": field(checked(browser, place), "identity"), "max_cost": "5"}
        assert browser.act(f"{place}/start", form).status_code == 400

        batch_id = started(browser, lines(20, "cost"), max_cost="30")

        wait_until("it is paused", lambda: state_of(browser, batch_id).startswith("paused"))
        assert "EUR" in state_of(browser, batch_id)
        browser.act(f"/batches/{batch_id}/cancel")
        wait_until("it is cancelled", lambda: state_of(browser, batch_id).startswith("cancelled"))


def test_an_upload_needs_a_token_and_a_file(browser: Browser) -> None:
    files: Any = {"purpose": (None, "batch"), "file": ("x.jsonl", "{}")}
    json_only = {"accept": "application/json"}

    assert browser.post("/batches/new", files=files, headers=json_only).status_code == 403
    token = {"x-csrf-token": browser.csrf, **json_only}
    assert browser.post("/batches/new", files={"purpose": (None, "batch")}, headers=token).status_code == 400


def test_a_deleted_file_is_gone(browser: Browser) -> None:
    place = uploaded(browser, text_of(lines(1, "delete")))

    assert path_of(browser.act(f"{place}/delete")) == "/batches/new"
    assert browser.get(place).status_code == 404


def test_a_batch_is_paused_resumed_and_cancelled(browser: Browser, simulator: SimulatorProcess) -> None:
    simulator.configure(latency_s=(0.3, 0.3), concurrency=1, concurrency_retry_after_s=0.1)
    batch_id = started(browser, lines(300, "commands"))
    wait_until("it runs", lambda: state_of(browser, batch_id).startswith(("running", "waiting")))

    paused = browser.act(f"/batches/{batch_id}/pause", {"back": f"/batches/{batch_id}"})
    assert 'role="status"' in paused.text
    wait_until("it is paused", lambda: state_of(browser, batch_id).startswith("paused"))
    assert "A user has paused it" in state_of(browser, batch_id)
    assert "Resume" in browser.get(f"/batches/{batch_id}").text
    browser.act(f"/batches/{batch_id}/resume")
    wait_until("it runs again", lambda: state_of(browser, batch_id).startswith(("running", "waiting")))
    browser.act(f"/batches/{batch_id}/cancel")
    wait_until("it is cancelled", lambda: state_of(browser, batch_id).startswith("cancelled"))
    refused = browser.act(f"/batches/{batch_id}/pause", {"back": f"/batches/{batch_id}"})
    assert 'role="alert"' in refused.text
    assert "batch_cancelled" in refused.text


def test_a_batch_whose_budget_is_used_up_is_resumed_with_a_larger_one(browser: Browser) -> None:
    batch_id = started(browser, lines(30, "budget"), max_requests="10")
    wait_until("it is paused", lambda: state_of(browser, batch_id).startswith("paused"))
    assert "10 of 10 requests" in state_of(browser, batch_id)

    browser.act(f"/batches/{batch_id}/resume", {"max_requests": "0"})

    wait_until("it has ended", lambda: state_of(browser, batch_id).startswith("completed"))


def test_an_empty_balance_is_explained_and_a_resume_continues(browser: Browser, simulator: SimulatorProcess) -> None:
    simulator.configure(balance_calls=0)
    batch_id = started(browser, lines(20, "balance"))
    wait_until("it is paused", lambda: state_of(browser, batch_id).startswith("paused"))
    state = state_of(browser, batch_id)
    assert "402" in state
    assert "Fix the account" in state

    simulator.configure(balance_calls=None)
    browser.act(f"/batches/{batch_id}/resume")

    wait_until("it has ended", lambda: state_of(browser, batch_id) == "completed")


def test_failed_lines_are_shown_by_code_and_one_code_is_retried(browser: Browser, openai_client: openai.OpenAI) -> None:
    entries = [
        *lines(5, "codes"),
        line("b-1", "[[sim:moderation]]"),
        line("b-2", "[[sim:moderationx1]]"),
        line("c", "[[sim:404]]"),
    ]
    batch_id = started(browser, entries)
    ended(openai_client, batch_id)
    page = browser.get(f"/batches/{batch_id}").text
    assert re.search(r"content_blocked</code>.*?HTTP 422.*?>2<.*?b-[12]", page, re.DOTALL)

    browser.act(f"/batches/{batch_id}/retry", {"code": "content_blocked"})

    def counts() -> tuple[str, int]:
        batch = openai_client.batches.retrieve(batch_id)
        assert batch.request_counts is not None
        return batch.status, batch.request_counts.failed

    wait_until("one line has an answer now", lambda: counts() == ("completed", 2))
    assert "not_found" in browser.get(f"/batches/{batch_id}").text


def test_results_are_viewed_page_by_page_downloaded_verified_and_reported(
    browser: Browser, openai_client: openai.OpenAI
) -> None:
    batch_id = started(browser, [*lines(120, "results"), line("blocked", "[[sim:moderation]] <b>bold</b>")])
    ended(openai_client, batch_id)
    one, seen, place = f"/batches/{batch_id}", [], ""

    place = f"{one}/answers"
    while place:
        page = browser.get(place).text
        seen += re.findall(r'data-label="Line"><code>([^<]+)', page)
        following = re.search(r'href="([^"]+)" rel="next"', page)
        place = html.unescape(following[1]) if following else ""
    assert sorted(seen) == sorted(f"line-{number}" for number in range(120))
    last = browser.get(f"{one}/answers?before=end").text
    assert re.findall(r'data-label="Line"><code>([^<]+)', last) == seen[-50:]
    assert "content_blocked" in browser.get(f"{one}/errors").text

    download = browser.get(f"{one}/answers.jsonl")
    assert f'filename="{batch_id}_answers.jsonl"' in download.headers["content-disposition"]
    assert len(download.text.splitlines()) == 120
    assert len(browser.get(f"{one}/errors.jsonl").text.splitlines()) == 1

    assert "exactly one answer or error" in browser.get(f"{one}/verify").text
    assert "Verified" in browser.get(one).text
    report = browser.get(f"{one}/report")
    assert report.text.startswith("<!doctype html>")
    assert "script-src" not in report.headers["content-security-policy"]


@pytest.mark.parametrize("query", ["after=x", "before=-1", f"after={10**30}", "after=999999999", "before=3"])
def test_a_wrong_place_of_a_page_is_no_server_error(browser: Browser, query: str) -> None:
    batch_id = started(browser, lines(1, "place"))

    assert browser.get(f"/batches/{batch_id}/answers?{query}").status_code in (200, 400)


def test_an_invalid_batch_of_the_api_leads_to_its_lines(browser: Browser, openai_client: openai.OpenAI) -> None:
    batch = ended(openai_client, created(openai_client, [line("a", "x"), {"custom_id": "b", "body": {"model": 7}}]).id)

    page = browser.get(f"/batches/{batch.id}").text
    found = re.search(r'href="(/batches/new/[^"]+)"', page)
    assert found is not None
    assert "body.model" in page
    assert "1 of 2 lines is invalid" in checked(browser, found[1])


def test_the_list_has_every_batch_its_filter_and_a_run_in_a_terminal(
    gateway: Gateway, browser: Browser, openai_client: openai.OpenAI
) -> None:
    path = gateway.state_dir.parent / "in-a-terminal.jsonl"
    write_lines(path, lines(3, "run"))
    assert gateway.cli("run", str(path), timeout=60).code == 0
    done = ended(openai_client, created(openai_client, lines(1, "list")).id)

    page = browser.get("/batches").text
    assert done.id in page
    assert "in-a-terminal.jsonl" in page
    assert "mira-queue run" in page
    assert done.id in browser.get("/batches?status=completed").text
    assert done.id not in browser.get("/batches?status=open").text
    assert browser.get("/batches?status=nonsense&after=1-batch_x").status_code == 200


def test_the_list_has_pages(gateway: Gateway, openai_client: openai.OpenAI) -> None:
    key = gateway.create_key("pages", "--scope", "read")
    submitting = gateway.create_key("pages", "--scope", "submit")
    with gateway.client(submitting) as client:
        ids = {created(client, lines(1, f"page {number}")).id for number in range(27)}
    with signed_in(gateway, key) as browser:
        seen: list[str] = []
        place = "/batches"
        while place:
            page = browser.get(place).text
            seen += re.findall(r'<code class="soft">(batch_\w+)', page)
            following = re.search(r'href="([^"]+)" rel="next"', page)
            place = html.unescape(following[1]) if following else ""

        assert len(seen) == len(ids)
        assert set(seen) == ids

    def is_over() -> bool:
        return all(batch.status in FINAL for batch in openai_client.batches.list(limit=100) if batch.id in ids)

    wait_until("all have ended", is_over, 4 * PATIENCE_S)


def test_a_reader_sees_its_project_and_acts_on_nothing(gateway: Gateway, browser: Browser) -> None:
    batch_id = started(browser, lines(1, "hidden"))
    with signed_in(gateway, gateway.create_key("reader", "--scope", "read")) as reader:
        assert batch_id not in reader.get("/batches").text
        for path in ("", "/answers", "/answers.jsonl", "/errors", "/verify", "/report"):
            assert reader.get(f"/batches/{batch_id}{path}").status_code == 404
        for name in ("pause", "resume", "cancel", "retry"):
            assert reader.act(f"/batches/{batch_id}/{name}").status_code == 403
        token = {"x-csrf-token": reader.csrf, "accept": "application/json"}
        files: Any = {"purpose": (None, "batch"), "file": ("x.jsonl", "{}")}
        assert reader.post("/batches/new", files=files, headers=token).status_code == 403
        assert 'type="file"' not in reader.get("/batches/new").text


def test_a_project_sees_no_path_of_the_machine(gateway: Gateway) -> None:
    with gateway.client(gateway.create_key("paths", "--scope", "submit")) as client:
        batch = ended(client, created(client, [line("a", "x"), line("b", "[[sim:404]]")]).id)
    with signed_in(gateway, gateway.create_key("paths", "--scope", "read")) as reader:
        one = f"/batches/{batch.id}"
        for path in ("", "/answers", "/errors", "/verify", "/report"):
            answer = reader.get(one + path)
            assert answer.status_code == 200
            assert str(gateway.state_dir) not in answer.text


def test_a_batch_is_updated_live(browser: Browser, simulator: SimulatorProcess) -> None:
    batch_id = started(browser, lines(40, "live"))
    with browser.get(f"/live/batches/{batch_id}", stream=True) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for text in stream.iter_lines(decode_unicode=True):
            if text.startswith("data:") and ">completed<" in json.loads(text[5:])["html"].get("batch-state", ""):
                break
        else:
            pytest.fail("the stream has ended before the batch")


@pytest.mark.parametrize("batch_id", ["batch_none", "batch_" + "0" * 32, "..%2f..%2fetc", "x" * 300])
def test_a_batch_that_does_not_exist_is_a_page_with_a_404(browser: Browser, batch_id: str) -> None:
    answer = browser.get(f"/batches/{batch_id}")

    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")


def test_the_user_who_started_a_batch_is_shown_and_logged(gateway: Gateway, browser: Browser) -> None:
    batch_id = started(browser, lines(1, "who"))

    assert "default, on this page" in browser.get(f"/batches/{batch_id}").text
    assert "page_action" in gateway.log.read_text()


def test_a_second_start_of_a_form_names_the_batch_and_changes_nothing(browser: Browser) -> None:
    place = uploaded(browser, text_of(lines(1, "again")))
    identity = field(checked(browser, place), "identity")
    first = browser.act(f"{place}/start", {"identity": identity, "completion_window": "24h"})

    second = browser.act(f"{place}/start", {"identity": identity, "completion_window": "1h", "max_requests": "1"})

    assert path_of(second) == path_of(first)
    assert "was started before" in second.text
