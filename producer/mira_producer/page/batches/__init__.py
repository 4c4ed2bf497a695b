"""Batches on the page."""
