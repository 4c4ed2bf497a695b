"""Accounts: the key and the base URL of a job's call, with the account's limits. A job belongs to one account."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from mira_queue.contract.endpoint import AUTHORIZATION
from mira_queue.contract.errors import InvalidRequest, UnknownAccount
from mira_queue.contract.pace import ConfiguredLimits

# A name becomes part of queue names and of keys: it has none of their separators.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_HASH = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Account:
    """One account. `id` is its name, or a hash of base and key (see `unnamed_id`), which does not reveal the key.

    Without a `key`, this process can submit jobs, and cannot run them. `models` are those that the account may call;
    the first one is the default for requests that name none. If it is empty, every model is allowed.
    """

    id: str
    base: str
    key: SecretStr | None = None
    limits: ConfiguredLimits = field(default_factory=ConfiguredLimits)
    headers: Mapping[str, SecretStr] = field(default_factory=dict)
    key_header: str = AUTHORIZATION
    models: tuple[str, ...] = ()

    @property
    def is_named(self) -> bool:
        return is_named(self.id)

    def check_model(self, model: str) -> None:
        """Raise InvalidRequest if the account may not call this model."""
        if self.models and model not in self.models:
            reason = f"account {self.id} allows {', '.join(self.models)}, got {model[:80]!r}"
            raise InvalidRequest("model", reason)


class Accounts:
    """The accounts that a process knows. `current` is the one that jobs belong to if they name no other."""

    def __init__(self, current: Account, others: Iterable[Account] = ()) -> None:
        self.current = current
        self._by_id = {account.id: account for account in (*others, current)}

    def __iter__(self) -> Iterator[Account]:
        return iter(self._by_id.values())

    @property
    def names(self) -> list[str]:
        return sorted(account.id for account in self._by_id.values() if account.is_named)

    def named(self, name: str | None) -> Account:
        """Return the account with this name, or the current one for None. Raises UnknownAccount."""
        if name is None:
            return self.current
        if name not in self._by_id:
            raise UnknownAccount(name, self.names)
        return self._by_id[name]

    def with_id(self, account_id: str) -> Account:
        """Return the account with this id. One that this process does not know has neither base nor key."""
        return self._by_id.get(account_id) or Account(account_id, "")


def unnamed_id(base: str, key: SecretStr | None) -> str:
    """Return the id of an account without a name. It does not reveal the key, which has 160 random bits."""
    secret = key.get_secret_value() if key else ""
    return hashlib.sha256(f"{base}\0{secret}".encode()).hexdigest()[:16]


def is_named(account_id: str) -> bool:
    """Return True if the id of an account is a name, and not a hash."""
    return not _HASH.fullmatch(account_id)


def checked_name(name: str) -> str:
    """Return the name of an account. Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"expected at most 40 letters, digits, - and _, starting with no - or _, got {name[:50]!r}")
    if not is_named(name):
        raise ValueError(f"16 hexadecimal digits are the id of an account without a name, got {name!r}")
    return name
