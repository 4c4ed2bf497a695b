"""Description of one endpoint, next to its route. The types of its bodies are those that its handler uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The content of a response that is not JSON.
TEXT: Mapping[str, Any] = {"type": "string"}
EVENTS: Mapping[str, Any] = {"text/event-stream": {}}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query, or a header. `schema` is a JSON schema."""

    name: str
    meaning: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    style: str = ""


@dataclass(frozen=True, slots=True)
class Described:
    """Description of an endpoint.

    `name` is the operation's id, which generators of clients use. `body`, `form` (multipart), and `result` are types
    that pydantic knows, or JSON schemas. `media` are other contents of a success, and `statuses` other statuses of it,
    with the same content. `errors` are statuses that not every endpoint has. If `polled` is True, an object that may
    still change has the header that says when to ask again.
    """

    name: str
    summary: str
    result: Any = None
    body: Any = None
    form: Any = None
    query: tuple[Parameter, ...] = ()
    headers: tuple[Parameter, ...] = ()
    media: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    statuses: Mapping[int, str] = field(default_factory=dict)
    errors: tuple[int | str, ...] = ()
    polled: bool = False
