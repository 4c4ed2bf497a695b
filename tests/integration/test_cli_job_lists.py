"""`mira-queue jobs` and the options of `mira-queue enqueue`, without a worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli_process import Call, Cli


@pytest.fixture
def call(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return Cli(tmp_path, redis_url=redis_url).here(monkeypatch, capsys)


def test_jobs_are_listed_and_all_that_match_are_cancelled_after_a_count(call: Call) -> None:
    def listed(*options: str) -> Any:
        return json.loads(call("jobs", "--json", *options)[1])

    delayed = call("enqueue", "--delay", "2h", "--metadata", "tenant=7", "hello")[1].strip()
    late = call("enqueue", "--deadline", "90m", "--priority", "low", "--metadata", "tenant=8", "hello")[1].strip()

    rows = [line.split("\t") for line in call("jobs")[1].splitlines()]
    assert [dict(zip(rows[0], row, strict=True))["id"] for row in rows[1:]] == [late, delayed]
    [job] = listed("--metadata", "tenant=8", "--since", "1h")
    assert (job["id"], job["priority"], job["metadata"]) == (late, "low", {"tenant": "8"})
    assert job["deadline_ms"] == pytest.approx(job["created_ms"] + 90 * 60 * 1000, abs=60_000)
    assert f"--after {late}" in call("jobs", "--limit", "1")[2]
    assert [job["id"] for job in listed("--after", late)] == [delayed]

    code, _, counted = call("jobs", "--cancel", "--metadata", "tenant=7")
    assert (code, "cancel 1 job, add --yes" in counted) == (2, True)
    assert listed("--cancel", "--yes", "--metadata", "tenant=7") == {"done": 1}
    assert [job["id"] for job in listed("--state", "queued")] == [late]
    assert listed("--retry", "--yes") == {"done": 0}
    assert listed("--cancel", "--yes") == {"done": 1}


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
def test_a_wrong_option_is_one_line(call: Call, arguments: tuple[str, ...], keyword: str) -> None:
    code, out, err = call(*arguments)

    assert (code, out) == (2, "")
    assert keyword in err
