"""`mira-queue jobs` and the options of `mira-queue enqueue`, without a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mira_queue.ledger.embedded import EmbeddedServer
from tests.support.cli_process import Cli


@pytest.fixture(scope="module")
def cli(short_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    state_dir = short_folder / "job-lists"
    with EmbeddedServer(state_dir):
        yield Cli(tmp_path_factory.mktemp("jobs"), state_dir=state_dir)


def test_jobs_are_listed_and_all_that_match_are_cancelled_after_a_count(cli: Cli) -> None:
    delayed = cli("enqueue", "--delay", "2h", "--metadata", "tenant=7", "hello").out.strip()
    late = cli("enqueue", "--deadline", "90m", "--priority", "low", "--metadata", "tenant=8", "hello").out.strip()

    table = cli("jobs")
    found = cli("jobs", "--json", "--metadata", "tenant=8", "--since", "1h")
    first, second = cli("jobs", "--limit", "1"), cli("jobs", "--after", late)
    counted = cli("jobs", "--cancel", "--metadata", "tenant=7")
    cancelled = cli("jobs", "--cancel", "--yes", "--json", "--metadata", "tenant=7")
    left = cli("jobs", "--json", "--state", "queued")

    rows = [line.split("\t") for line in table.out.splitlines()]
    assert [dict(zip(rows[0], row, strict=True))["id"] for row in rows[1:]] == [late, delayed]
    [job] = found.json
    assert (job["id"], job["priority"], job["metadata"]) == (late, "low", {"tenant": "8"})
    assert job["deadline_ms"] == pytest.approx(job["created_ms"] + 90 * 60 * 1000, abs=5000)
    assert f"--after {late}" in first.err
    assert delayed in second.out
    assert late not in second.out
    assert counted.code == 2
    assert "1 jobs match" in counted.err
    assert cancelled.json == {"done": 1}
    assert [job["id"] for job in left.json] == [late]
    assert cli("jobs", "--retry", "--yes", "--json").json == {"done": 0}


@pytest.mark.parametrize(
    ("arguments", "keyword"),
    [
        (("jobs", "--state", "done"), "--state"),
        (("jobs", "--code", "poison", "--state", "queued"), "code"),
        (("jobs", "--since", "yesterday"), "--since"),
        (("jobs", "--after", "nobody"), "after"),
        (("jobs", "--cancel", "--retry"), "--retry"),
        (("enqueue", "--delay", "soon", "hello"), "--delay"),
        (("enqueue", "--delay", "2h", "--deadline", "1h", "hello"), "deadline"),
        (("enqueue", "--priority", "urgent", "hello"), "--priority"),
        (("enqueue", "--metadata", "tenant", "hello"), "--metadata"),
    ],
)
def test_a_wrong_option_is_one_line(cli: Cli, arguments: tuple[str, ...], keyword: str) -> None:
    wrong = cli(*arguments)

    assert (wrong.code, wrong.out) == (2, "")
    assert keyword in wrong.err
