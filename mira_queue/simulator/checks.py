"""Checks of a request before the limits, in the order of the documentation or in that of Mira's real backend. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from mira_queue.simulator import mira_body, replies
from mira_queue.simulator.config import SimulatorConfig
from mira_queue.simulator.replies import Rejected, Reply
from mira_queue.simulator.validation import Call, read_call

PATH = "/v1/chat/completions"
MAX_BODY_BYTES = 12 * 1024 * 1024
MAX_JSON_BYTES = 2 * 1024 * 1024

TOO_LONG = Reply(413, b"length limit exceeded", replies.TEXT)
TOO_LARGE = replies.detail(413).with_content_type(None)
FORBIDDEN = Reply(403, b"Forbidden", replies.TEXT)
NO_SUCH_PATH = Reply(404, b"", replies.TEXT)
WRONG_METHOD = Reply(405, b"", replies.TEXT, {"Allow": "POST"})
NOT_JSON = Reply(415, b"Expected request with `Content-Type: application/json`", replies.TEXT)


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request as it arrived. `body` is None if it is larger than MAX_BODY_BYTES, and `key` is "" without a key."""

    method: str
    path: str
    content_type: str
    key: str
    body: bytes | None


def check(request: Incoming, config: SimulatorConfig) -> Call:
    """Return the call of a request. Raise Rejected with the response if there is none."""
    return _as_mira(request, config) if config.backend == "mira" else _as_documented(request, config)


def _as_documented(request: Incoming, config: SimulatorConfig) -> Call:
    if request.method != "POST" or not request.path.endswith(PATH):
        raise Rejected(replies.detail(404))
    if config.api_version == "retired":
        raise Rejected(replies.RETIRED)
    if request.body is None:
        raise Rejected(replies.detail(413))
    if not config.has_key(request.key):
        raise Rejected(replies.detail(401))
    if "json" not in request.content_type.lower():
        message = "Content-Type must be application/json"
        raise Rejected(replies.detail_in_string(422, error="validation_error", message=message))
    return read_call(request.body, config)


def _as_mira(request: Incoming, config: SimulatorConfig) -> Call:
    if request.path.startswith("/api/v1/"):
        raise Rejected(NO_SUCH_PATH)
    if request.path != PATH:
        raise Rejected(FORBIDDEN)
    if request.method != "POST":
        raise Rejected(WRONG_METHOD)
    if request.body is None:
        raise Rejected(TOO_LONG)
    if len(request.body) > MAX_JSON_BYTES:
        raise Rejected(TOO_LARGE)
    # These two come before the key: a request without a key can get a 400.
    mira_body.check_bytes(request.body)
    if not config.has_key(request.key):
        raise Rejected(replies.detail(401), is_from_handler=True)
    if config.api_version == "retired":
        raise Rejected(replies.RETIRED, is_from_handler=True)
    if "json" not in request.content_type.lower():
        raise Rejected(NOT_JSON)
    return mira_body.read_call(request.body, config)
