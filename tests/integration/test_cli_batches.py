"""The commands about batches, as somebody types them: what they print, where, and with which exit code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mira_queue import MiraQueue
from tests.support.batch_steps import end_supervisors, entries
from tests.support.cli_process import Cli
from tests.support.queue_process import WorkerProcess
from tests.support.run_process import read_lines, write_lines
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

# With calls of half a second, far more than end while a command is on its way.
MANY = 1000


@pytest.fixture
def cli(target: dict[str, Any], queue: MiraQueue, tmp_path: Path, simulator: SimulatorProcess) -> Iterator[Cli]:
    """The command on the module's worker; supervisors are ended with the test."""
    yield Cli(tmp_path, **target, state_dir=queue.settings.state_dir)
    end_supervisors(queue)


def submitted(cli: Cli, lines: list[dict[str, Any]], *options: str) -> str:
    write_lines(cli.folder / "input.jsonl", lines)
    done = cli("submit", "input.jsonl", *options)
    assert done.code == 0, done.err
    return done.out.strip()


def test_a_batch_from_its_file_to_its_page(cli: Cli, queue: MiraQueue) -> None:
    write_lines(cli.folder / "input.jsonl", entries(20))
    (cli.folder / "prices.toml").write_text('currency = "USD"\n[models.mira]\nprompt = 1\ncompletion = 2\n')

    batch_id = submitted(cli, entries(20), "--metadata", "for=a test")
    watched = cli("status", batch_id, "--watch")
    saved = cli("results", batch_id, "-o", "answers.jsonl", "--errors", "errors.jsonl")
    verified = cli("verify", "input.jsonl", "answers.jsonl", "errors.jsonl")
    drawn = cli("report", batch_id, "-o", "report.html")

    columns, values = (line.split("\t") for line in watched.out.splitlines())
    row = dict(zip(columns, values, strict=True))
    assert (row["status"], row["done"], row["failed"], row["total"]) == ("completed", "20", "0", "20")
    assert row["cost"].endswith("USD")
    assert saved.err.startswith("20 answers, 0 failed, of 20 lines")
    assert (verified.code, drawn.code) == (0, 0)
    assert "<title>input.jsonl - mira-queue batch</title>" in (cli.folder / "report.html").read_text(encoding="utf-8")
    listed = cli("batches", "--json").json
    assert [(each["id"], each["metadata"]) for each in listed] == [(batch_id, {"for": "a test"})]


def test_a_watch_that_goes_into_a_file_is_whole_lines_without_colours(
    cli: Cli, simulator: SimulatorProcess, queue: MiraQueue
) -> None:
    simulator.configure(latency_s=0.5)
    batch_id = submitted(cli, entries(MANY))
    wait_until("some are answered", lambda: queue.batches.get(batch_id).answered > 0)
    log = cli.folder / "watch.log"
    process = cli.start("status", batch_id, "--watch", log=log)
    wait_until("it says how far it is", lambda: b"of 1,000" in log.read_bytes())
    simulator.configure(latency_s=0)
    assert process.wait(60) == 0

    assert re.match(r"\d+ of 1,000 \(\d+%\); ", log.read_text())
    assert "\x1b" not in log.read_text()


def test_results_of_a_batch_that_runs_are_whole_lines(cli: Cli, simulator: SimulatorProcess, queue: MiraQueue) -> None:
    simulator.configure(latency_s=0.3)
    batch_id = submitted(cli, entries(60))
    wait_until("some are answered", lambda: queue.batches.get(batch_id).answered > 5)

    saved = cli("results", batch_id, "-o", "answers.jsonl")

    assert 5 < len(read_lines(cli.folder / "answers.jsonl")) <= 60
    assert saved.code == 0
    assert cli("verify", "input.jsonl", "answers.jsonl").code in (0, 1)
    simulator.configure(latency_s=0)
    queue.batches.wait(batch_id, 60)


