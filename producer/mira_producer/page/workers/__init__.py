"""The view of workers."""
