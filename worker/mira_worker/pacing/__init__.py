"""The pacer: at an account's very limit, without being told what it is. See docs/pacing.md."""