def test_what_is_asked_wrongly_is_one_line_and_an_exit_code(
    cli: Cli, queue: MiraQueue, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    batch_id = submitted(cli, entries(3))
    queue.batches.wait(batch_id, 60)
    write_lines(cli.folder / "input.jsonl", entries(1))
    call = cli.here(monkeypatch, capsys)

    for words, code, said in (
        (("submit", "input.jsonl", "--max-cost", "10"), 2, "needs a price table"),
        (("submit", "input.jsonl", "--max-cost", "ten"), 2, "amount above 0"),
        (("submit", "input.jsonl", "--prices", "none.toml"), 2, "none.toml: cannot be read"),
        (("submit", "."), 2, "is a directory"),
        (("submit", "input.jsonl", "--metadata", "x"), 2, "expected KEY=VALUE"),
        (("submit", "input.jsonl", "--deadline", "soon"), 2, "expected 24h"),
        (("resume", batch_id), 1, "has ended"),
        (("pause", batch_id), 1, "has ended"),
        (("cancel", batch_id), 1, "has ended"),
        (("retry", batch_id), 1, "has no failed line"),
        (("retry", batch_id, "--status", "bogus!"), 2, "402"),
        (("retry", batch_id, "--status", "zzz"), 2, "a code such as content_blocked, got 'zzz'"),
        (("report", batch_id, "-o", "nowhere/report.html"), 2, "cannot be written"),
        (("results", batch_id, "-o", "nowhere/answers.jsonl"), 2, "cannot be written"),
        (("results", batch_id, "--errors", "nowhere/errors.jsonl"), 2, "nowhere/errors.jsonl: cannot be written"),
        (("verify", "none.jsonl", "a.jsonl", "b.jsonl"), 2, "none.jsonl: no such file"),
        (("verify", "input.jsonl", "a.jsonl", "b.jsonl"), 2, "a.jsonl: no such file"),
        (("results", batch_id, "-o", "a.jsonl", "--errors", "./a.jsonl"), 2, "name two files"),
        (("status", "batch_0"), 1, "no batch 'batch_0'"),
        (("report", "batch_0", "-o", "report.html"), 1, "no batch 'batch_0'"),
    ):
        ended, out, err = call(*words)
        assert (ended, out) == (code, ""), (words, err)
        assert said in err, (words, err)
        assert len(err.splitlines()) == 1, (words, err)


def test_a_resumed_batch_is_watched_until_it_has_ended(cli: Cli, simulator: SimulatorProcess, queue: MiraQueue) -> None:
    simulator.configure(balance_calls=5)
    batch_id = submitted(cli, entries(20))
    assert queue.batches.wait(batch_id, 60).paused_by == "account"
    simulator.configure(balance_calls=None)

    assert cli("resume", batch_id).code == 0
    watched = cli("status", batch_id, "--watch", "--json").json

    assert (watched[0]["status"], watched[0]["request_counts"]["completed"]) == ("completed", 20)


def test_a_batch_is_cancelled_though_its_supervisor_was_killed_a_moment_ago(
    cli: Cli, simulator: SimulatorProcess, queue: MiraQueue, worker: WorkerProcess
) -> None:
    simulator.configure(latency_s=0.5)
    batch_id = submitted(cli, entries(MANY))
    wait_until("some are answered", lambda: queue.batches.get(batch_id).answered > 0)
    end_supervisors(queue)

    assert cli("cancel", batch_id).code == 0

    batch = queue.batches.wait(batch_id, 60)
    assert batch.status == "cancelled"
    assert set(batch.codes) == {"batch_cancelled"}
    assert batch.answered + batch.failed == MANY


def test_of_several_batches_each_is_done_that_can_be(cli: Cli, queue: MiraQueue, simulator: SimulatorProcess) -> None:
    simulator.configure(latency_s=0.5)
    batch_id = submitted(cli, entries(MANY))

    done = cli("cancel", "batch_0", batch_id, "--json")

    assert done.code == 1
    assert [(each["id"], each["object"]) for each in done.json] == [(batch_id, "batch")]
    assert "no batch 'batch_0'" in done.err
    assert batch_id in done.err
    assert queue.batches.wait(batch_id, 60).status == "cancelled"


def test_retry_shows_scripts_the_batch_as_status_does(cli: Cli, queue: MiraQueue) -> None:
    lines = entries(3)
    lines[1]["prompt"] = "[[sim:moderation]]"
    batch_id = submitted(cli, lines)
    queue.batches.wait(batch_id, 60)

    retried = cli("retry", batch_id, "--json")
    wait_until("it has ended", lambda: queue.batches.wait(batch_id, 60).status == "completed")
    refused = cli("retry", batch_id, "--status", "5xx", "--json")

    [batch] = retried.json
    assert (retried.code, batch["id"], batch["request_counts"]["total"]) == (0, batch_id, 3)
    assert (refused.code, refused.json) == (1, cli("status", batch_id, "--json").json)
