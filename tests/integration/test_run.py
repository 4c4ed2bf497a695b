"""`mira-queue run` from its input to its exit code. The work is done by a worker of the module: `--workers 0`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import redis

from mira_queue.contract.states import JobState
from producer import MiraQueue
from tests.queue_process import API_KEY, WorkerProcess
from tests.run_process import ANSWERS, ERRORS, RunProcess, ids, read_lines, run_to_the_end, write_lines
from tests.simulator_process import SimulatorProcess
from tests.waiting import wait_until

INPUT = "input.jsonl"


@pytest.fixture
def target(worker: WorkerProcess, redis_url: str, simulator: SimulatorProcess) -> dict[str, Any]:
    """Settings of a run whose lines the module's worker answers."""
    return {"redis_url": redis_url, "api_base": simulator.url}


def prompts(count: int, suffix: str = "") -> list[dict[str, Any]]:
    return [{"custom_id": f"req-{number}", "prompt": f"Question {number}{suffix}"} for number in range(1, count + 1)]


def keys(client: redis.Redis) -> list[bytes]:
    """What the ledger and the result backend hold."""
    return sorted([*client.keys("mira:[!g]*"), *client.keys("celery-task-meta-*")])


def answered_calls(simulator: SimulatorProcess) -> dict[str, int]:
    """How often each line's call was answered."""
    return {content: count["answered"] for content, count in simulator.requests()["by_content"].items()}


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
        "total": 304,
        "answered": 304,
        "failed": 0,
        "codes": {},
        "unanswered_calls": 0,
        "prompt_tokens": sum(line["response"]["body"]["usage"]["prompt_tokens"] for line in answers.values()),
        "completion_tokens": sum(line["response"]["body"]["usage"]["completion_tokens"] for line in answers.values()),
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
    assert f"failed: 4 in {ERRORS} (now: " in run.said()
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
    assert f"all 6 lines of {INPUT} were answered or have failed already: nothing was sent" in again.said()
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


def test_a_packed_input_is_answered_as_a_plain_one_beside_it(tmp_path: Path, target: dict[str, Any]) -> None:
    lines = write_lines(tmp_path / "plain.jsonl", prompts(120)).read_bytes()
    (tmp_path / "questions.jsonl.gz").write_bytes(gzip.compress(lines))

    run = run_to_the_end(tmp_path, "questions.jsonl.gz", "--workers", "0", files=False, **target)

    assert run.wait() == 0, run.said()
    assert ids(read_lines(tmp_path / "questions.answers.jsonl")) == ids(prompts(120))


