"""State of the simulated API: its configuration, accounts, counts and random sources. Times are seconds since start."""

from __future__ import annotations

import hashlib
import itertools
import random
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from mira_queue.simulator import replies, wait_headers
from mira_queue.simulator.config import OutageKind, SimulatorConfig
from mira_queue.simulator.counters import Counters
from mira_queue.simulator.faults import RandomFaults
from mira_queue.simulator.limits import AccountLimits, Capacity, Limit, RetryAfterLog
from mira_queue.simulator.replies import Reply


@dataclass(slots=True)
class Account:
    """One bearer key: what it has used, and the Retry-Afters that it was sent."""

    limits: AccountLimits = field(default_factory=AccountLimits)
    retry_afters: RetryAfterLog = field(default_factory=RetryAfterLog)


def account_name(key: str) -> str:
    """Return a name of the account with this bearer key that does not tell the key."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


class State:
    """Everything that lives longer than one call."""

    def __init__(self, config: SimulatorConfig) -> None:
        self.config = config
        self.counters = Counters()
        self.accounts: defaultdict[str, Account] = defaultdict(Account)
        self.steps: Counter[str] = Counter()  # of the scripts of directives, by digest of the request
        self.outage: OutageKind | None = None
        self.capacity = Capacity()
        self.answer_numbers = itertools.count(1)
        self._request_numbers = itertools.count(1)
        self._started_s = time.monotonic()
        self._seed()

    def now(self) -> float:
        return time.monotonic() - self._started_s

    def configure(self, config: SimulatorConfig) -> None:
        """Change the configuration. Usage and counts stay."""
        seed, self.config = self.config.seed, config
        if config.seed != seed:
            self._seed()
        self.faults = RandomFaults(config.faults, self._faults_source)

    def reset(self) -> None:
        """Reset counts, logs, balances, steps of scripts, and seeds. Calls in flight continue."""
        self.counters = Counters(self.counters.in_flight)
        self.steps.clear()
        for key, account in list(self.accounts.items()):
            account.limits, account.retry_afters = AccountLimits(account.limits.calls_in_flight), RetryAfterLog()
            if not account.limits.in_flight:
                del self.accounts[key]
        self._seed()

    def _seed(self) -> None:
        self._faults_source = random.Random(self.config.seed)
        self._latency_source = random.Random(self.config.seed + 1)
        self.faults = RandomFaults(self.config.faults, self._faults_source)

    def account(self, key: str) -> Account:
        """Return the account of a key, and count a call that has not honored its Retry-After."""
        account = self.accounts[key]
        now, counters = self.now(), self.counters
        match account.retry_afters.check(now, self.config.early_grace_s):
            case "early":
                counters.early += 1
                counters.earliest_s = max(counters.earliest_s, account.retry_afters.until - now)
            case "crossed":
                counters.crossed += 1
        return account

    def reject(self, account: Account, limit: Limit, wait_s: float, forced: str | None = None) -> Reply:
        """Return a 402, or a 429 whose wait the account has to honor. `forced` is the text of its Retry-After."""
        config = self.config
        self.counters.by_refusal[limit] += 1
        if limit == "balance":
            return replies.detail(402)
        if forced is None:
            headers, promised_s = wait_headers.retry_after(wait_s, config.retry_after_form, time.time())
        else:
            headers, promised_s = wait_headers.forced_retry_after(forced, time.time())
        if promised_s is not None:
            account.retry_afters.add(self.now(), promised_s)
        return replies.detail(429, replies.limit_detail(limit, wait_s, config.backend), headers)

    def rate_headers(self, account: Account, model: str, *, is_rejected: bool) -> Mapping[str, str]:
        """Return the headers that tell where the account stands at its rates."""
        config = self.config
        if config.rate_headers == "none" or not (is_rejected or config.rate_headers_on == "every"):
            return wait_headers.NO_HEADERS
        standings = account.limits.standings(config, self.now(), model)
        return wait_headers.rate_headers(standings, config.rate_headers, time.time())

    def next_request_id(self) -> str:
        return str(uuid.UUID(int=next(self._request_numbers)))

    def random_latency_s(self) -> float:
        return self._latency_source.uniform(*self.config.latency_s) if self.config.latency_s[1] > 0 else 0.0
