"""The pacer runs calls at an account's limit, which need not be configured. See docs/pacing.md."""
