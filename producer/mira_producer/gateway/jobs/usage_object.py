"""OpenAI's usage object of responses and batches."""

from __future__ import annotations

from typing_extensions import TypedDict


class InputDetails(TypedDict):
    """Part of the input tokens."""

    cached_tokens: int


class OutputDetails(TypedDict):
    """Part of the output tokens."""

    reasoning_tokens: int


class UsageObject(TypedDict):
    """Tokens that were used."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int
