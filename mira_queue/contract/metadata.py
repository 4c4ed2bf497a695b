"""Metadata of jobs and batches: pairs of texts that are stored with them, and by which jobs are found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.unicode import is_unicode

# The limits of OpenAI's API.
MAX_METADATA, MAX_METADATA_KEY, MAX_METADATA_VALUE = 16, 64, 512

# Metadata as a field of a model that pydantic checks.
Metadata = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=MAX_METADATA_KEY)],
        Annotated[str, Field(max_length=MAX_METADATA_VALUE)],
    ],
    Field(max_length=MAX_METADATA),
]


def checked_metadata(metadata: Any) -> Mapping[str, str]:
    """Return the metadata of a job or a batch; None means none. Raise InvalidRequest if OpenAI's API would."""
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise InvalidRequest("metadata", f"expected pairs of texts, got {type(metadata).__name__}")
    if len(metadata) > MAX_METADATA:
        raise InvalidRequest("metadata", f"{len(metadata)} pairs, over the limit of {MAX_METADATA}")
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidRequest("metadata", f"expected pairs of texts, got {key!a:.80}: {type(value).__name__}")
        if not is_unicode(key) or not is_unicode(value):
            raise InvalidRequest("metadata", "not valid Unicode: it has half of a surrogate pair")
        if not 0 < len(key) <= MAX_METADATA_KEY:
            raise InvalidRequest(
                "metadata", f"{key[:MAX_METADATA_KEY]!a}: a key has 1 to {MAX_METADATA_KEY} characters"
            )
        if len(value) > MAX_METADATA_VALUE:
            raise InvalidRequest("metadata", f"{key!a}: a value has at most {MAX_METADATA_VALUE} characters")
    return dict(metadata)
