"""Deadline, budget, identical requests, order: what `mira-queue run` does when asked. `--workers 0`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis

from tests.support.run_process import (
    ANSWERS,
    ERRORS,
    INPUT,
    RunProcess,
    ids,
    keys,
    prompts,
    read_lines,
    run_to_the_end,
    write_lines,
)
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until


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
    assert "in the order of the input" in late.said()
    assert [line["custom_id"] for line in read_lines(tmp_path / ANSWERS)] == [i for i in in_order if i not in wrong]


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
    assert f"move {ERRORS} away and run the same command again" in run.said()
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
    assert "170 lines pending: run the same command again with a larger budget" in run.said()
    assert keys(redis_client) == []

    same = run_to_the_end(tmp_path, INPUT, "--workers", "0", "--max-requests", "130", **target)
    assert same.wait() == 3
    assert simulator.stats()["calls"] == 130
    assert same.said().splitlines() == [
        "answered: 130 of 300 in answers.jsonl",
        "stopped: the budget is used up: 130 of 130 requests",
        "170 lines pending: run the same command again with a larger budget to resume",
    ]

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
    assert "--max-cost needs a price table" in without.said()

    (tmp_path / "prices.toml").write_text('currency = "USD"\n[models.mira]\nprompt = 1\ncompletion = 1\n')
    lacking = run_to_the_end(tmp_path, *arguments, **target)
    assert lacking.wait() == 2
    assert "line 3, model: 'mira-max' has no price" in lacking.said()


def test_answers_that_say_nothing_of_tokens_are_counted_beside_the_tokens(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess
) -> None:
    write_lines(tmp_path / INPUT, [{**line, "stream": number < 2} for number, line in enumerate(prompts(3))])

    run = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert run.wait() == 0, run.said()
    [usage] = [usage for line in read_lines(tmp_path / ANSWERS) if (usage := line["response"]["body"].get("usage"))]
    tokens_in, tokens_out = usage["prompt_tokens"], usage["completion_tokens"]
    assert f"; {tokens_in} tokens in, {tokens_out} out (2 answers " in run.said()
    assert run.summary()["answers_without_usage"] == 2
