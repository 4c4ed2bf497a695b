"""What others do with the same account: programs of their own, given (URL, key, calls at a time, prompts)."""
