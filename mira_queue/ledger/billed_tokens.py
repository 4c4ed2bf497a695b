"""Tokens of a job that its account is billed for, as far as they are known when it ends. Pure."""

from __future__ import annotations

from mira_queue.contract.outcome import Completion, Outcome
from mira_queue.contract.token_estimate import count, tokens_of_bytes


def billed_tokens(outcome: Outcome, request_bytes: int = 0) -> tuple[int, int]:
    """Return the tokens of the prompts and of the answers, those of unusable responses included.

    They are an estimate for an answer that reports none, as streamed ones do.
    """
    prompt, completion = (count(outcome.lost_usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    if not isinstance(outcome, Completion):
        return prompt, completion
    reported = count(outcome.usage.get("prompt_tokens")), count(outcome.usage.get("completion_tokens"))
    if not any(reported):
        reported = tokens_of_bytes(request_bytes), tokens_of_bytes(len(outcome.text.encode()))
    return prompt + reported[0], completion + reported[1]
