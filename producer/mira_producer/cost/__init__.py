"""Token estimates, prices, budgets, and what was spent."""
