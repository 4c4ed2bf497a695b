"""Bodies of `/v1/responses` as the API describes them. `response_request.py` checks a request."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, Required

from pydantic import Field, with_config
from typing_extensions import TypedDict

from mira_producer.gateway.http.json_body import MAX_WHOLE
from mira_producer.gateway.jobs.chat_objects import OwnFields
from mira_producer.gateway.jobs.response_request import ServiceTier
from mira_producer.gateway.jobs.usage_object import UsageObject
from mira_queue.contract.metadata import Metadata
from mira_queue.contract.states import JobState


@with_config(extra="allow")
class TextPart(TypedDict):
    """Text."""

    type: Literal["input_text", "output_text", "text"]
    text: str


@with_config(extra="allow")
class RefusalPart(TypedDict):
    """A refusal in an earlier answer."""

    type: Literal["refusal"]
    refusal: str


@with_config(extra="allow")
class ImagePart(TypedDict):
    """An image, by its URL."""

    type: Literal["input_image"]
    image_url: str
    detail: NotRequired[str | None]
    file_id: NotRequired[None]


Content = str | list[TextPart | RefusalPart | ImagePart]


@with_config(extra="allow")
class MessageItem(TypedDict):
    """A message."""

    type: NotRequired[Literal["message"]]
    role: Literal["user", "assistant", "system", "developer"]
    content: Content


@with_config(extra="allow")
class CallItem(TypedDict):
    """A call of a function in an earlier answer."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


@with_config(extra="allow")
class CallOutputItem(TypedDict):
    """The output of a function."""

    type: Literal["function_call_output"]
    call_id: str
    output: Content


@with_config(extra="allow")
class FunctionTool(TypedDict):
    """A function that the model may call."""

    type: Literal["function"]
    name: str


@with_config(extra="allow")
class FunctionChoice(TypedDict):
    """The function that the model has to call."""

    type: Literal["function"]
    name: str


@with_config(extra="allow")
class TextFormat(TypedDict):
    """Format of the answer."""

    type: Literal["text", "json_object", "json_schema"]


@with_config(extra="forbid")
class TextOptions(TypedDict, total=False):
    """Options of the text of the answer."""

    format: TextFormat | None


@with_config(extra="forbid")
class CreateResponse(TypedDict, total=False):
    """A request for a response: what a chat completion can express."""

    input: Required[str | Annotated[list[MessageItem | CallItem | CallOutputItem], Field(min_length=1)]]
    model: Annotated[str, Field(min_length=1)] | None
    background: bool | None
    instructions: str | None
    max_output_tokens: Annotated[int, Field(ge=1, le=MAX_WHOLE)] | None
    metadata: Metadata | None
    parallel_tool_calls: bool | None
    service_tier: ServiceTier | None
    store: bool | None
    stream: bool | None
    temperature: float | None
    text: TextOptions | None
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | None
    tools: list[FunctionTool] | None
    top_p: float | None
    mira: OwnFields | None


class ErrorOfResponse(TypedDict):
    """Error of a response that has failed."""

    code: str
    message: str


class IncompleteDetails(TypedDict):
    """Why an answer is incomplete."""

    reason: str


class OutputText(TypedDict):
    """Text of the answer."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[Any]


class OutputRefusal(TypedDict):
    """Refusal of the model."""

    type: Literal["refusal"]
    refusal: str


class OutputMessage(TypedDict):
    """A message of the model."""

    type: Literal["message"]
    id: str
    role: Literal["assistant"]
    status: Literal["completed", "incomplete"]
    content: list[OutputText | OutputRefusal]


class OutputCall(TypedDict):
    """A call of a function."""

    type: Literal["function_call"]
    id: str
    call_id: str
    name: str
    arguments: str
    status: Literal["completed"]


class JobDetails(TypedDict):
    """Fields of mira-queue: the job, why it waits and until when, and calls that may have been billed in vain."""

    job: str
    state: JobState
    waiting_for: str | None
    waiting_until: int | None
    attempts: int
    unanswered_calls: int


class ResponseObject(TypedDict):
    """A response. Times are Unix seconds."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["queued", "in_progress", "completed", "failed", "cancelled", "incomplete"]
    background: bool
    completed_at: int | None
    error: ErrorOfResponse | None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[OutputMessage | OutputCall]
    parallel_tool_calls: bool
    previous_response_id: None
    reasoning: None
    service_tier: str
    store: bool
    temperature: float | None
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: float | None
    truncation: Literal["disabled"]
    usage: UsageObject | None
    mira: JobDetails
