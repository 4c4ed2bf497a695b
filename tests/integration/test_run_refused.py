"""What `mira-queue run` refuses: one line for each thing wrong, exit code 2, and nothing was sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.cli_process import Call, Cli
from tests.support.run_process import (
    ANSWERS,
    ERRORS,
    INPUT,
    keys,
    prompts,
    run_to_the_end,
    write_lines,
)
from tests.support.simulator_process import SimulatorProcess


@pytest.fixture
def run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """A run in the test's folder that is refused, without a process of its own: exit code, output and error."""
    cli = Cli(tmp_path, state_dir=tmp_path / "state")
    return lambda *arguments, **settings: cli.here(monkeypatch, capsys, **settings)("run", *arguments)


def test_a_wrong_line_stops_all_before_anything_is_sent(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    write_lines(tmp_path / INPUT, [*prompts(50), {"custom_id": "req-7", "prompt": "a duplicate"}, {"prompt": 1}])

    run = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert run.wait() == 2
    assert f"mira-queue: {INPUT}, line 51, custom_id: 'req-7'" in run.said()
    assert f"mira-queue: {INPUT}, line 52, prompt: " in run.said()
    assert "2 of 52 lines" in run.said()
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


def _standard_input(folder: Path) -> list[str]:
    return ["-"]


def _output_in_no_folder(folder: Path) -> list[str]:
    return [INPUT, "--output", "none/answers.jsonl"]


def _output_is_standard_output(folder: Path) -> list[str]:
    return [INPUT, "--output", "-"]


def _errors_in_no_folder(folder: Path) -> list[str]:
    return [INPUT, "--errors", "none/errors.jsonl"]


@pytest.mark.parametrize(
    ("arrange", "said"),
    [
        (_standard_input, "standard input: can be read only once"),
        (_output_is_standard_output, "mira-queue results ID -o -"),
        (_output_in_no_folder, "--output: none: no such directory: make it, or name another"),
        (_errors_in_no_folder, "--errors: none: no such directory: make it, or name another"),
        (_output_of_another_input, "'another-1' is not in the input"),
        (_input_is_output, "--output is the input file itself: name another one"),
        (_input_is_errors, "--errors is the input file itself: name another one"),
        (_one_file_for_both, "--output and --errors are the same file: name two"),
        (_no_input, "missing.jsonl: no such file"),
        (_input_is_a_folder, ".: is a directory"),
    ],
)
def test_wrong_files_are_refused_and_left_alone(
    tmp_path: Path, run_here: Call, target: dict[str, Any], simulator: SimulatorProcess, arrange: Any, said: str
) -> None:
    write_lines(tmp_path / INPUT, prompts(3))
    arguments = ["--output", ANSWERS, "--errors", ERRORS, *arrange(tmp_path)]
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl")}

    code, out, err = run_here(*arguments, "--workers", "0", **target)

    assert (code, out) == (2, ""), err
    assert said in err
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl")} == before
    assert not (tmp_path / "none").exists()
    assert not (tmp_path / "-").exists()
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


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (["--simulator-options", "--nonsense"], {}, "--simulator-options: unrecognized arguments: --nonsense (see "),
        (["--simulator-options", "--port x"], {}, "--simulator-options: argument --port: invalid int value: 'x' (see "),
        ([], {"state_dir": "/proc/none"}, "MIRA_STATE_DIR: /proc/none: "),
        ([], {"state_dir": "input.jsonl"}, "MIRA_STATE_DIR: "),
        (["--deadline", "soon"], {}, "--deadline: expected 24h, 90m, 2d, or a time such as "),
        (["--max-cost", "much"], {}, "--max-cost: expected an amount above 0, such as 10 or 0.50, got 'much'"),
        (["--prices", "none.toml"], {}, "none.toml: cannot be read: No such file or directory"),
    ],
)
def test_a_wrong_option_or_setting_is_one_line_and_exit_code_2(
    tmp_path: Path, run_here: Call, arguments: list[str], settings: dict[str, Any], said: str
) -> None:
    write_lines(tmp_path / INPUT, prompts(3))

    code, out, err = run_here(INPUT, "--simulate", *arguments, **settings)

    assert (code, out) == (2, ""), err
    assert err.count("\n") == 1
    assert said in err


def test_a_single_line_is_spoken_of_as_one(tmp_path: Path, target: dict[str, Any]) -> None:
    write_lines(tmp_path / INPUT, prompts(1))
    first = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)
    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert "1 of 1 request of input.jsonl goes to " in first.said()
    assert "this run: 1 line in " in first.said()
    assert "nothing was sent" in again.said()
