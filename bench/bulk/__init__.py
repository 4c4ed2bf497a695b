"""Throughput and memory for files of requests, compared with peers: `python -m bench.bulk --help`."""
