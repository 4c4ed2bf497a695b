"""Batches: files that are handed in, and brought to their end by a process of their own, the keeper."""
