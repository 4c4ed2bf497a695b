"""The message that no key is set, with what can be done."""

from __future__ import annotations

from mira_queue.contract.account import Account
from mira_queue.contract.settings import Settings, variable
from mira_queue.runtime.accounts_file import load_accounts


def no_key(settings: Settings, account: Account | None = None) -> str:
    """Return that an account (None: the current one) has no key here, and what to do. Named ones are a choice."""
    accounts = load_accounts(settings)
    account = account or accounts.current
    if account.is_named:
        return f"no key of account {account.id}: set the variable or write the file that accounts.toml names"
    named = [each.id for each in accounts if each.is_named and each.key is not None]
    choice = f", or choose an account of accounts.toml: {variable('account')}={named[0]}" if named else ""
    return f"{variable('api_key')} is not set: set it, or write it to .env{choice}"
