"""Single jobs, as chat completions, as responses, and in our own format."""
