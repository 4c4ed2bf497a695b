"""Bodies of `/v1/chat/completions` as the API describes them. Everything that is not checked here is the API's."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, Required

from pydantic import Field, with_config
from typing_extensions import TypedDict

from mira_producer.gateway.jobs.response_request import ServiceTier
from mira_queue.contract.metadata import Metadata


@with_config(extra="forbid")
class OwnFields(TypedDict, total=False):
    """Fields of mira-queue: a URL, or the id of a webhook endpoint, that receives the event of the end."""

    webhook: str | None


@with_config(extra="allow")
class ContentPart(TypedDict):
    """A part of a message, such as a text."""

    type: str
    text: NotRequired[Any]


@with_config(extra="allow")
class ChatMessage(TypedDict):
    """A message. Which roles and contents are allowed depends on the API."""

    role: str
    content: NotRequired[str | Annotated[list[ContentPart], Field(min_length=1)] | None]


@with_config(extra="allow")
class ChatBody(TypedDict, total=False):
    """A chat request. Other fields go to the API as they are."""

    messages: Required[Annotated[list[ChatMessage], Field(min_length=1)]]
    model: Annotated[str, Field(min_length=1)] | None
    stream: bool | None


@with_config(extra="allow")
class CreateCompletion(ChatBody, total=False):
    """A chat request over HTTP."""

    service_tier: ServiceTier | None
    metadata: Metadata | None
    mira: OwnFields | None


@with_config(extra="allow")
class CompletionObject(TypedDict):
    """A chat completion, as the API has sent it. `choices` is empty until there is an answer."""

    id: str
    object: NotRequired[str]
    created: NotRequired[int]
    model: NotRequired[str]
    choices: list[dict[str, Any]]
