"""Load the accounts: those of the accounts file, and the one of MIRA_API_KEY. Only entry points call this."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from mira_queue.contract.account import Account, Accounts, checked_name, unnamed_id
from mira_queue.contract.endpoint import AUTHORIZATION, checked_headers
from mira_queue.contract.settings import (
    ApiBase,
    KeyHeader,
    RateLimitSetting,
    Settings,
    SettingsError,
    limits_of,
    parse_key,
    variable,
)

DEFAULT_FILE = Path("accounts.toml")
MAX_FILE_BYTES = 1024 * 1024
_KEY_FIELDS = ("key", "api_key", "token", "secret")
_KEY_IN_FILE = "the key itself does not belong in this file: name its variable (key_env) or its file (key_file)"


class _Entry(BaseModel):
    """A table [accounts.NAME] of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    base: ApiBase
    key_env: Annotated[str, Field(min_length=1)] | None = None
    key_file: Path | None = None
    headers: dict[str, SecretStr] = {}
    key_header: KeyHeader = AUTHORIZATION
    rate: RateLimitSetting | None = None
    max_in_flight: Annotated[int, Field(ge=1, le=100_000, strict=True)] | None = None
    tokens: RateLimitSetting | None = None
    expected_rate: RateLimitSetting | None = None
    expected_in_flight: Annotated[int, Field(ge=1, le=100_000, strict=True)] | None = None
    models: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.key_env is None) == (self.key_file is None):
            raise ValueError("expected one of the two: key_env or key_file")
        try:
            checked_headers(self.headers, self.key_header)
        except ValueError as error:
            raise ValueError(f"headers: {error}") from None
        return self


def path_of(settings: Settings) -> Path:
    """Return the absolute path of the accounts file. The default one need not exist."""
    return (settings.accounts_file or DEFAULT_FILE).absolute()


def load_accounts(settings: Settings) -> Accounts:
    """Return the accounts. Raises SettingsError with one line for each problem, and without any secret."""
    path = settings.accounts_file or DEFAULT_FILE
    named = [] if settings.accounts_file is None and not path.exists() else _read(path, settings)
    by_name = {account.id: account for account in named}
    if settings.account is None:
        account_id = unnamed_id(settings.api_base, settings.api_key)
        return Accounts(_of_settings(account_id, settings), named)
    if settings.account in by_name:
        return Accounts(by_name[settings.account], named)
    if named:
        known = ", ".join(sorted(by_name))
        raise SettingsError(f"{variable('account')}: {path} defines {known}, got {settings.account!r}")
    return Accounts(_of_settings(settings.account, settings))


def _of_settings(account_id: str, settings: Settings) -> Account:
    """Return the account of MIRA_API_KEY."""
    limits = settings.configured_limits
    return Account(account_id, settings.api_base, settings.api_key, limits, settings.headers, settings.key_header)


def with_account(settings: Settings, name: str | None) -> Settings:
    """Return the settings of a command that names an account; None: as they are. Raises UnknownAccount."""
    if name is None:
        return settings
    load_accounts(settings).named(name)
    return settings.model_copy(update={"account": name})


def served_accounts(settings: Settings, accounts: Accounts) -> list[Account]:
    """Return the accounts that a worker with these settings serves: those whose key it has."""
    wanted = [accounts.current] if settings.account is not None else list(accounts)
    return [account for account in wanted if account.key is not None]


def _read(path: Path, settings: Settings) -> list[Account]:
    try:
        with path.open("rb") as file:
            content = tomllib.loads(file.read(MAX_FILE_BYTES).decode())
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
    tables = content.get("accounts", {})
    if unknown := sorted(content.keys() - {"accounts"}):
        raise SettingsError(f"{path}: unknown {unknown[0][:40]!r}: expected tables such as [accounts.prod]")
    if not isinstance(tables, dict) or not all(isinstance(each, dict) for each in tables.values()):
        raise SettingsError(f"{path}: expected tables such as [accounts.prod]")
    problems: list[str] = []
    found = [_account(path, name, table, settings, problems) for name, table in tables.items()]
    if problems:
        raise SettingsError("\n".join(problems))
    return [account for account in found if account is not None]


def _account(
    path: Path, name: str, table: Mapping[str, Any], settings: Settings, problems: list[str]
) -> Account | None:
    where = f"{path}: account {name[:50]}"
    try:
        checked_name(name)
        entry = _Entry.model_validate(table)
        if settings.accounts_file is None:
            _reject_redirected_key(entry, settings)
        key = _key(entry, path)
    except ValidationError as error:
        problems += [f"{where}{_problem(item)}" for item in error.errors(include_input=False)]
    except ValueError as error:
        problems.append(f"{where}: {error}")
    else:
        limits = limits_of(entry.base, entry)
        return Account(name, entry.base, key, limits, entry.headers, entry.key_header, entry.models)
    return None


def _problem(item: Any) -> str:
    field = ".".join(str(part) for part in item["loc"])[:80]
    if field in _KEY_FIELDS:
        return f", {field}: {_KEY_IN_FILE}"
    reason = "no such field" if item["type"] == "extra_forbidden" else str(item["msg"]).removeprefix("Value error, ")
    return f", {field}: {reason}" if field else f": {reason}"


def _key(entry: _Entry, path: Path) -> SecretStr | None:
    """Return the key, or None if this machine does not have it. Raises ValueError."""
    if entry.key_env is not None:
        text = os.environ.get(entry.key_env) or dotenv_values(".env").get(entry.key_env) or ""
        source = f"key_env, {entry.key_env}"
    else:
        assert entry.key_file is not None
        file = path.parent / entry.key_file.expanduser()
        source = f"key_file, {file}"
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{source}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    try:
        return parse_key(SecretStr(text))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _reject_redirected_key(entry: _Entry, settings: Settings) -> None:
    """Raise ValueError if the file of a directory would send the key of the environment to a base of its own."""
    if entry.key_env == variable("api_key") and entry.base != settings.api_base:
        raise ValueError(
            f"would send {entry.key_env} to {entry.base}: use another variable, or set {variable('accounts_file')}"
        )
