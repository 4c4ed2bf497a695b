"""Webhooks in the ledger: events, the deliveries that follow from them, and the endpoints that receive them.

Scripts that end a job or a batch add the event. A gateway expands it into deliveries, one for each receiver, claims due
deliveries with a lease, and settles each attempt. Each receiver has its own queue.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from mira_queue.contract import names
from mira_queue.contract.delivery import DeliveryState
from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.webhook import WebhookEndpoint, WebhookEvent, is_endpoint_id
from mira_queue.ledger.script_runner import ScriptRunner, decode, in_ms

# Dead deliveries of one project. The oldest make room.
MAX_DEAD = 10_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """Delivery of an event to one receiver. `target` is a URL, or the id of an endpoint of the event's project.

    `attempts` counts those that were made, and `result` is that of the last one. Times are Unix milliseconds of the
    queue's server: of the last attempt, and of the next one. `died_ms` and `delivered_ms` are None before that.
    """

    id: str
    event: WebhookEvent
    target: str
    receiver: str
    attempts: int
    created_ms: int
    result: str = ""
    died_ms: int | None = None
    delivered_ms: int | None = None
    attempted_ms: int | None = None
    due_ms: int | None = None

    @property
    def place(self) -> tuple[int, str]:
        """Its place in a list."""
        return self.created_ms, self.id

    @property
    def state(self) -> DeliveryState:
        if self.died_ms is not None:
            return DeliveryState.DEAD
        return DeliveryState.PENDING if self.delivered_ms is None else DeliveryState.DELIVERED


class Webhooks(ScriptRunner):
    """Operations on webhooks."""

    # Endpoints.

    def add_endpoint(self, endpoint: WebhookEndpoint) -> WebhookEndpoint:
        """Add an endpoint, and return it, or the one that already has its id: that is the same request, repeated."""
        self._client.hsetnx(names.webhook_endpoints_key(endpoint.project), endpoint.id, endpoint.to_json())
        return self.endpoint(endpoint.project, endpoint.id) or endpoint

    def endpoints(self, project: str) -> list[WebhookEndpoint]:
        """Return the endpoints of a project, the newest first."""
        found: Any = self._client.hgetall(names.webhook_endpoints_key(project))
        endpoints = map(WebhookEndpoint.from_json, found.values())
        return sorted(endpoints, key=lambda each: (each.created_at, each.id), reverse=True)

    def endpoints_of_projects(self, projects: Sequence[str]) -> list[WebhookEndpoint]:
        """Return the endpoints of these projects, the newest first, in one round trip."""
        pipeline: Any = self._client.pipeline(transaction=False)
        for project in projects:
            pipeline.hvals(names.webhook_endpoints_key(project))
        endpoints = [WebhookEndpoint.from_json(each) for found in pipeline.execute() for each in found]
        return sorted(endpoints, key=lambda each: (each.created_at, each.id), reverse=True)

    def endpoint(self, project: str, endpoint_id: str) -> WebhookEndpoint | None:
        found: Any = self._client.hget(names.webhook_endpoints_key(project), endpoint_id)
        return None if found is None else WebhookEndpoint.from_json(found)

    def change_endpoint(
        self, project: str, endpoint_id: str, change: Callable[[WebhookEndpoint], WebhookEndpoint]
    ) -> WebhookEndpoint | None:
        """Replace an endpoint by what `change` returns. Return that, or None if there is no such endpoint."""
        key = names.webhook_endpoints_key(project)
        while True:
            before: Any = self._client.hget(key, endpoint_id)
            if before is None:
                return None
            after = change(WebhookEndpoint.from_json(before))
            if self._run("webhooks/replace_endpoint", [key], [endpoint_id, before, after.to_json()]):
                return after

    def disable_endpoint(self, project: str, endpoint_id: str, reason: str) -> None:
        """Send nothing more to an endpoint, until its owner changes it."""
        self.change_endpoint(project, endpoint_id, lambda endpoint: replace(endpoint, disabled=reason))

    def delete_endpoint(self, project: str, endpoint_id: str) -> bool:
        """Delete an endpoint, and with it its deliveries. Return False if there is no such endpoint."""
        return bool(self._client.hdel(names.webhook_endpoints_key(project), endpoint_id))

    # Events.

    def webhook_events(self, limit: int) -> list[bytes]:
        """Return the oldest events without deliveries, as they are stored."""
        found: Any = self._client.lrange(names.WEBHOOK_EVENTS, 0, limit - 1)
        return list(found)

    def expand_events(
        self, expanded: Iterable[tuple[bytes, Sequence[str]]], max_waiting: int
    ) -> tuple[int, list[Delivery]]:
        """Replace events by deliveries to these targets.

        Return how many deliveries this gateway has made, and those that are dead because `max_waiting` others wait for
        their receiver.
        """
        calls: list[tuple[list[str], list[Any]]] = []
        too_many = f"{max_waiting} deliveries wait for this receiver already (MIRA_WEBHOOK_MAX_WAITING)"
        for event, targets in expanded:
            project = WebhookEvent.from_json(event).project
            keys = [names.WEBHOOK_EVENTS, names.WEBHOOK_RECEIVERS, names.dead_deliveries_key(project)]
            keys += [names.deliveries_key(project), names.ALL_DELIVERIES]
            args: list[Any] = [event, self._result_ttl_ms, MAX_DEAD, max_waiting, too_many]
            for target in targets:
                delivery_id, receiver = f"whd_{uuid.uuid4().hex}", _receiver_of(target)
                keys += (names.delivery_key(delivery_id), names.receiver_key(receiver))
                args += (delivery_id.encode(), receiver.encode(), target.encode())
            calls.append((keys, args))
        answers = self._run_many("webhooks/expand", calls)
        mine = [(keys, answer) for (keys, _), answer in zip(calls, answers, strict=True) if answer is not None]
        dead = self._deliveries([decode(each) for _, ids in mine for each in ids])
        return sum((len(keys) - 5) // 2 for keys, _ in mine), [each for each in dead if each is not None]

    # Deliveries.

    def due_receivers(self, limit: int) -> list[str]:
        """Return receivers with due deliveries, those that have waited for the longest time first."""
        found: Any = self._client.zrangebyscore(names.WEBHOOK_RECEIVERS, "-inf", self._now_ms(), start=0, num=limit)
        return [decode(receiver) for receiver in found]

    def claim_deliveries(self, wanted: Iterable[tuple[str, int]], lease: timedelta) -> list[Delivery]:
        """Claim at most so many due deliveries of each of these receivers."""
        calls = [
            ([names.WEBHOOK_RECEIVERS, names.receiver_key(receiver), names.receiver_pause_key(receiver)],
             [receiver, count, in_ms(lease)])
            for receiver, count in wanted
        ]  # fmt: skip
        answers = zip(calls, self._run_many("webhooks/claim", calls), strict=True)
        claimed = {decode(each): str(args[0]) for (_, args), ids in answers for each in ids}
        found = self._deliveries(list(claimed))
        for (delivery_id, receiver), delivery in zip(claimed.items(), found, strict=True):
            if delivery is None:
                self._drop(receiver, delivery_id, "")
        return [each for each in found if each is not None]

    def complete_delivery(self, delivery: Delivery, result: str) -> None:
        """Record that a delivery was made. It is listed until newer ones make it leave the list."""
        keys = [*_keys_of(delivery), names.deliveries_key(delivery.event.project)]
        args = [delivery.receiver, delivery.id, delivery.attempts + 1, result, self._result_ttl_ms]
        self._run("webhooks/complete", keys, args)

    def drop_delivery(self, delivery: Delivery) -> None:
        """Remove a delivery that nothing receives any more."""
        self._drop(delivery.receiver, delivery.id, delivery.event.project)

    def _drop(self, receiver: str, delivery_id: str, project: str) -> None:
        keys = [*_keys(receiver, delivery_id), names.deliveries_key(project), names.ALL_DELIVERIES]
        self._run("webhooks/drop", keys, [receiver, delivery_id])

    def postpone_delivery(self, delivery: Delivery, result: str, wait: timedelta, pause: timedelta) -> bool:
        """Record a failed attempt. The next one is due after `wait`, and the receiver gets nothing during `pause`."""
        keys = [*_keys_of(delivery), names.receiver_pause_key(delivery.receiver)]
        args = [delivery.receiver, delivery.id, delivery.attempts, result, in_ms(wait), in_ms(pause)]
        return bool(self._run("webhooks/postpone", keys, args))

    def bury_delivery(self, delivery: Delivery, result: str) -> bool:
        """Make a delivery a dead one. It is listed for MIRA_RESULT_TTL, and can be sent again."""
        keys = [*_keys_of(delivery), names.dead_deliveries_key(delivery.event.project)]
        args = [delivery.receiver, delivery.id, delivery.attempts + 1, result, self._result_ttl_ms, MAX_DEAD]
        return bool(self._run("webhooks/bury", keys, args))

    def recent_deliveries(
        self, project: str | None = None, *, state: DeliveryState | None = None, after: str = "", limit: int = 20
    ) -> list[Delivery]:
        """Return recent deliveries of a project, or of all (None), the newest first, or those `after` another one.

        At most MAX_RECENT_DELIVERIES are listed. A project's dead deliveries are all listed, if only they are wanted.
        Raises InvalidRequest if there is no delivery `after`.
        """
        index = names.ALL_DELIVERIES if project is None else names.deliveries_key(project)
        if project is not None and state is DeliveryState.DEAD:
            index = names.dead_deliveries_key(project)
        ids: Any = self._client.zrange(index, 0, -1)
        found = [each for each in self._deliveries([decode(each) for each in ids]) if each is not None]
        start = self._place_of_delivery(after, project) if after else None
        wanted = [each for each in found if state in (None, each.state) and (start is None or each.place < start)]
        return sorted(wanted, key=lambda each: each.place, reverse=True)[:limit]

    def _place_of_delivery(self, delivery_id: str, project: str | None) -> tuple[int, str]:
        (found,) = self._deliveries([delivery_id])
        if found is None or project not in (None, found.event.project):
            raise InvalidRequest("after", f"no webhook delivery {delivery_id[:80]!a}")
        return found.place

    def dead_deliveries(self, project: str) -> list[Delivery]:
        """Return the dead deliveries of a project, the newest first."""
        found: Any = self._client.zrevrange(names.dead_deliveries_key(project), 0, -1)
        deliveries = self._deliveries([decode(each) for each in found])
        return [each for each in deliveries if each is not None and each.died_ms is not None]

    def dead_delivery(self, delivery_id: str) -> Delivery | None:
        (found,) = self._deliveries([delivery_id])
        return found if found and found.died_ms is not None else None

    def resend_delivery(self, delivery: Delivery) -> bool:
        """Send a dead delivery again. Return False if it is not dead any more."""
        keys = [*_keys_of(delivery), names.dead_deliveries_key(delivery.event.project)]
        return bool(self._run("webhooks/resend", keys, [delivery.receiver, delivery.id]))

    def _deliveries(self, ids: Sequence[str]) -> list[Delivery | None]:
        pipeline = self._client.pipeline(transaction=False)
        for delivery_id in ids:
            pipeline.hgetall(names.delivery_key(delivery_id))
        return [_delivery(each, raw) for each, raw in zip(ids, pipeline.execute(), strict=True)]


def _receiver_of(target: str) -> str:
    """Return the name of a target's queue: an endpoint keeps it when its URL changes."""
    return target if is_endpoint_id(target) else hashlib.sha256(target.encode()).hexdigest()[:24]


def _keys_of(delivery: Delivery) -> list[str]:
    return _keys(delivery.receiver, delivery.id)


def _keys(receiver: str, delivery_id: str) -> list[str]:
    return [names.WEBHOOK_RECEIVERS, names.receiver_key(receiver), names.delivery_key(delivery_id)]


def _delivery(delivery_id: str, raw: dict[bytes, bytes]) -> Delivery | None:
    if not raw:
        return None
    times = (raw.get(name) for name in (b"died_ms", b"delivered_ms", b"attempted_ms", b"due_ms"))
    return Delivery(
        delivery_id,
        WebhookEvent.from_json(raw[b"event"]),
        decode(raw[b"target"]),
        decode(raw[b"receiver"]),
        int(raw[b"attempts"]),
        int(raw[b"created_ms"]),
        decode(raw.get(b"result", b"")),
        *(int(time) if time else None for time in times),
    )
