"""Objects of webhooks."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from mira_queue.contract.webhook import EVENT_TYPES


class EndpointDetails(TypedDict):
    """Fields of mira-queue. `disabled` is the reason for which the endpoint receives nothing."""

    disabled: str | None


class EndpointObject(TypedDict):
    """A webhook endpoint. `signing_secret` is shown when it is created, and when its secret is rotated."""

    id: str
    object: Literal["webhook_endpoint"]
    created_at: int
    updated_at: int
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str
    signing_secret: NotRequired[str]
    mira: EndpointDetails


class TestResult(TypedDict):
    """Response of the receiver to a test event."""

    object: Literal["webhook_endpoint.test"]
    event_type: str
    status_code: int
    success: bool
    webhook_endpoint_id: str


class EventTypesObject(TypedDict):
    """The types of events."""

    object: Literal["list"]
    data: list[str]


class Subject(TypedDict):
    """Object of an event: a batch, a response, a chat completion, or a job."""

    id: str


class DeliveredEvent(TypedDict):
    """Event of a delivery."""

    id: str
    type: str
    data: Subject


class DeliveryObject(TypedDict):
    """A delivery: an attempt follows (`pending`), it was made (`delivered`), or no attempt follows (`dead`)."""

    id: str
    object: Literal["webhook_delivery"]
    status: Literal["pending", "delivered", "dead"]
    created_at: int
    attempted_at: int | None
    next_attempt_at: int | None
    delivered_at: int | None
    failed_at: int | None
    event: DeliveredEvent
    project: str | None
    target: str
    attempts: int
    last_result: str | None


class EventDetails(TypedDict):
    """Fields of mira-queue: the job or the batch, and the code of its error."""

    id: str
    code: str | None


class EventData(TypedDict):
    """The object that has ended, and its metadata unless it is too large for an event."""

    id: str
    metadata: NotRequired[dict[str, str]]
    mira: EventDetails


class Event(TypedDict):
    """Body of a delivery."""

    id: str
    object: Literal["event"]
    type: str
    created_at: int
    data: EventData


EVENT_TYPE: dict[str, Any] = {"enum": list(EVENT_TYPES)}
