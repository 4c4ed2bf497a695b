"""How fast files of requests go through, in how much memory, beside others: `python -m bench.bulk --help`."""
