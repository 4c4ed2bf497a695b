"""Views of accounts: what was learned of their limits, and their circuit breakers."""
