"""The events of a job's timeline as sentences. Pure."""

from __future__ import annotations

from mira_producer.text import duration, milliseconds, plural
from mira_queue.contract.timeline import CallRecord, EventKind, TimelineEvent

# Shorter waits for a permit say nothing.
MIN_WAIT_MS = 100

_TEXTS = {
    EventKind.ACCEPTED: "Accepted",
    EventKind.CALLING: "Call in flight",
    EventKind.LOST: "The call had no response when its worker crashed or lost the job. It may have been billed.",
    EventKind.CRASHED: "The worker crashed, or was silent for too long. The job returned to the queue.",
    EventKind.RETRIED: "Retried on its owner's command",
    EventKind.SUCCEEDED: "Succeeded",
    EventKind.CANCELLED: "Cancelled",
}
# Why a call waited for its permit: see `pace.Reason`.
_WAITED_FOR = {
    "breaker": "the circuit breaker",
    "probe": "the response to a probe",
    "in_flight": "a free slot of the account",
    "rate": "the account's rate limit",
    "configured": "the configured limit",
    "tokens": "the token limit",
    "header": "the limit in the server's headers",
    "spacing": "the spacing of the calls",
    "turn": "its turn",
}


def event_text(event: TimelineEvent) -> str:
    """Return what happened, for people."""
    if event.call is not None:
        return _call_text(event.call)
    match event.kind:
        case EventKind.CLAIMED:
            return f"Claimed by worker {event.worker}" if event.worker else "Claimed by a worker"
        case EventKind.WAITS:
            wait_s = ((event.until_ms or event.at_ms) - event.at_ms) / 1000
            return f"Waits {duration(wait_s)}: {event.reason}" if event.reason else f"Waits {duration(wait_s)}"
        case EventKind.RELEASED:
            return f"Returned to the queue: {event.reason}" if event.reason else "Returned to the queue"
        case EventKind.MOVED:
            return f"Moved to account {event.reason}"
        case EventKind.LEFT_OUT:
            return f"{plural(event.count, 'lease')} of workers not listed"
        case EventKind.FAILED:
            return f"Failed: {event.reason}" if event.reason else "Failed"
    return _TEXTS[event.kind]


def _call_text(call: CallRecord) -> str:
    result = f"HTTP {call.status}" if call.status else "no response"
    text = f"Call: {result} after {milliseconds(call.duration_ms)}"
    # A status says the same as its usual code.
    if call.code:
        text += f" ({call.code})"
    if call.waited_ms >= MIN_WAIT_MS:
        waited_for = _WAITED_FOR.get(call.waited_for, "its permit")
        text += f", after a wait of {milliseconds(call.waited_ms)} for {waited_for}"
    return text
