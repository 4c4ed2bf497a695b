"""API keys of the gateway: what a key may do, and the project whose files, batches, and jobs it sees."""

from __future__ import annotations

import hashlib
import re
import secrets
import uuid
from dataclasses import dataclass
from enum import StrEnum

from pydantic import SecretStr

from mira_queue.contract.project_limits import checked_amount

KEY_PREFIX = "mq-"
# A key of a simulated gateway says so: it is not valid on a real one, nor is a real key there.
SIMULATED_KEY_PREFIX = "mq-sim-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Scope(StrEnum):
    """Scope of a key: the requests that it allows. Each scope includes those before it."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"

    def includes(self, other: Scope) -> bool:
        order = list(Scope)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Record of one API key. The key itself is stored nowhere.

    `name` is also the name of its project: keys with the same name see the same objects, so a key can be replaced. An
    ADMIN key sees those of all projects, and those of the command line. `max_open` is the maximum number of open jobs,
    and `max_cost_per_day` an amount in the currency of the price table; 0 and "" mean that there is no limit. `account`
    is the account of its jobs; if it is empty, they belong to the gateway's current account.
    """

    id: str
    name: str
    scope: Scope
    created_at: int
    max_open: int = 0
    max_cost_per_day: str = ""
    account: str = ""

    @property
    def project(self) -> str:
        return self.name

    def sees(self, project: str) -> bool:
        """Return True if objects of this project exist for the key. The command line's objects have no project."""
        return self.scope is Scope.ADMIN or project == self.project


def new_secret(*, simulated: bool = False) -> SecretStr:
    """Return a new key: 192 random bits."""
    return SecretStr((SIMULATED_KEY_PREFIX if simulated else KEY_PREFIX) + secrets.token_hex(24))


def new_key_id() -> str:
    return f"key_{uuid.uuid4().hex[:16]}"


def digest_of(secret: SecretStr) -> str:
    """Return the digest under which a key is stored. The key is random, so the digest needs no salt."""
    return hashlib.sha256(secret.get_secret_value().encode()).hexdigest()


def checked_key_name(name: str) -> str:
    """Return the name of a key. Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"expected at most 64 letters, digits, ., - and _, starting with none of these, got {name[:80]!r}"
        )
    return name


def checked_cost(text: str) -> str:
    """Return a maximum cost. Raises ValueError."""
    checked_amount(text)
    return text
