"""Peers on the same account: programs with the arguments URL, key, and concurrency."""
