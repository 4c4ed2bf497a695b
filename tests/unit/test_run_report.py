"""The report's page: it holds what happened, loads nothing, escapes everything, and fails before anything is sent."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pytest
from mira_producer.cost.prices import Price, Prices
from mira_producer.engine.stats import Stats
from mira_producer.engine.wait_reason import NOTHING
from mira_producer.jsonl.errors import InputError
from mira_producer.report.contents import named_lines, prompts_of
from mira_producer.report.page import check_report, write_report
from mira_producer.report.recorder import Recorder

from mira_queue.contract.batch import Batch, BatchStatus, Reason
from mira_queue.contract.errors import ContentBlocked, ServerError
from mira_queue.contract.outcome import Completion, Failure
from mira_queue.contract.pace import Estimate, Limit
from mira_queue.ledger.accounts import PaceView

EVIL = """<script>alert("1")</script><img src=http://evil.example/x onerror='alert(2)'>&amp;"""
VIEW = PaceView("account", "", Estimate(), "", timedelta(0), in_flight=3, waiting=0, now_ms=1_000_000)
LIMITED = replace(VIEW, in_flight=0, estimate=Estimate(rate=Limit(60, 60_000, 1), in_flight=Limit(3, 1000, 1)))
PRICES = Prices("USD", {"mira": Price(Decimal(1), Decimal(2))})
BATCH = Batch("batch_1", BatchStatus.COMPLETED, "prompts.jsonl", "host:/folder", 1000)
BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Page(HTMLParser):
    """A page's tags, attributes and text; fails when a tag is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self._open.append(tag)
        self._note(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("href", "src", "xlink:href", "data", "action"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def a_run(prices: Prices = PRICES, evil: str = "", lines: int = 300) -> tuple[Stats, Recorder]:
    """Some minutes: answers, errors, a wait."""
    clock = Clock()
    recorder = Recorder(clock)
    stats = Stats(lines + 10, 0, 0, prices, clock, recorder)
    body = {"model": evil or "mira"}
    for number in range(lines):
        clock.now_s += 0.5
        waits = 100 <= number < 160
        reason = Reason("limit", "account limit", timedelta(seconds=5)) if waits else NOTHING
        recorder.sampled(LIMITED if waits else VIEW, reason)
        if waits:
            continue
        if number % 50 == 3:
            stats.add(Failure.from_error(ServerError(f"down {evil}", 503, 5, 1)), custom_id=f"bad-{number}{evil}")
        elif number % 90 == 4:
            stats.add(Failure.from_error(ContentBlocked(f"no {evil}", 422, 1, 0)), custom_id=f"bad-{number}{evil}")
        else:
            usage = {"prompt_tokens": 1000, "completion_tokens": 500}
            stats.add(Completion("Hi", "stop", usage, body, latency_ms=200 + number), custom_id=f"line-{number}{evil}")
    return stats, recorder


def page(
    tmp_path: Path,
    stats: Stats,
    recorder: Recorder,
    batch: Batch = BATCH,
    errors: str = "errors.jsonl",
    where: str = "https://api.vmira.ai/v1",
    prompts: Mapping[int, str] | None = None,
) -> str:
    path = tmp_path / "out.html"
    batch = replace(batch, total=stats.total, unanswered_calls=stats.unanswered_calls)
    write_report(path, batch, errors, where, BEGAN, stats, recorder, prompts)
    assert list(tmp_path.iterdir()) == [path]
    return path.read_text(encoding="utf-8")


def test_the_page_holds_what_happened(tmp_path: Path) -> None:
    stats, recorder = a_run()
    found = Page(page(tmp_path, stats, recorder))

    assert {"html", "svg", "table"} <= found.tags
    for words in (
        "prompts.jsonl",
        "2026-01-02 03:04:05 UTC",
        "https://api.vmira.ai/v1",
        f"{stats.succeeded} 99",
        f"{stats.usage.prompt_tokens:,} in",
        stats.usage.cost_text("USD"),
        "lines per second",
        "account limit",
        "account limit, 30 s.",
        "calls in flight",
        "learned limit",
        "median: ",
        "server_error (503)",
        "content_blocked (422)",
        "bad-3",
        "down",
        "line-299",
        "499 ms",
        "calls without a response",
    ):
        assert words.removesuffix(" 99") in found.text, words


@pytest.mark.parametrize("evil", ["", EVIL])
def test_the_page_loads_and_runs_nothing(tmp_path: Path, evil: str) -> None:
    stats, recorder = a_run(evil=evil)
    html = page(tmp_path, stats, recorder, replace(BATCH, paused=evil, input_name=f"x{evil}"), where="a host")
    found = Page(html)

    assert found.tags.isdisjoint({"script", "img", "link", "iframe", "object", "embed", "a", "form", "image"})
    assert all(link.startswith("#") for link in found.links)
    assert not [name for name in found.attributes if name.startswith("on")]
    assert "@import" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)", html))
    # What is left of addresses is a stranger's text.
    assert "://" not in html.replace("http://evil.example", "")
    assert "default-src 'none'" in html


def test_a_strangers_text_stands_in_the_page_as_text(tmp_path: Path) -> None:
    stats, recorder = a_run(evil=EVIL, prices=Prices("<b>$", PRICES.models))
    batch = replace(BATCH, input_name=EVIL, paused=EVIL)
    found = Page(page(tmp_path, stats, recorder, batch, EVIL, EVIL))

    assert "script" not in found.tags
    assert "b" not in found.tags
    assert found.text.count('<script>alert("1")</script>') >= 8
    assert "<b>$ so far" in found.text


def test_the_drawings_of_a_page_do_not_share_names(tmp_path: Path) -> None:
    stats, recorder = a_run()
    found = Page(page(tmp_path, stats, recorder))
    definitions = [name for name in found.ids if re.fullmatch(r"[mp][0-9a-f]{10}", name)]

    assert len(definitions) == len(set(definitions)) > 0


def test_colours_are_the_pages_own_for_light_and_dark(tmp_path: Path) -> None:
    stats, recorder = a_run()
    html = page(tmp_path, stats, recorder)
    drawings = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))

    assert re.findall(r"#[0-9a-f]{6}\b(?!\w)", drawings) == []
    used = set(re.findall(r"var\(--(\w+)\)", html)) - {"font", "mono"}
    (style,) = re.findall(r":root \{(.*?)\}", html, re.DOTALL)
    for name in used:
        assert re.search(rf"--{name}: light-dark\(#[0-9a-f]{{6}}, #[0-9a-f]{{6}}\);", style), name


def test_the_slowest_and_the_failed_lines_are_quoted_unless_that_is_switched_off(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(f'{{"custom_id": "line-{n}", "prompt": "Question <{n}>"}}\n' for n in range(1, 7)))
    clock = Clock()
    recorder = Recorder(clock)
    stats = Stats(6, 0, 0, Prices(), clock, recorder)
    stats.add(Completion("The <answer>", "stop", {}, {}, latency_ms=70), custom_id="line-2", number=2)
    for number in (3, 4, 5, 6):
        stats.add(Failure("refused", f"no {number}", 418), custom_id=f"line-{number}", number=number)
    # The input was changed since.
    stats.add(Failure("other", "no", 400), custom_id="line-of-old", number=1)
    prompts = prompts_of(source, named_lines(recorder))
    source.unlink()

    shown = Page(page(tmp_path, stats, recorder, prompts=prompts)).text
    hidden = Page(page(tmp_path, stats, recorder)).text

    assert prompts == {number: f"Question <{number}>" for number in (2, 3, 4, 5)}
    for words in ("The <answer>", "Question <2>", "Question <5>"):
        assert words in shown
        assert words not in hidden
    for words in ("line-2", "no 3", "no 5"):
        assert words in hidden


def test_prompts_of_an_input_that_is_gone_are_left_out(tmp_path: Path) -> None:
    assert prompts_of(tmp_path / "gone.jsonl", {1: "line-1"}) == {}


def test_bars_above_the_learned_limit_are_explained(tmp_path: Path) -> None:
    stats, recorder = a_run()
    for bucket in recorder.timeline.buckets:
        bucket.rate_limit = 10_000
    fast, fast_recorder = a_run()
    fast_recorder.timeline.buckets[-1].answers = 10_000

    assert "average over the window" not in Page(page(tmp_path, stats, recorder)).text
    assert "average over the window" in Page(page(tmp_path, fast, fast_recorder)).text


@pytest.mark.parametrize("lines", [0, 1, 2, 5])
def test_a_run_of_next_to_nothing_has_a_page_too(tmp_path: Path, lines: int) -> None:
    stats, recorder = a_run(lines=lines)
    found = Page(page(tmp_path, stats, recorder))

    assert "prompts.jsonl" in found.text


def test_a_run_of_errors_only_has_a_page_without_latencies(tmp_path: Path) -> None:
    recorder = Recorder(Clock())
    stats = Stats(5, 0, 0, Prices(), Clock(), recorder)
    for number in range(40):
        stats.add(Failure("refused", "no", 410 + number), custom_id=str(number))
    found = Page(page(tmp_path, stats, recorder))

    assert "Latency" not in found.text
    assert "Tokens" not in found.text
    assert "refused (449)" in found.text


def test_without_prices_there_is_no_cost(tmp_path: Path) -> None:
    stats, recorder = a_run(prices=Prices())
    found = Page(page(tmp_path, stats, recorder))

    assert "cost" not in found.text
    assert "Tokens" in found.text


def test_a_page_does_not_grow_with_the_run(tmp_path: Path) -> None:
    stats, recorder = a_run(lines=20_000)

    # Each chart is there twice: for a wide page, and for a telephone.
    assert len(page(tmp_path, stats, recorder)) < 400_000


def test_a_page_of_an_earlier_run_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out.html").write_text("old")
    stats, recorder = a_run(lines=3)

    assert page(tmp_path, stats, recorder).startswith("<!doctype html>")


# --- before anything is sent ---


def test_a_place_one_cannot_write_to_is_told_before(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        check_report(tmp_path / "no" / "out.html")
    with pytest.raises(InputError, match="Is a directory"):
        check_report(tmp_path)
    check_report(tmp_path / "out.html")


def test_a_report_does_not_overwrite_a_file_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="is a file of the run itself"):
        check_report(tmp_path / "folder" / ".." / "in.jsonl", [tmp_path / "in.jsonl"])


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_a_missing_library_is_one_line_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    for module in ("charts", "render"):
        monkeypatch.delitem(sys.modules, f"mira_producer.report.{module}", raising=False)
        monkeypatch.delattr(f"mira_producer.report.{module}", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(InputError, match="pip install matplotlib jinja2"):
        check_report(tmp_path / "out.html")


def test_the_library_is_loaded_only_when_a_report_is_asked_for() -> None:
    code = "import sys, mira_producer.cli, mira_producer.report.page; print({'matplotlib', 'jinja2'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"
