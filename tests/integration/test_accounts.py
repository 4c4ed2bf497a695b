"""Jobs belong to the account that they were accepted for: no other key, and no other base, ever gets them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from mira_producer.adoption import Adopted, AdoptionRefused, adopt

from mira_queue import AccountConflict, MiraQueue, UnknownAccount
from mira_queue.contract import names
from mira_queue.contract.names import Lane
from mira_queue.contract.states import JobState
from mira_queue.runtime.settings_loader import load_settings
from tests.support.batch_steps import end_supervisors
from tests.support.cli_process import Cli
from tests.support.echo_api import EchoApi
from tests.support.queue_process import QUICK, WorkerProcess
from tests.support.run_process import ANSWERS, INPUT, RunProcess, read_lines, run_to_the_end, write_lines
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

TIMEOUT_S = 60.0
OLLAMA, PAID = "ollama", "sk-mira-" + "5ec2e7" * 6 + "beef"
Open = Callable[..., MiraQueue]
Start = Callable[..., WorkerProcess]


@pytest.fixture
def api() -> Iterator[EchoApi]:
    with EchoApi("A") as server:
        yield server


@pytest.fixture
def other_api() -> Iterator[EchoApi]:
    with EchoApi("B") as server:
        yield server


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def open_queue(redis_url: str, tmp_path: Path, stack: ExitStack) -> Open:
    """A client with these settings: `open_queue(api_base=..., api_key=...)`."""

    def opened(**settings: Any) -> MiraQueue:
        common = {**QUICK, "redis_url": redis_url, "state_dir": tmp_path / "state"}
        return stack.enter_context(MiraQueue(load_settings(**{**common, **settings})))

    return opened


@pytest.fixture
def start(redis_url: str, tmp_path: Path, stack: ExitStack) -> Start:
    def start(**settings: Any) -> WorkerProcess:
        return stack.enter_context(WorkerProcess.start(tmp_path, redis_url=redis_url, **settings))

    return start


def enqueue(queue: MiraQueue, *prompts: str, account: str | None = None) -> list[Any]:
    return queue.enqueue_many([{"messages": [{"role": "user", "content": each}]} for each in prompts], account=account)


def answers(folder: Path) -> list[str]:
    lines = read_lines(folder / ANSWERS)
    return sorted(line["response"]["body"]["choices"][0]["message"]["content"] for line in lines)


def accounts_file(folder: Path, **tables: str) -> Path:
    """Write an accounts file: the fields of each account by its name."""
    path = folder / "accounts.toml"
    path.write_text("\n".join(f"[accounts.{name}]\n{fields}\n" for name, fields in tables.items()))
    return path


def wait_for_steps(client: redis.Redis, account: str) -> None:
    """Wait until the worker of this account has rescued what it may rescue: it reports itself after each step."""

    def reports() -> float:
        entries: list[Any] = client.zrange(names.WORKERS, 0, -1, withscores=True)
        return max(float(score) for entry, score in entries if account in str(entry))

    for _ in range(2):
        before = reports()
        wait_until("the worker has made another step", lambda before=before: reports() > before)  # type: ignore[misc]


# --- two bases ---


def test_a_run_that_was_killed_has_its_prompts_sent_to_its_own_base_only(
    api: EchoApi, other_api: EchoApi, redis_url: str, redis_client: redis.Redis, open_queue: Open, tmp_path: Path
) -> None:
    """Run A is killed within three calls, then run B shares its state directory, then A is run again."""
    first, second = tmp_path / "a", tmp_path / "b"
    ours, theirs = [f"A's {n}" for n in range(3)], [f"B's {n}" for n in range(5)]
    for folder, prompts in ((first, ours), (second, theirs)):
        folder.mkdir()
        write_lines(folder / INPUT, [{"prompt": prompt} for prompt in prompts])
    shared: dict[str, Any] = {"redis_url": redis_url, "state_dir": tmp_path / "state"}
    a, b = {**shared, "api_base": api.url, "api_key": OLLAMA}, {**shared, "api_base": other_api.url, "api_key": PAID}
    account_of_a, account_of_b = (open_queue(**each).accounts.current.id for each in (a, b))

    api.hold()
    with RunProcess.start(first, INPUT, **a) as run:
        wait_until("three calls are in flight", lambda: len(api.requests) == 3)
        run.kill(workers=True)
    other_api.hold()
    with RunProcess.start(second, INPUT, **b) as run:
        ledger = open_queue(**a).ledger
        wait_until("A's leases have expired", lambda: len(ledger.expired_leases(account_of_a, 9)) == 3)
        wait_until("B's calls are in flight", lambda: len(other_api.requests) == 5)
        wait_for_steps(redis_client, account_of_b)
        other_api.release()
        assert run.wait() == 0

    assert other_api.prompts == theirs
    assert answers(second) == [f"B: {prompt}" for prompt in theirs]
    api.release()
    run_to_the_end(first, INPUT, **a)
    assert answers(first) == [f"A: {prompt}" for prompt in ours]
    assert other_api.prompts == theirs
    assert {key for key, _ in api.calls} == {OLLAMA}


def test_a_worker_of_another_base_does_not_answer_the_lines_of_a_run(
    api: EchoApi, other_api: EchoApi, start: Start, redis_url: str, tmp_path: Path
) -> None:
    """A worker of a simulator is still running when a real run starts."""
    start(api_base=api.url, api_key="x")
    write_lines(tmp_path / INPUT, [{"prompt": f"real {n}"} for n in range(20)])

    run = run_to_the_end(tmp_path, INPUT, redis_url=redis_url, api_base=other_api.url, api_key=PAID)

    assert run.wait() == 0
    assert (len(api.requests), len(other_api.requests)) == (0, 20)
    assert "stop them" not in run.said()


# --- two keys on one base ---


def test_each_call_has_the_key_of_its_job(api: EchoApi, open_queue: Open, start: Start) -> None:
    jobs = []
    for key in (OLLAMA, PAID):
        start(api_base=api.url, api_key=key)
        jobs.append(open_queue(api_base=api.url, api_key=key))
    waiting = [
        job
        for n in range(10)
        for queue, key in zip(jobs, (OLLAMA, PAID), strict=True)
        for job in enqueue(queue, f"{key} {n}")
    ]

    for job in waiting:
        job.result(TIMEOUT_S)

    assert len(api.calls) == 20
    assert all(prompt.startswith(f"{key} ") for key, prompt in api.calls)


def test_one_worker_serves_the_accounts_of_its_file(
    api: EchoApi, other_api: EchoApi, open_queue: Open, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "team.key").write_text(f"{PAID}\n")
    path = accounts_file(
        tmp_path,
        team=f'base = "{api.url}"\nkey_file = "team.key"\nheaders = {{ X-Team = "blue" }}\nmax_in_flight = 2',
        local=f'base = "{other_api.url}"\nkey_env = "LOCAL_KEY"',
        elsewhere='base = "http://127.0.0.1:9/v1"\nkey_env = "NO_SUCH_VARIABLE"',
    )
    (tmp_path / ".env").write_text(f"LOCAL_KEY={OLLAMA}\n")
    start(api_base=api.url, api_key=None, accounts_file=path)
    queue = open_queue(api_base=api.url, api_key=None, accounts_file=path)

    jobs = [*enqueue(queue, "one", "two", account="team"), *enqueue(queue, "three", account="local")]
    [unserved] = enqueue(queue, "four", account="elsewhere")

    assert [job.result(TIMEOUT_S).text for job in jobs] == ["A: one", "A: two", "B: three"]
    assert {key for key, _ in api.calls} == {PAID}
    assert other_api.calls == [(OLLAMA, "three")]
    assert {request.headers["x-team"] for request in api.requests} == {"blue"}
    assert "elsewhere" in (unserved.status().reason or "")
    unserved.cancel()


def test_a_model_with_limits_of_its_own_is_an_account_and_other_models_of_the_same_key_do_not_wait_for_it(
    simulator: SimulatorProcess, open_queue: Open, start: Start, tmp_path: Path
) -> None:
    simulator.configure(rate=1, rate_window_s=600, limited_models=["mira-pro"])
    same = f'base = "{simulator.url}"\nkey_env = "SAME_KEY"\n'
    path = accounts_file(tmp_path, pro=f'{same}models = ["mira-pro"]', others=f'{same}models = ["mira", "mira-max"]')
    (tmp_path / ".env").write_text(f"SAME_KEY={PAID}\n")
    start(api_base=simulator.url, api_key=None, accounts_file=path)
    queue = open_queue(api_base=simulator.url, api_key=None, accounts_file=path)

    limited = enqueue(queue, "one", "two", "three", account="pro")
    wait_until("the model is at its limit", lambda: queue.ledger.pace_view("pro").breaker == "limit")
    others = enqueue(queue, *(f"question {number}" for number in range(30)), account="others")

    assert all(job.result(TIMEOUT_S).text for job in others)
    assert queue.ledger.pace_view("others").counts.rate_limited == 0
    assert queue.ledger.pace_view("pro").open_for > timedelta(minutes=5)
    assert sum(job.status().state is JobState.SUCCEEDED for job in limited) == 1
    for job in limited:
        job.cancel()


# --- a job whose account no worker serves ---


def test_a_job_of_an_account_without_a_worker_waits_and_status_says_so(
    api: EchoApi, open_queue: Open, start: Start, redis_url: str, redis_client: redis.Redis, tmp_path: Path
) -> None:
    queue = open_queue(api_base=api.url, api_key=PAID)
    [job] = enqueue(queue, "Hello")
    own = queue.accounts.current.id
    start(api_base=api.url, api_key=OLLAMA, resend_after=0.1)
    wait_for_steps(redis_client, open_queue(api_base=api.url, api_key=OLLAMA).accounts.current.id)

    [shown] = Cli(tmp_path, redis_url=redis_url, api_base=api.url)("status", "--json", job.id).json

    assert (shown["state"], shown["account"]) == ("queued", own)
    assert f"no worker serves account {own}" in shown["reason"]
    assert api.requests == []
    job.cancel()


def test_a_message_in_the_queue_of_another_account_starts_no_call(
    api: EchoApi, other_api: EchoApi, open_queue: Open, start: Start
) -> None:
    ours, theirs = open_queue(api_base=api.url, api_key=OLLAMA), open_queue(api_base=other_api.url, api_key=PAID)
    [job] = enqueue(ours, "A's")
    worker = start(api_base=other_api.url, api_key=PAID)

    theirs.send(theirs.accounts.current.id, [job.id])
    theirs.send(theirs.accounts.current.id, [job.id], Lane.BULK)

    wait_until("both messages are dropped", lambda: len(worker.events("foreign_job", job_id=job.id)) == 2)
    assert job.status().state is JobState.QUEUED
    assert other_api.requests == []
    start(api_base=api.url, api_key=OLLAMA)
    assert job.result(TIMEOUT_S).text == "A: A's"


# --- named accounts ---


def test_a_named_account_keeps_its_jobs_when_its_key_is_rotated(
    api: EchoApi, open_queue: Open, start: Start, tmp_path: Path
) -> None:
    key_file = tmp_path / "prod.key"
    key_file.write_text("the-old-key")
    path = accounts_file(tmp_path, prod=f'base = "{api.url}"\nkey_file = "prod.key"')
    [before] = enqueue(open_queue(accounts_file=path), "Hello", account="prod")

    key_file.write_text("the-new-key")
    start(api_key=None, accounts_file=path)

    assert before.result(TIMEOUT_S).text == "A: Hello"
    assert api.calls == [("the-new-key", "Hello")]


def test_the_account_of_a_variable_can_have_a_name(api: EchoApi, open_queue: Open, start: Start) -> None:
    """A web app that has no key names the account, and so does the worker."""
    [job] = enqueue(open_queue(api_base=api.url, api_key=None, account="main"), "Hello")
    start(api_base=api.url, api_key=PAID, account="main")

    assert job.result(TIMEOUT_S).text == "A: Hello"


def test_a_name_that_two_machines_use_for_two_bases_is_a_conflict(
    api: EchoApi, other_api: EchoApi, open_queue: Open, start: Start
) -> None:
    [job] = enqueue(open_queue(api_base=api.url, api_key=PAID, account="main"), "A's")
    worker = start(api_base=other_api.url, api_key=PAID, account="main")

    with pytest.raises(AccountConflict) as conflict:
        enqueue(open_queue(api_base=other_api.url, api_key=PAID, account="main"), "B's")

    assert (conflict.value.account, conflict.value.recorded) == ("main", api.url)
    wait_until("the worker leaves the job alone", lambda: worker.events("foreign_job", job_id=job.id))
    assert (job.status().state, other_api.requests) == (JobState.QUEUED, [])
    job.cancel()


def test_an_idempotency_key_belongs_to_its_account(api: EchoApi, open_queue: Open) -> None:
    queues = [open_queue(api_base=api.url, api_key=key) for key in (OLLAMA, PAID, PAID)]
    messages = [{"role": "user", "content": "Hello"}]
    one, two, again = (queue.enqueue(messages, key="order 7") for queue in queues)

    assert one.id != two.id == again.id
    for job in (one, two):
        job.cancel()


def test_an_unknown_name_is_rejected_with_the_known_ones(open_queue: Open, redis_url: str, tmp_path: Path) -> None:
    path = accounts_file(tmp_path, prod='base = "http://127.0.0.1:9/v1"\nkey_env = "X"')
    with pytest.raises(UnknownAccount, match="prod"):
        enqueue(open_queue(accounts_file=path), "Hello", account="prdo")
    write_lines(tmp_path / INPUT, [{"prompt": "Hello"}])
    cli = Cli(tmp_path, redis_url=redis_url, state_dir=tmp_path / "state")
    for command in (("run", INPUT), ("submit", INPUT), ("enqueue", "Hello")):
        done = cli(*command, "--account", "prdo")
        assert (done.code, done.out) == (2, "")
        assert len(done.err.splitlines()) == 1
        assert "prod" in done.err


# --- adopt ---


def test_jobs_of_an_old_key_are_adopted_by_the_new_one(
    api: EchoApi, open_queue: Open, start: Start, redis_url: str, tmp_path: Path
) -> None:
    before, now = (open_queue(api_base=api.url, api_key=key) for key in (OLLAMA, PAID))
    messages = [{"role": "user", "content": "with a key"}]
    jobs = [*enqueue(before, "one", "two"), before.enqueue(messages, key="order 7")]
    older, newer = (queue.enqueue(messages, key="order 8") for queue in (before, now))
    old = before.accounts.current.id
    cli = Cli(tmp_path, redis_url=redis_url, api_base=api.url, api_key=PAID, state_dir=tmp_path / "state")

    [listed] = [each for each in cli("accounts", "--json").json if each["account"] == old]
    assert (listed["open_jobs"], listed["workers"], listed["has_key"]) == (4, 0, False)
    moved = cli("accounts", "adopt", old, "--json").json

    assert (moved["jobs"], moved["duplicates"], moved["running"]) == (3, 1, 0)
    start(api_base=api.url, api_key=PAID)
    assert [job.result(TIMEOUT_S).text for job in jobs] == ["A: one", "A: two", "A: with a key"]
    assert now.enqueue(messages, key="order 7").id == jobs[2].id
    assert newer.result(TIMEOUT_S).text == "A: with a key"
    assert {key for key, _ in api.calls} == {PAID}
    assert older.status().state is JobState.QUEUED
    older.cancel()


def test_a_call_of_a_live_worker_is_not_adopted_and_one_of_a_crashed_worker_is(
    api: EchoApi, open_queue: Open, start: Start, tmp_path: Path
) -> None:
    before, now = (open_queue(api_base=api.url, api_key=key) for key in (OLLAMA, PAID))
    old, new = before.accounts.current, now.accounts.current
    [job] = enqueue(before, "one")
    api.hold()
    worker = start(api_base=api.url, api_key=OLLAMA)
    wait_until("its call is in flight", lambda: len(api.requests) == 1)

    assert adopt(now, old.id, new) == Adopted(running=1)

    worker.kill()
    wait_until("its lease has expired", lambda: now.ledger.expired_leases(old.id, 9) == [job.id])
    assert adopt(now, old.id, new) == Adopted(jobs=1)
    api.release()
    start(api_base=api.url, api_key=PAID)
    assert job.result(TIMEOUT_S).unanswered_calls == 1
    assert [key for key, _ in api.calls] == [OLLAMA, PAID]


def test_jobs_are_adopted_by_another_base_only_on_demand(api: EchoApi, other_api: EchoApi, open_queue: Open) -> None:
    before, now = open_queue(api_base=api.url, api_key=OLLAMA), open_queue(api_base=other_api.url, api_key=OLLAMA)
    [job] = enqueue(before, "one")
    old, new = before.accounts.current, now.accounts.current

    with pytest.raises(AdoptionRefused, match=api.url):
        adopt(now, old.id, new)
    with pytest.raises(AdoptionRefused, match="no account"):
        adopt(now, "0123456789abcdef", new)
    assert job.status().account == old.id

    assert adopt(now, old.id, new, allow_other_base=True) == Adopted(jobs=1)
    assert job.status().account == new.id
    assert now.ledger.open_jobs(old.id) == []
    assert job.cancel()


def test_a_named_account_can_move_to_another_base(
    api: EchoApi, other_api: EchoApi, open_queue: Open, start: Start
) -> None:
    [job] = enqueue(open_queue(api_base=api.url, api_key=PAID, account="main"), "one")
    moved = open_queue(api_base=other_api.url, api_key=PAID, account="main")

    assert adopt(moved, "main", moved.accounts.current, allow_other_base=True) == Adopted(jobs=1)

    start(api_base=other_api.url, api_key=PAID, account="main")
    assert job.result(TIMEOUT_S).text == "B: one"


def test_a_run_whose_key_has_changed_says_which_jobs_wait_and_an_adopted_job_is_taken_over(
    api: EchoApi, open_queue: Open, redis_url: str, tmp_path: Path
) -> None:
    write_lines(tmp_path / INPUT, [{"prompt": f"line {n}"} for n in range(3)])
    before: dict[str, Any] = {"redis_url": redis_url, "api_base": api.url, "api_key": OLLAMA}
    old = open_queue(**before).accounts.current.id
    with RunProcess.start(tmp_path, INPUT, "--workers", "0", **before) as run:
        wait_until("its lines are accepted", lambda: len(open_queue(**before).ledger.open_jobs(old)) == 3)
        run.kill()

    now: dict[str, Any] = {**before, "api_key": PAID}
    with RunProcess.start(tmp_path, INPUT, "--workers", "0", **now) as run:
        wait_until("it names the command", lambda: f"mira-queue accounts adopt {old}" in run.said())
        assert "3 jobs" in run.said()
        own = open_queue(**now).accounts.current.id
        wait_until("its own lines are accepted", lambda: len(open_queue(**now).ledger.open_jobs(own)) == 3)
        run.interrupt()
        run.wait()

    queue = open_queue(**now)
    assert adopt(queue, old, queue.accounts.current) == Adopted(jobs=3)
    again = run_to_the_end(tmp_path, INPUT, **now)
    assert (again.wait(), len(api.requests)) == (0, 3)
    assert {key for key, _ in api.calls} == {PAID}


def test_a_batch_keeps_its_account_until_it_is_adopted(
    api: EchoApi, open_queue: Open, start: Start, redis_client: redis.Redis, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "lines.jsonl", [{"prompt": f"line {n}"} for n in range(5)])
    before, now = (open_queue(api_base=api.url, api_key=key) for key in (OLLAMA, PAID))
    old, new = before.accounts.current, now.accounts.current
    batch = before.batches.submit(path)
    start(api_base=api.url, api_key=PAID)
    wait_until("its lines are accepted", lambda: len(now.ledger.open_jobs(old.id)) == 5)
    wait_for_steps(redis_client, new.id)
    assert api.requests == []

    adopted = adopt(now, old.id, new)

    assert (adopted.batches, adopted.running) == (1, 0)
    assert now.batches.wait(batch.id, TIMEOUT_S).status == "completed"
    assert {key for key, _ in api.calls} == {PAID}
    assert len(api.requests) == 5
    end_supervisors(now)
