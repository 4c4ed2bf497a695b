"""The overview: what runs, what waits and why, and what it costs."""
