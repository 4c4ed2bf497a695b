"""System under test: mira-queue or stock Celery. The driver uses both through the same interface."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import redis
from mira_producer.processes import PARENT_PIPE, worker_command

from mira_queue.contract import names
from mira_queue.contract.errors import Poison
from tests.chaos.child import module
from tests.chaos.options import ChaosOptions
from tests.support.queue_process import API_KEY

RESULT_TTL_S = 86_400
SECOND_ACCOUNT = "second"
SECOND_KEY = "sk-mira-" + "5eed" * 10
SECOND_KEY_ENV = "CHAOS_SECOND_KEY"
REQUEST_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Stored:
    """Outcome of a stored record."""

    succeeded: bool
    text: str
    unanswered_calls: int
    is_dead_letter: bool = False


class System(Protocol):
    """A queue with workers: its environment, its commands, and how to read its records."""

    name: str
    #: Keys of its accounts, in their order.
    keys: tuple[str, ...]

    def environment(
        self, options: ChaosOptions, redis_url: str, folder: Path, api_bases: list[str]
    ) -> dict[str, str]: ...

    def worker(self, options: ChaosOptions) -> list[str]: ...

    def worker_environment(self, options: ChaosOptions, number: int) -> dict[str, str]:
        """Return further variables of a worker. They decide which accounts it serves."""
        ...

    def batch_environment(self, account: int) -> dict[str, str]: ...

    def producer(self, *arguments: str) -> list[str]: ...

    def batch(self, *arguments: str) -> list[str]: ...

    def submitted(self, *arguments: str) -> list[str]: ...

    def forget_limits(self) -> list[str] | None:
        """Return the command that forgets the limits that the workers have learned, if they learn any."""
        ...

    def ended(self, record: Mapping[str, Any]) -> Stored: ...

    def line_ended(self, entry: Mapping[str, Any]) -> Stored: ...

    def describe(self, client: redis.Redis, job_id: str) -> str:
        """Describe a job that is not finished, for diagnosis."""
        ...


class MiraQueueSystem:
    """mira-queue. Its workers and producers restart an embedded server automatically."""

    name = "mira-queue"
    keys: tuple[str, ...] = (API_KEY, SECOND_KEY)

    def environment(self, options: ChaosOptions, redis_url: str, folder: Path, api_bases: list[str]) -> dict[str, str]:
        """Return the variables of all processes, and write the accounts file.

        The first account is unnamed, and the second one is named.
        """
        accounts = folder / "accounts.toml"
        accounts.write_text(
            "".join(
                f'[accounts.{SECOND_ACCOUNT}]\nbase = "{base}"\nkey_env = "{SECOND_KEY_ENV}"\n'
                for base in api_bases[1:]
            )
        )
        fields = {
            "api_key": API_KEY,
            "api_base": api_bases[0],
            "accounts_file": accounts,
            "request_timeout": REQUEST_TIMEOUT_S,
            "result_ttl": RESULT_TTL_S,
            "concurrency": options.concurrency,
            "lease": options.lease_s,
            "rescue_interval": options.rescue_s,
            "grace": options.grace_s,
            "log_level": "warning",
            "log_format": "json",
        }
        fields |= {"state_dir": folder / "state", **({"redis_url": redis_url} if options.redis_url else {})}
        fields |= options.settings
        return {f"MIRA_{name.upper()}": str(value) for name, value in fields.items()}

    def worker(self, options: ChaosOptions) -> list[str]:
        return worker_command(PARENT_PIPE)

    def worker_environment(self, options: ChaosOptions, number: int) -> dict[str, str]:
        """Return the variables of a worker. Of each three, one serves both accounts, and the others serve one each."""
        second = {SECOND_KEY_ENV: SECOND_KEY}
        return [second, {}, {"MIRA_ACCOUNT": SECOND_ACCOUNT, **second}][number % 3] if options.accounts > 1 else {}

    def batch_environment(self, account: int) -> dict[str, str]:
        return {"MIRA_ACCOUNT": SECOND_ACCOUNT} if account else {}

    def producer(self, *arguments: str) -> list[str]:
        return module("tests.chaos.single", *arguments)

    def batch(self, *arguments: str) -> list[str]:
        return module("tests.chaos.batch", *arguments)

    def submitted(self, *arguments: str) -> list[str]:
        return module("tests.chaos.submitted", *arguments)

    def forget_limits(self) -> list[str] | None:
        return module("mira_producer.cli", "limits", "--forget")

    def ended(self, record: Mapping[str, Any]) -> Stored:
        result = record["result"]
        if record["status"] == "SUCCESS":
            return Stored(True, result["text"], result["unanswered_calls"])
        # The arguments of a JobError: detail, status, attempts, unanswered calls, body.
        detail, _, _, unanswered_calls, *_ = result["exc_message"]
        code = result["exc_type"]
        return Stored(False, f"{code}: {detail}", unanswered_calls, code == Poison.__name__)

    def line_ended(self, entry: Mapping[str, Any]) -> Stored:
        if error := entry["error"]:
            return Stored(False, f"{error['code']}: {error['message']}", 0, error["code"] == Poison.code)
        return Stored(True, entry["response"]["body"]["choices"][0]["message"]["content"], 0)

    def describe(self, client: redis.Redis, job_id: str) -> str:
        entry: dict[Any, Any] = client.hgetall(names.job_key(job_id))
        fields = {name.decode(): value.decode() for name, value in entry.items()}
        fields = {name: value for name, value in fields.items() if name not in ("key", "outcome")}
        account = fields.get("account", "")
        entries = {
            key: score
            for key in (names.leased_key(account), *names.queue_keys(account))
            if (score := client.zscore(key, job_id)) is not None
        }
        now_s, _ = client.time()
        return f"{fields or 'no job hash'}, entries {entries or 'none'}, server's clock {now_s}"


class StockSystem:
    """Celery as its documentation configures it for tasks that must not be lost; see stock/app.py."""

    name = "stock Celery"
    keys: tuple[str, ...] = (API_KEY,)

    def environment(self, options: ChaosOptions, redis_url: str, folder: Path, api_bases: list[str]) -> dict[str, str]:
        config = {
            "redis_url": redis_url,
            "api_base": api_bases[0],
            "api_key": API_KEY,
            "visibility_timeout_s": options.visibility_timeout_s,
            "request_timeout_s": REQUEST_TIMEOUT_S,
            "result_ttl_s": RESULT_TTL_S,
            "patience_s": options.stock_patience_s,
        }
        return {"CHAOS_STOCK": json.dumps(config)}

    def worker(self, options: ChaosOptions) -> list[str]:
        pool = ("--pool", "threads", "--concurrency", str(options.concurrency))
        return module("tests.chaos.stock.worker", *pool, "--loglevel", "warning")

    def worker_environment(self, options: ChaosOptions, number: int) -> dict[str, str]:
        return {}

    def batch_environment(self, account: int) -> dict[str, str]:
        return {}

    def producer(self, *arguments: str) -> list[str]:
        return module("tests.chaos.stock.single", *arguments)

    def batch(self, *arguments: str) -> list[str]:
        return module("tests.chaos.stock.batch", *arguments)

    def submitted(self, *arguments: str) -> list[str]:
        return self.batch(*arguments)

    def forget_limits(self) -> list[str] | None:
        return None

    def ended(self, record: Mapping[str, Any]) -> Stored:
        result = record["result"]
        if record["status"] == "SUCCESS":
            return Stored(True, result["choices"][0]["message"]["content"], 0)
        return Stored(False, str(result)[:200], 0)

    def line_ended(self, entry: Mapping[str, Any]) -> Stored:
        return Stored(entry["succeeded"], entry["text"], 0)

    def describe(self, client: redis.Redis, job_id: str) -> str:
        return f"{client.hlen('unacked')} messages unacknowledged, {client.llen('celery')} in the queue"
