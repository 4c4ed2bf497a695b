"""Id of the object that an event is about, as the API shows it."""

from __future__ import annotations

from mira_producer.gateway.jobs.job_ids import completion_id, response_id
from mira_queue.contract.webhook import WebhookEvent

_IDS = {"response": response_id, "chat.completion": completion_id}


def object_id(event: WebhookEvent) -> str:
    """Return the id of the response, the chat completion, the job, or the batch."""
    shown = _IDS.get(event.kind)
    return shown(event.subject) if shown else event.subject
