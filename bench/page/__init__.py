"""Benchmark of the web page: `python -m bench.page`."""