def test_identical_requests_are_sent_once_and_each_line_gets_the_answer(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    texts = [*(f"Question {number}" for number in range(20)), "[[sim:400]]"]
    lines = [{"custom_id": f"{number}", "prompt": texts[number % 21]} for number in range(630)]
    write_lines(tmp_path / INPUT, lines)
    simulator.configure(latency_s=0.05)
    with RunProcess.start(tmp_path, INPUT, "--workers", "0", "--dedupe", **target) as killed:
        wait_until("some lines are answered", lambda: read_lines(tmp_path / ANSWERS))
        killed.kill()

    run = run_to_the_end(tmp_path, INPUT, "--workers", "0", "--dedupe", **target)

    assert run.wait() == 1, run.said()
    answers, errors = read_lines(tmp_path / ANSWERS), read_lines(tmp_path / ERRORS)
    assert ids([*answers, *errors]) == ids(lines)
    asked = {line["custom_id"]: line["prompt"] for line in lines}
    for line in answers:
        assert line["response"]["body"]["choices"][0]["message"]["content"].endswith(asked[line["custom_id"]])
    assert len({line["id"] for line in [*answers, *errors]}) == 630
    assert {asked[line["custom_id"]] for line in errors} == {"[[sim:400]]"}
    assert simulator.stats()["calls"] == 21
    wait_until(
        "the ledger keeps nothing for ever", lambda: all(redis_client.ttl(key) > 0 for key in keys(redis_client))
    )


def test_lines_whose_twins_were_written_by_a_killed_run_get_an_answer_too(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess
) -> None:
    lines = [{"custom_id": f"{number}", "prompt": f"Question {number % 2}"} for number in range(40)]
    write_lines(tmp_path / INPUT, lines)
    write_lines(tmp_path / ANSWERS, [{"custom_id": f"{number}"} for number in (0, 1, 7, 8)])

    run = run_to_the_end(tmp_path, INPUT, "--workers", "0", "--dedupe", **target)

    assert run.wait() == 0, run.said()
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(lines)
    assert simulator.stats()["calls"] == 2


def test_an_ordered_run_ends_with_its_files_in_the_order_of_the_input(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess
) -> None:
    lines = prompts(200)
    for number in range(0, 200, 5):
        lines[number]["prompt"] += " [[sim:400]]" if number % 2 else " [[sim:slow=0.3]]"
    write_lines(tmp_path / INPUT, lines)
    wrong = {line["custom_id"] for line in lines if "400" in line["prompt"].partition("[[")[2]}
    with RunProcess.start(tmp_path, INPUT, "--workers", "0", "--ordered", **target) as killed:
        wait_until("some lines are answered", lambda: len(read_lines(tmp_path / ANSWERS)) > 10)
        killed.kill()

    run = run_to_the_end(tmp_path, INPUT, "--workers", "0", "--ordered", **target)

    assert run.wait() == 1, run.said()
    in_order = [line["custom_id"] for line in lines]
    assert [line["custom_id"] for line in read_lines(tmp_path / ANSWERS)] == [i for i in in_order if i not in wrong]
    assert [line["custom_id"] for line in read_lines(tmp_path / ERRORS)] == [i for i in in_order if i in wrong]

    # The same command on files in order, and on files of a run that was not to be ordered.
    assert run_to_the_end(tmp_path, INPUT, "--workers", "0", "--ordered", **target).wait() == 1
    write_lines(tmp_path / ANSWERS, reversed(read_lines(tmp_path / ANSWERS)))
    late = run_to_the_end(tmp_path, INPUT, "--workers", "0", "--ordered", **target)
    assert "its lines are in the order of the input now" in late.said()
    assert [line["custom_id"] for line in read_lines(tmp_path / ANSWERS)] == [i for i in in_order if i not in wrong]


# --- 2: nothing was sent ---


def test_a_wrong_line_stops_all_before_anything_is_sent(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    write_lines(tmp_path / INPUT, [*prompts(50), {"custom_id": "req-7", "prompt": "a duplicate"}, {"prompt": 1}])

    run = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert run.wait() == 2
    assert f"mira-queue: {INPUT}, line 51, custom_id: 'req-7' is that of line 7 too" in run.said()
    assert f"mira-queue: {INPUT}, line 52, prompt: expected a string" in run.said()
    assert simulator.stats()["calls"] == 0
    assert keys(redis_client) == []
    assert not (tmp_path / ANSWERS).exists()
    assert "Traceback" not in run.said()


def _output_of_another_input(folder: Path) -> list[str]:
    write_lines(folder / ANSWERS, [{"custom_id": "another-1"}])
    return [INPUT]


def _input_is_output(folder: Path) -> list[str]:
    (folder / "link.jsonl").symlink_to(INPUT)
    return ["link.jsonl", "--output", INPUT]


def _input_is_errors(folder: Path) -> list[str]:
    return [INPUT, "--errors", INPUT]


def _one_file_for_both(folder: Path) -> list[str]:
    return [INPUT, "--errors", f"./{ANSWERS}"]


def _no_input(folder: Path) -> list[str]:
    return ["missing.jsonl"]


def _input_is_a_folder(folder: Path) -> list[str]:
    return ["."]


@pytest.mark.parametrize(
    ("arrange", "said"),
    [
        (_output_of_another_input, "'another-1' is not in input.jsonl: these are the answers of another file"),
        (_input_is_output, "--output is the input file itself: name another one"),
        (_input_is_errors, "--errors is the input file itself: name another one"),
        (_one_file_for_both, "--output and --errors are the same file: name two"),
        (_no_input, "missing.jsonl: no such file: give a file with one JSON request a line"),
        (_input_is_a_folder, ".: no such file: give a file with one JSON request a line"),
    ],
)
def test_wrong_files_are_refused_and_left_alone(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, arrange: Any, said: str
) -> None:
    write_lines(tmp_path / INPUT, prompts(3))
    arguments = ["--output", ANSWERS, "--errors", ERRORS, *arrange(tmp_path)]
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl")}

    run = run_to_the_end(tmp_path, *arguments, "--workers", "0", files=False, **target)

    assert run.wait() == 2, run.said()
    assert said in run.said()
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl")} == before
    assert simulator.stats()["calls"] == 0


def test_a_run_without_a_key_says_where_to_put_one_and_how_to_do_without(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess
) -> None:
    write_lines(tmp_path / INPUT, prompts(3))

    run = run_to_the_end(tmp_path, INPUT, **{**target, "api_key": None})

    assert run.wait() == 2
    assert "MIRA_API_KEY is not set" in run.said()
    assert "--simulate" in run.said()
    assert simulator.stats()["calls"] == 0


# --- 3: the account ---

REFUSALS: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {
    401: ({"keys": ["sk-mira-of-somebody-else"]}, {"keys": None}),
    402: ({"balance_calls": 0}, {"balance_calls": None}),
    403: ({"plans": {"max": ["mira-pro"]}}, {"plans": {"max": ["mira", "mira-pro"]}}),
}


@pytest.mark.parametrize("status", REFUSALS)
def test_a_refusal_of_the_account_stops_the_run_which_goes_on_once_it_is_mended(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, redis_client: redis.Redis, status: int
) -> None:
    refuse, mend = REFUSALS[status]
    write_lines(tmp_path / INPUT, prompts(300))
    simulator.configure(latency_s=0.02)
    with RunProcess.start(tmp_path, INPUT, "--workers", "0", **target) as run:
        wait_until("some lines are answered", lambda: len(read_lines(tmp_path / ANSWERS)) > 20)
        simulator.configure(**refuse)
        code = run.wait()

    assert code == 3, run.said()
    done = read_lines(tmp_path / ANSWERS)
    refused = simulator.stats()["by_status"][str(status)]
    assert len(done) == simulator.stats()["answered"] < 300
    # Nothing beyond the window of open jobs, and of that only what the worker made before it was withdrawn.
    assert refused < 200
    assert not (tmp_path / ERRORS).exists()
    assert f"stopped by the account: {run.summary()['reason']}" in run.said()
    assert f"({status})" in run.summary()["reason"]
    assert "mend it and run the same command again: it goes on where it stopped" in run.said()
    assert keys(redis_client) == []

    simulator.configure(**mend)
    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert again.wait() == 0, again.said()
    assert f"going on after {len(done)} that are answered already" in again.said()
    assert read_lines(tmp_path / ANSWERS)[: len(done)] == done
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(prompts(300))
    assert set(answered_calls(simulator).values()) == {1}


def test_a_refusal_that_a_killed_run_has_left_behind_does_not_stop_the_next_one(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, queue: MiraQueue, redis_client: redis.Redis
) -> None:
    write_lines(tmp_path / INPUT, prompts(8, suffix=" [[sim:401x1]] [[sim:slow=1]]"))
    with RunProcess.start(tmp_path, INPUT, "--workers", "0", **target) as run:
        wait_until("calls are in flight", lambda: simulator.stats()["in_flight"] > 0)
        run.kill()
    jobs = [key.decode().removeprefix("mira:job:") for key in redis_client.keys("mira:job:*")]
    wait_until(
        "the worker has stored the refusals",
        lambda: all(queue.job(job).status().state is JobState.FAILED for job in jobs),
    )

    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert again.wait() == 0, again.said()
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(prompts(8))
    assert keys(redis_client) == []


def test_a_model_that_the_plan_lacks_holds_back_only_its_own_lines(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    lines = [{**line, "model": "mira-max"} if number % 3 == 0 else line for number, line in enumerate(prompts(300))]
    write_lines(tmp_path / INPUT, lines)
    simulator.configure(plans={"max": ["mira"]})

    run = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert run.wait() == 3, run.said()
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(line for line in lines if "model" not in line)
    assert not (tmp_path / ERRORS).exists()
    assert simulator.stats()["by_status"]["403"] < 100
    assert "the account's plan lacks the model 'mira-max': its lines are left, all others go on" in run.said()
    assert "(403)" in run.summary()["reason"]
    assert keys(redis_client) == []

    simulator.configure(plans={"max": ["mira", "mira-max"]})
    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert again.wait() == 0, again.said()
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(lines)


def test_a_run_that_shall_fail_on_the_accounts_errors_notes_one_for_each_line(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    write_lines(tmp_path / INPUT, prompts(40))
    simulator.configure(balance_calls=10)

    run = run_to_the_end(tmp_path, INPUT, "--workers", "0", "--on-account-error", "fail", **target)

    assert run.wait() == 1, run.said()
    answers, errors = read_lines(tmp_path / ANSWERS), read_lines(tmp_path / ERRORS)
    assert (len(answers), ids([*answers, *errors])) == (10, ids(prompts(40)))
    assert {(line["error"]["code"], line["response"]["status_code"]) for line in errors} == {("balance_used_up", 402)}
    assert keys(redis_client) == []


# --- 130: interrupted ---


def test_the_first_interrupt_lets_calls_in_flight_finish_and_withdraws_the_rest(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    write_lines(tmp_path / INPUT, prompts(300))
    simulator.configure(latency_s=0.5)
    with RunProcess.start(tmp_path, INPUT, "--workers", "0", **target) as run:
        wait_until("some lines are answered", lambda: len(read_lines(tmp_path / ANSWERS)) >= 8)
        wait_until("calls are in flight", lambda: simulator.stats()["in_flight"] > 0)
        run.interrupt()
        code = run.wait()

    assert code == 130, run.said()
    assert "interrupted: run the same command again, and it goes on where it stopped" in run.said()
    done = read_lines(tmp_path / ANSWERS)
    stats = simulator.stats()
    assert len(done) == stats["answered"] == stats["calls"] < 300
    assert stats["client_gone"] == 0
    assert keys(redis_client) == []

    # Lines that were changed meanwhile: the answered one keeps its answer, the other is sent as it is now.
    open_id = next(line["custom_id"] for line in prompts(300) if line["custom_id"] not in ids(done))
    changed = [
        {**line, "prompt": "Changed"} if line["custom_id"] in (open_id, done[0]["custom_id"]) else line
        for line in prompts(300)
    ]
    write_lines(tmp_path / INPUT, changed)
    simulator.configure(latency_s=0)
    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert again.wait() == 0, again.said()
    assert read_lines(tmp_path / ANSWERS)[: len(done)] == done
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(prompts(300))
    assert answered_calls(simulator).pop("Changed") == 1
    assert set(answered_calls(simulator).values()) == {1}


def test_a_line_whose_job_was_cancelled_after_its_run_was_killed_is_sent_by_the_next(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, queue: MiraQueue, redis_client: redis.Redis
) -> None:
    simulator.configure(latency_s=1)
    write_lines(tmp_path / INPUT, prompts(60))
    with RunProcess.start(tmp_path, INPUT, "--workers", "0", **target) as run:
        wait_until("all lines are handed in", lambda: len(redis_client.keys("mira:job:*")) == 60)
        run.kill()
    jobs = [key.decode().removeprefix("mira:job:") for key in redis_client.keys("mira:job:*")]
    assert sum(queue.ledger.cancel(job) for job in jobs if queue.ledger.status(job).state is JobState.QUEUED) > 0
    simulator.configure(latency_s=0)

    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert again.wait() == 0, again.said()
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(prompts(60))


# --- the deadline ---


def test_lines_that_have_not_ended_at_the_deadline_are_noted_and_not_run(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    write_lines(tmp_path / INPUT, prompts(300))
    # Far fewer than all get their answer by then, on the fastest machine.
    simulator.configure(latency_s=0.5)

    run = run_to_the_end(tmp_path, INPUT, "--workers", "0", "--deadline", "6s", **target)

    assert run.wait() == 1, run.said()
    answers, errors = read_lines(tmp_path / ANSWERS), read_lines(tmp_path / ERRORS)
    assert ids([*answers, *errors]) == ids(prompts(300))
    assert len(answers) == simulator.stats()["answered"] == simulator.stats()["calls"]
    assert {(line["response"], line["error"]["code"]) for line in errors} == {(None, "batch_expired")}
    assert errors[0]["error"]["message"].startswith("not run: the deadline, ")
    assert run.summary()["codes"] == {"batch_expired": len(errors)}
    assert f"to run the rest later, move {ERRORS} away and run again" in run.said()
    assert keys(redis_client) == []

    simulator.configure(latency_s=0)
    (tmp_path / ERRORS).unlink()
    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", "--deadline", "1d", **target)

    assert again.wait() == 0, again.said()
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(prompts(300))


def test_a_deadline_that_has_passed_is_refused_for_a_new_run_and_ends_one_that_goes_on(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess
) -> None:
    write_lines(tmp_path / INPUT, prompts(5))
    arguments = [INPUT, "--workers", "0", "--deadline", "2020-01-01T00:00"]

    new = run_to_the_end(tmp_path, *arguments, **target)

    assert new.wait() == 2
    assert "--deadline: 2020-01-01 00:00:00" in new.said()
    assert not (tmp_path / ERRORS).exists()

    write_lines(tmp_path / ANSWERS, [{"custom_id": "req-1"}])
    going_on = run_to_the_end(tmp_path, *arguments, **target)

    assert going_on.wait() == 1
    assert ids(read_lines(tmp_path / ERRORS)) == ["req-2", "req-3", "req-4", "req-5"]
    assert simulator.stats()["calls"] == 0


# --- the budget ---


def test_a_run_stops_at_its_budget_of_calls_and_goes_on_with_a_larger_one(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    write_lines(tmp_path / INPUT, prompts(300))

    run = run_to_the_end(tmp_path, INPUT, "--workers", "0", "--max-requests", "130", **target)

    assert run.wait() == 3, run.said()
    assert simulator.stats()["calls"] == len(read_lines(tmp_path / ANSWERS)) == 130
    assert "stopped: the budget is used up: 130 of 130 requests" in run.said()
    assert "170 lines left: run the same command again with a larger budget" in run.said()
    assert keys(redis_client) == []

    same = run_to_the_end(tmp_path, INPUT, "--workers", "0", "--max-requests", "130", **target)
    assert same.wait() == 3
    assert simulator.stats()["calls"] == 130

    more = run_to_the_end(tmp_path, INPUT, "--workers", "0", "--max-requests", "300", **target)
    assert more.wait() == 0, more.said()
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(prompts(300))


def test_a_run_stops_at_its_budget_of_tokens_or_money_and_exceeds_it_by_the_calls_in_flight_at_most(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    write_lines(tmp_path / INPUT, prompts(300))
    (tmp_path / "prices.toml").write_text('currency = "USD"\n[models.mira]\nprompt = 1\ncompletion = 1\n')
    one = run_to_the_end(tmp_path, INPUT, "--workers", "0", "--max-requests", "1", **target)
    assert one.wait() == 3, one.said()
    a_line = one.summary()["prompt_tokens"] + one.summary()["completion_tokens"]
    most = 100 * a_line

    for budget in (["--max-tokens", str(most)], ["--max-cost", f"{2 * most / 1_000_000:f}"]):
        run = run_to_the_end(tmp_path, INPUT, "--workers", "0", *budget, **target)

        assert run.wait() == 3, run.said()
        assert "stopped: the budget is " in run.said()
    used = [line["response"]["body"]["usage"]["total_tokens"] for line in read_lines(tmp_path / ANSWERS)]
    # Eight calls are in flight at a time, and an answer is a few tokens longer than another.
    assert most * 1.5 < sum(used) <= 2 * most + 8 * max(used)
    assert keys(redis_client) == []


def test_a_budget_of_money_needs_a_price_for_every_model(tmp_path: Path, target: dict[str, Any]) -> None:
    write_lines(tmp_path / INPUT, [*prompts(2), {"prompt": "Three", "model": "mira-max"}])
    arguments = [INPUT, "--workers", "0", "--max-cost", "5"]

    without = run_to_the_end(tmp_path, *arguments, **target)
    assert without.wait() == 2
    assert "--max-cost: needs a price table: --prices FILE, or prices.toml here" in without.said()

    (tmp_path / "prices.toml").write_text('currency = "USD"\n[models.mira]\nprompt = 1\ncompletion = 1\n')
    lacking = run_to_the_end(tmp_path, *arguments, **target)
    assert lacking.wait() == 2
    assert "line 3, model: 'mira-max' has no price in the table, which --max-cost needs" in lacking.said()


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
    assert f"{INPUT} has changed during the run" in run.said()
    assert {name.partition("-")[0] for name in ids(read_lines(tmp_path / ANSWERS))} == {"req"}
