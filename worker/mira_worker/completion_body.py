"""Body of a 200: a complete answer, or why it is none. Pure."""

from __future__ import annotations

import re
from typing import Any

from mira_worker.error_body import message_of

# Characters of an error's message.
_MAX_SAID = 500
# Fields of a message that are not an answer by themselves.
_FRAME = frozenset({"role", "content", "refusal", "annotations", "name"})
# Reasons after which an empty text is what the model meant to send, or was able to.
_EXPLAINED = frozenset({"length", "content_filter", "tool_calls", "function_call"})


def joined_text(content: Any) -> str:
    """Return the text of a message's content: a string, or a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") if isinstance(part, dict) else part for part in content)
    return "".join(text for text in texts if isinstance(text, str))


def error_in(body: Any) -> Any:
    """Return the error that a body of a 200 consists of or contains, or None."""
    if not isinstance(body, dict):
        return body if isinstance(body, list) else None
    if body.get("error") or body.get("object") == "error":
        return body
    # Some gateways send a flat error. A body that has choices is no error.
    return None if isinstance(body.get("choices"), list) and body["choices"] else body


def why_unusable(body: Any, failed_answer: re.Pattern[str]) -> str:
    """Return why a body contains no complete answer, or an empty string.

    `failed_answer` matches the texts that a server sends instead of an answer when its model fails.
    """
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices:
        return "the response contains no chat completion"
    return next(filter(None, (_why_unusable(choice, failed_answer) for choice in choices)), "")


def _why_unusable(choice: Any, failed_answer: re.Pattern[str]) -> str:
    if not isinstance(choice, dict):
        return "the response contains no chat completion"
    reason, message = choice.get("finish_reason"), choice.get("message")
    if choice.get("error") or reason == "error":
        said = message_of(choice.get("error"))[:_MAX_SAID]
        return f"the server reports an error in the answer{': ' if said else ''}{said}"
    if not isinstance(message, dict):
        return "the response contains no chat completion"
    text = joined_text(message.get("content"))
    has_more = any(value for name, value in message.items() if name not in _FRAME) or message.get("refusal")
    # A tool call, a refusal, or the reasoning of a model has no text.
    if not text.strip() and (has_more or (isinstance(reason, str) and reason in _EXPLAINED)):
        return ""
    if failed_answer.pattern and failed_answer.search(text):
        return "the model failed (MIRA_FAILED_ANSWER)" if text.strip() else "the model sent an empty answer"
    return ""
