"""Batches: files of requests, executed by a supervisor, in a process of its own or in `mira-queue run`."""
