"""The simulator as a process: what it counts, how it is changed while it runs, outages, and how it begins and ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import requests

from tests.integration.test_simulator_api import begin, call, running, simulator, wait_until
from tests.support import waiting
from tests.support.simulator_process import SimulatorProcess

__all__ = ["running", "simulator"]  # fixtures
REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "mira_queue.simulator"]


def test_calls_before_a_promised_retry_after_are_counted(simulator: SimulatorProcess) -> None:
    simulator.configure(early_grace_s=0)
    call(simulator, "[[sim:429 retry-after=60]]")
    call(simulator, "too early")
    call(simulator, "another account", key="other")
    stats = simulator.stats()
    assert stats["early"] == 1
    assert 0 < stats["earliest_s"] <= 60


def test_a_call_after_the_promised_time_is_not_early(simulator: SimulatorProcess) -> None:
    simulator.configure(early_grace_s=0)
    call(simulator, "[[sim:429 retry-after=0.01]]")
    wait_until(simulator, lambda stats: all(account["promised_s"] == 0 for account in stats["accounts"].values()))
    call(simulator)
    assert simulator.stats()["early"] == 0


def test_a_call_that_was_on_its_way_when_another_was_refused_is_not_early(simulator: SimulatorProcess) -> None:
    simulator.configure(early_grace_s=60)
    call(simulator, "[[sim:429 retry-after=600]]")
    call(simulator)
    assert (simulator.stats()["early"], simulator.stats()["crossed"]) == (0, 1)


@pytest.mark.parametrize("header", ["missing", "soon", "-5", "99999999999"])
def test_a_retry_after_that_nobody_could_obey_promises_nothing(simulator: SimulatorProcess, header: str) -> None:
    simulator.configure(early_grace_s=0)
    call(simulator, f"[[sim:429 retry-after={header}]]")
    call(simulator)
    assert simulator.stats()["early"] == 0


def test_requests_are_counted_by_body_and_by_their_last_user_message(simulator: SimulatorProcess) -> None:
    for _ in range(3):
        call(simulator, "one [[sim:503x1]]")
    call(simulator, "one [[sim:503x1]]", temperature=1)
    counts = simulator.requests()
    assert counts["by_content"] == {"one [[sim:503x1]]": {"calls": 4, "answered": 2, "refused": 0}}
    assert sorted(counts["by_body"].values(), key=str) == [{"calls": 1, "answered": 0}, {"calls": 3, "answered": 2}]


def test_refused_calls_are_counted_for_each_request_and_recent_ones_are_named(simulator: SimulatorProcess) -> None:
    call(simulator, "no [[sim:429x1 retry-after=0]]")
    assert simulator.requests()["by_content"] == {
        "no [[sim:429x1 retry-after=0]]": {"calls": 1, "answered": 0, "refused": 1}
    }
    assert simulator.recent() == ["no [[sim:429x1 retry-after=0]]"]
    waiting.wait_until("it is a while ago", lambda: simulator.recent() == [])


def test_the_times_and_the_accounts_of_each_request_are_recorded(simulator: SimulatorProcess) -> None:
    for key in ("one", "other"):
        call(simulator, "same", key=key)
    call(simulator, "alone", key="one")
    arrivals, accounts = simulator.arrivals(), simulator.stats()["accounts"]
    first_s, second_s = arrivals["same"]["came_s"]
    assert first_s < second_s < arrivals["alone"]["came_s"][0]
    assert set(arrivals["same"]["accounts"]) == set(accounts)
    assert len(arrivals["alone"]["accounts"]) == 1


def test_counting_single_requests_can_be_turned_off_and_scripts_go_on(simulator: SimulatorProcess) -> None:
    simulator.configure(count_requests=False)
    assert [call(simulator, "[[sim:503x1]]").status_code for _ in range(2)] == [503, 200]
    assert simulator.requests() == {"by_body": {}, "by_content": {}}
    assert simulator.stats()["calls"] == 2


def test_each_call_is_logged_when_it_is_told_to(simulator: SimulatorProcess) -> None:
    call(simulator, "before")
    simulator.configure(log_calls=True, concurrency=0)
    call(simulator)
    simulator.configure(concurrency=None, latency_s=0.01)
    call(simulator)
    simulator.outage(60)
    call(simulator)
    simulator.outage(0.01)
    wait_until(simulator, lambda stats: stats["outage"] is None)
    refused, admitted, lost = simulator.calls()
    assert [each["word"] for each in (refused, admitted, lost)] == ["concurrency", "admitted", "503"]
    assert refused["came_s"] < admitted["came_s"] < admitted["left_s"] < lost["came_s"]
    assert refused["left_s"] is lost["left_s"] is None


def test_a_reset_forgets_counts_logs_and_steps_of_scripts(simulator: SimulatorProcess) -> None:
    simulator.configure(rate=1)
    assert [call(simulator, "[[sim:503x1]]").status_code for _ in range(2)] == [503, 429]
    simulator.reset()
    assert simulator.stats()["calls"] == 0
    assert call(simulator, "[[sim:503x1]]").status_code == 503


@pytest.mark.parametrize(
    ("wrong", "named"), [({"rate": "many"}, "rate"), ({"colour": "red"}, "colour"), ({"faults": {"x": 1}}, "faults")]
)
def test_a_wrong_change_is_refused_with_the_field_named_and_changes_nothing(
    simulator: SimulatorProcess, wrong: dict[str, Any], named: str
) -> None:
    before = simulator.config()
    with pytest.raises(ValueError, match=f"422.*{named}"):
        simulator.configure(**wrong)
    assert simulator.config() == before


def test_a_change_that_is_no_json_object_is_refused(simulator: SimulatorProcess) -> None:
    for raw in (b"not json", b"[]"):
        url = f"http://127.0.0.1:{simulator.port}/sim/config"
        assert requests.post(url, data=raw, timeout=20).status_code == 422


@pytest.mark.parametrize("status", ["500", "503"])
def test_an_outage_with_a_status_answers_so_and_ends(simulator: SimulatorProcess, status: str) -> None:
    simulator.outage(0.2, status)
    assert call(simulator).status_code == int(status)
    wait_until(simulator, lambda stats: stats["outage"] is None)
    assert call(simulator).status_code == 200


def test_an_outage_that_drops_breaks_the_calls_under_way_and_every_new_one(simulator: SimulatorProcess) -> None:
    with begin(simulator, "[[sim:hang]]") as connection:
        wait_until(simulator, lambda stats: stats["in_flight"] == 1)
        simulator.outage(60, "drop")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(requests.ConnectionError):
        call(simulator)
    stats = wait_until(simulator, lambda stats: stats["in_flight"] == 0)
    assert (stats["by_status"], stats["client_gone"]) == ({"drop": 2}, 0)
    simulator.outage(0.01, "503")
    wait_until(simulator, lambda stats: stats["outage"] is None)
    assert call(simulator).status_code == 200


def test_an_outage_that_refuses_closes_the_port_and_opens_the_same_one_again(simulator: SimulatorProcess) -> None:
    simulator.outage(0.3, "refuse")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", simulator.port), timeout=20)
    assert simulator.stats()["outage"] == "refuse"
    deadline = monotonic() + 20
    while True:
        try:
            assert call(simulator).status_code == 200
            break
        except requests.ConnectionError:
            assert monotonic() < deadline


def test_outages_are_begun_by_the_schedule(simulator: SimulatorProcess) -> None:
    simulator.configure(outages=[{"after_s": 0.05, "seconds": 60, "kind": "503"}])
    wait_until(simulator, lambda stats: stats["outage"] == "503")
    assert call(simulator).status_code == 503
    simulator.outage(0.01, "503")
    wait_until(simulator, lambda stats: stats["outage"] is None)


def test_an_outage_without_a_length_is_refused(simulator: SimulatorProcess) -> None:
    with pytest.raises(ValueError, match=r"422.*seconds"):
        simulator.outage(0)


def test_unknown_doors_are_named_in_the_answer(simulator: SimulatorProcess) -> None:
    response = requests.get(f"http://127.0.0.1:{simulator.port}/sim/door", timeout=20)
    assert response.status_code == 404
    assert "stats" in response.json()["detail"]


def test_options_are_the_configuration() -> None:
    options = (
        "--limits documented --scale 0.1 --latency 0.1-0.2 --fault 503=0.25 --outage 100:5:drop --key one --key two "
        "--model own --quota 20 --balance-calls 3 --moderation-word bad --seed 4 --no-request-counts"
    )
    with SimulatorProcess.start(*options.split(), quota=21) as process:
        config = process.config()
    expected = {
        "rate": 60,
        "rate_window_s": 6.0,
        "concurrency": 3,
        "concurrency_retry_after_s": 0.5,
        "latency_s": [0.1, 0.2],
        "faults": {"503": 0.25},
        "outages": [{"after_s": 100.0, "seconds": 5.0, "kind": "drop"}],
        "keys": ["one", "two"],
        "models": ["own"],
        "quota": 21,
        "balance_calls": 3,
        "moderation_words": ["bad"],
        "seed": 4,
        "count_requests": False,
    }
    assert {name: config[name] for name in expected} == expected


@pytest.mark.parametrize(
    "wrong",
    [
        "--rate fast",
        "--fault 503",
        "--fault x=1",
        "--outage 5",
        "--latency soon",
        "--config []",
        "--concurrency -1",
        "--change 5",
        "--change 5:nonsense=1",
        "--other-calls many",
        "--limiter roman",
    ],
)
def test_a_wrong_option_is_one_clear_line_and_exit_code_2(wrong: str) -> None:
    ended = subprocess.run([*COMMAND, *wrong.split()], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert "error:" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_help_teaches_the_directives_and_the_control_endpoints() -> None:
    command = [*COMMAND, "--prog", "mira-queue simulate", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    assert shown.startswith("usage: mira-queue simulate")
    assert "[[sim:KINDxN]]" in shown
    assert "/sim/outage" in shown


def test_a_port_in_use_is_one_clear_line_and_exit_code_2(simulator: SimulatorProcess) -> None:
    ended = subprocess.run(
        [*COMMAND, "--port", str(simulator.port)], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert str(simulator.port) in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_even_while_calls_hang(number: signal.Signals) -> None:
    with SimulatorProcess.start() as process, begin(process, "[[sim:hang]]"):
        wait_until(process, lambda stats: stats["in_flight"] == 1)
        os.kill(process.pid, number)
        assert process.stop() == 0


def test_it_ends_when_the_process_that_started_it_is_killed() -> None:
    script = (
        "import os, signal\n"
        "from tests.support.simulator_process import SimulatorProcess\n"
        "print(SimulatorProcess.start().port, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False, cwd=REPOSITORY
    )
    assert ended.returncode == -signal.SIGKILL
    deadline = monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", int(ended.stdout)), timeout=20).close()
        except ConnectionRefusedError:
            break
        assert monotonic() < deadline
