"""Recent HTTP requests of the gateways: a retry is found, and gets the identity of the request that it repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from mira_queue.contract import names
from mira_queue.ledger.script_runner import ScriptRunner, decode, in_ms


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A request whose client may not have its response yet. `place` is the key of all requests that are equal to it."""

    place: str
    identity: str
    entry: str


@dataclass(frozen=True, slots=True)
class Loss:
    """The connection of a request broke. A retry is recognized `within` this time; None: the handler still runs."""

    request: OpenRequest
    within: timedelta | None = names.RETRY_WITHIN


@dataclass(frozen=True, slots=True)
class DeletedObject:
    """An object that its owner has deleted: when it was created, in the unit of its lists, and its project."""

    created: int
    project: str


class HttpRequests(ScriptRunner):
    """Operations of gateways."""

    def begin_http_request(
        self, place: str, new_identity: str, gateway: str, *, retry_count: int, has_time: bool
    ) -> OpenRequest | None:
        """Record a request, with the new identity unless it is recognized as a retry.

        `retry_count` is 0 for a first request. A later retry is recognized for longer: if no gateway was running, the
        earlier ones have passed the time.
        Return None if a retry has to ask again: the request that it repeats may still be in progress. With `has_time`,
        that includes requests of other gateways whose connections seem to be open: the gateway may have been killed.
        """
        late = min(names.RETRY_WITHIN, names.DOUBTFUL_WITHIN * (retry_count - 1))
        args = [new_identity, gateway, in_ms(late) if retry_count else "", "1" if has_time else ""]
        found = self._run("http_requests/begin", [place, names.GATEWAYS], args)
        if not found:
            return None
        return OpenRequest(place, decode(found), f"{decode(found)}:{gateway}:{new_identity}")

    def lose_http_requests(self, losses: Sequence[Loss]) -> None:
        """Record broken connections, in order."""
        self._run_many(
            "http_requests/set_lost",
            [([each.request.place], [each.request.entry, _ms_or_empty(each.within)]) for each in losses],
        )

    def end_http_requests(self, requests: Sequence[OpenRequest]) -> None:
        """Forget requests whose clients have received their responses."""
        pipeline = self._client.pipeline(transaction=False)
        for each in requests:
            pipeline.zrem(each.place, each.entry)
        pipeline.execute()

    def renew_gateway(self, gateway: str) -> None:
        """Record that a gateway lives, for GATEWAY_LEASE."""
        self._run("http_requests/renew_gateway", [names.GATEWAYS], [gateway, in_ms(names.GATEWAY_LEASE)])

    def stop_gateway(self, gateway: str) -> None:
        """Record that a gateway has stopped."""
        self._run("http_requests/renew_gateway", [names.GATEWAYS], [gateway, 0])

    def claim_http_key(self, place: str, identity: str, digest: str) -> str | None:
        """Return the identity of the first request with an Idempotency-Key, or None if that was another request."""
        found = self._run("http_requests/claim_key", [place], [identity, digest, in_ms(names.HTTP_KEY_TTL)])
        return decode(found) if found else None

    def set_deleted(self, digest: str, project: str, created: int) -> None:
        """Record that an object was deleted, before it is. `digest` is `digest_of_identity` of its request."""
        self._client.set(names.deleted_key(digest), f"{created}:{project}", px=names.HTTP_KEY_TTL)

    def deleted(self, digest: str) -> DeletedObject | None:
        """Return what is known of an object that was deleted in the last HTTP_KEY_TTL."""
        found: Any = self._client.get(names.deleted_key(digest))
        if found is None:
            return None
        created, _, project = decode(found).partition(":")
        return DeletedObject(int(created), project)

    def free_http_key(self, place: str, identity: str, digest: str) -> None:
        """Forget the Idempotency-Key of a request that was wrong."""
        self._run("http_requests/free_key", [place], [identity, digest])


def _ms_or_empty(duration: timedelta | None) -> int | str:
    return "" if duration is None else in_ms(duration)
