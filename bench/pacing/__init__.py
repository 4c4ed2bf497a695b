"""How near the account's limit we get, without being told it, beside others: `python -m bench.pacing --help`."""
