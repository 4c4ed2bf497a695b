"""`mira-queue run` from its input to its exit code. The work is done by a worker of the module: `--workers 0`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import redis

from tests.support.queue_process import API_KEY
from tests.support.run_process import (
    ANSWERS,
    ERRORS,
    INPUT,
    RunProcess,
    answered_calls,
    ids,
    keys,
    prompts,
    read_lines,
    run_to_the_end,
    write_lines,
)
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until


def test_every_line_is_answered_once_and_nothing_stays_in_the_queue(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    entries: list[dict[str, Any]] = [
        {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [], "model": "mira"}},
        {"custom_id": "b", "messages": [{"role": "user", "content": "Two"}], "temperature": 0},
        {"prompt": "Three"},
        {"custom_id": "d", "prompt": "Four", "model": "mira-max"},
    ]
    entries[0]["body"]["messages"] = [{"role": "user", "content": "One"}]
    write_lines(tmp_path / INPUT, entries + prompts(300))

    run = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert (run.wait(), run.said()) == (0, run.said())
    answers = {line["custom_id"]: line for line in read_lines(tmp_path / ANSWERS)}
    assert len(read_lines(tmp_path / ANSWERS)) == len(answers) == 304
    texts = {name: line["response"]["body"]["choices"][0]["message"]["content"] for name, line in answers.items()}
    assert [texts[name] for name in ("a", "b", "3", "d")] == [
        f"Simulated answer to: {word}" for word in ("One", "Two", "Three", "Four")
    ]
    assert answers["d"]["response"]["body"]["model"] == "mira-max"
    assert not (tmp_path / ERRORS).exists()
    assert simulator.stats()["calls"] == 304
    assert f"answered: 304 of 304 in {ANSWERS}" in run.said()
    assert run.summary() == {
        "exit_code": 0,
        "batch_id": run.batch_id(),
        "total": 304,
        "answered": 304,
        "failed": 0,
        "codes": {},
        "unanswered_calls": 0,
        "prompt_tokens": sum(line["response"]["body"]["usage"]["prompt_tokens"] for line in answers.values()),
        "completion_tokens": sum(line["response"]["body"]["usage"]["completion_tokens"] for line in answers.values()),
        "answers_without_usage": 0,
        "cost": None,
        "currency": None,
        "seconds": run.summary()["seconds"],
        "output": ANSWERS,
        "errors": ERRORS,
        "reason": "every line has its answer or its error",
    }
    assert keys(redis_client) == []
    assert API_KEY not in run.said()


def test_lines_that_fail_are_in_the_error_file_with_the_answer_and_the_exit_code_is_1(
    tmp_path: Path, target: dict[str, Any], redis_client: redis.Redis
) -> None:
    failing = {"bad": "[[sim:400]]", "blocked": "[[sim:moderation]]", "down": "[[sim:503]]", "gone": "[[sim:reset]]"}
    write_lines(tmp_path / INPUT, prompts(10) + [{"custom_id": name, "prompt": text} for name, text in failing.items()])

    run = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert run.wait() == 1, run.said()
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(prompts(10))
    errors = {line["custom_id"]: line for line in read_lines(tmp_path / ERRORS)}
    assert {name: (line["response"] or {}).get("status_code") for name, line in errors.items()} == {
        "bad": 400,
        "blocked": 422,
        "down": 503,
        "gone": None,
    }
    assert {name: line["error"]["code"] for name, line in errors.items()} == {
        "bad": "bad_request",
        "blocked": "content_blocked",
        "down": "server_error",
        "gone": "unreachable",
    }
    assert "Bad request" in errors["bad"]["response"]["body"]["detail"]
    assert all(line["error"]["message"] for line in errors.values())
    assert f"failed: 4 in {ERRORS} (this run: " in run.said()
    assert run.summary()["codes"]["bad_request (400)"] == 1
    assert "calls whose answer was lost, and which may have been billed: 3" in run.said()
    assert keys(redis_client) == []


def test_a_run_again_sends_nothing_and_has_the_same_exit_code(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess
) -> None:
    write_lines(tmp_path / INPUT, [*prompts(5), {"custom_id": "bad", "prompt": "[[sim:400]]"}])
    assert run_to_the_end(tmp_path, INPUT, "--workers", "0", **target).wait() == 1
    before = [(tmp_path / name).read_bytes() for name in (ANSWERS, ERRORS)]
    simulator.reset()

    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert again.wait() == 1
    assert "nothing was sent" in again.said()
    assert (again.summary()["answered"], again.summary()["failed"]) == (5, 1)
    assert [(tmp_path / name).read_bytes() for name in (ANSWERS, ERRORS)] == before
    assert simulator.stats()["calls"] == 0


def test_failed_lines_are_sent_again_when_the_error_file_is_gone(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess
) -> None:
    write_lines(tmp_path / INPUT, [*prompts(3), {"custom_id": "later", "prompt": "[[sim:400x1]] Later"}])
    assert run_to_the_end(tmp_path, INPUT, "--workers", "0", **target).wait() == 1
    (tmp_path / ERRORS).unlink()

    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert again.wait() == 0, again.said()
    assert ids(read_lines(tmp_path / ANSWERS)) == ["later", "req-1", "req-2", "req-3"]
    assert set(answered_calls(simulator).values()) == {1}


def test_answers_and_errors_stand_beside_the_input_when_no_files_are_named(
    tmp_path: Path, target: dict[str, Any]
) -> None:
    write_lines(tmp_path / "my questions.jsonl", [{"prompt": "One"}, {"prompt": "[[sim:400]]"}])

    run = run_to_the_end(tmp_path, "my questions.jsonl", "--workers", "0", files=False, **target)

    assert run.wait() == 1
    assert ids(read_lines(tmp_path / "my questions.answers.jsonl")) == ["1"]
    assert ids(read_lines(tmp_path / "my questions.errors.jsonl")) == ["2"]


def test_errors_are_next_to_the_answers_when_only_those_are_named(tmp_path: Path, target: dict[str, Any]) -> None:
    write_lines(tmp_path / "questions.jsonl", [{"prompt": "One"}, {"prompt": "[[sim:400]]"}])
    (tmp_path / "out").mkdir()

    arguments = ("questions.jsonl", "--output", "out/mine.jsonl", "--workers", "0")
    run = run_to_the_end(tmp_path, *arguments, files=False, **target)

    assert run.wait() == 1
    assert ids(read_lines(tmp_path / "out/mine.jsonl")) == ["1"]
    assert ids(read_lines(tmp_path / "out/questions.errors.jsonl")) == ["2"]
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["questions.jsonl"]


def test_a_packed_input_is_answered_as_a_plain_one_beside_it(tmp_path: Path, target: dict[str, Any]) -> None:
    lines = write_lines(tmp_path / "plain.jsonl", prompts(120)).read_bytes()
    (tmp_path / "questions.jsonl.gz").write_bytes(gzip.compress(lines))

    run = run_to_the_end(tmp_path, "questions.jsonl.gz", "--workers", "0", files=False, **target)

    assert run.wait() == 0, run.said()
    assert ids(read_lines(tmp_path / "questions.answers.jsonl")) == ids(prompts(120))


# --- while it runs ---


def test_a_long_run_does_not_fill_the_queue_with_second_messages(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    write_lines(tmp_path / INPUT, prompts(100))
    simulator.configure(latency_s=1)
    with RunProcess.start(tmp_path, INPUT, "--workers", "0", **target) as run:
        # Longer than a look at all open jobs.
        wait_until("it has gone on for a while", lambda: simulator.stats()["answered"] > 44)
        messages = sum(redis_client.llen(key) for key in redis_client.keys("mira.jobs*"))
        open_jobs = len(redis_client.keys("mira:job:*"))
        simulator.configure(latency_s=0)
        assert run.wait() == 0, run.said()

    assert messages <= open_jobs


def test_lines_that_are_added_during_a_run_are_for_the_next(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess
) -> None:
    write_lines(tmp_path / INPUT, prompts(400))
    simulator.configure(latency_s=0.02)
    with RunProcess.start(tmp_path, INPUT, "--workers", "0", **target) as run:
        wait_until("it is under way", lambda: read_lines(tmp_path / ANSWERS))
        with (tmp_path / INPUT).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"custom_id": "added", "prompt": "Added"}) + "\n")
        code = run.wait()

    assert code == 0, run.said()
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(prompts(400))
    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)
    assert again.wait() == 0
    assert read_lines(tmp_path / ANSWERS)[-1]["custom_id"] == "added"


def test_a_file_that_is_rewritten_during_a_run_is_named_and_no_answer_goes_to_a_wrong_line(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess
) -> None:
    write_lines(tmp_path / INPUT, prompts(2000))
    simulator.configure(latency_s=0.02)
    with RunProcess.start(tmp_path, INPUT, "--workers", "0", **target) as run:
        wait_until("it is under way", lambda: read_lines(tmp_path / ANSWERS))
        content = (tmp_path / INPUT).read_bytes()
        (tmp_path / INPUT).write_bytes(content.replace(b'"req-', b'"other-'))
        code = run.wait()

    assert code != 0
    assert f"{INPUT} has changed" in run.said()
    assert {name.partition("-")[0] for name in ids(read_lines(tmp_path / ANSWERS))} == {"req"}
