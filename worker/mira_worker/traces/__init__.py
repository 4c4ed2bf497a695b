"""Spans of a worker: `process`, `chat MODEL`, and one for each HTTP request. Only loaded if traces are on."""
