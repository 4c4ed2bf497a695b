"""The task that delivers webhooks. Every gateway runs one, and they share the work through leases in the ledger."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta

from anyio import move_on_after
from structlog.typing import FilteringBoundLogger

from mira_producer.webhooks.sender import Sender
from mira_queue.contract.delivery import Attempt, Dead, Delivered, decide
from mira_queue.contract.errors import MiraQueueError
from mira_queue.contract.settings import Settings
from mira_queue.contract.webhook import (
    WebhookEndpoint,
    WebhookEvent,
    endpoints_of,
    is_endpoint_id,
    payload_of,
)
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.webhooks import Delivery

IDLE_S, BUSY_S = 0.5, 0.01
# A receiver that responds at all responds within this time.
STOP_S = 5.0
EVENTS_PER_STEP = 100
RECEIVERS_PER_STEP = 1000
MAX_IN_FLIGHT = 512
# A receiver that does not respond holds so many of them. After a failure it is one, until an attempt succeeds.
MAX_PER_RECEIVER = 8
# Time for the result of an attempt to reach the ledger before its lease ends.
LEASE_MARGIN = timedelta(seconds=5)


class Deliverer:
    """Deliveries of one gateway. `object_id` returns the id of OpenAI's object of an event."""

    def __init__(
        self,
        ledger: Ledger,
        sender: Sender,
        settings: Settings,
        log: FilteringBoundLogger,
        object_id: Callable[[WebhookEvent], str],
    ) -> None:
        self._ledger = ledger
        self._sender = sender
        self._secrets = settings.webhook_secrets
        self._lease = settings.webhook_timeout + LEASE_MARGIN
        self._max_waiting = settings.webhook_max_waiting
        self._log = log
        self._object_id = object_id
        self._in_flight: Counter[str] = Counter()
        self._failing: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Deliver until cancelled. Attempts that are running then may finish within STOP_S."""
        is_first = True
        try:
            while True:
                was_idle = True
                try:
                    # Without a worker, nothing else keeps the ledger's clock: it would take idle time for a jump.
                    jump = await asyncio.to_thread(self._ledger.check_clock, is_first=is_first)
                    is_first = False
                    if jump:
                        self._log.warning("clock_jumped", seconds=round(jump.total_seconds(), 1))
                    was_idle = not await self.step()
                except MiraQueueError as error:
                    self._log.warning("webhooks_failed", error=str(error))
                await asyncio.sleep(BUSY_S)
                if was_idle:
                    await self._wait_for_room()
        finally:
            with move_on_after(STOP_S, shield=True):
                await self.wait()
            # They are made again after their lease.
            for task in self._tasks:
                task.cancel()

    async def step(self) -> int:
        """Expand events, and start attempts that are due. Return how many of both."""
        expanded = await asyncio.to_thread(self._expand)
        claimed = await asyncio.to_thread(self._claim, MAX_IN_FLIGHT - self._in_flight.total())
        for delivery in claimed:
            self._in_flight[delivery.receiver] += 1
            task = asyncio.create_task(self._deliver(delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return expanded + len(claimed)

    async def _wait_for_room(self) -> None:
        """Wait until an attempt has finished, which makes room for another one, or until it is time to check again."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=IDLE_S, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(IDLE_S)

    async def wait(self) -> None:
        """Wait until the attempts that have started are settled."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _expand(self) -> int:
        found = self._ledger.webhook_events(EVENTS_PER_STEP)
        events = [(text, WebhookEvent.from_json(text)) for text in found]
        endpoints = {project: self._ledger.endpoints(project) for project in {event.project for _, event in events}}
        expanded = [(text, _targets(event, endpoints[event.project])) for text, event in events]
        _, dead = self._ledger.expand_events(expanded, self._max_waiting)
        for delivery in dead:
            self._log_of(delivery).warning("webhook_dead", result=delivery.result, attempt=0)
        return len(found)

    def _log_of(self, delivery: Delivery) -> FilteringBoundLogger:
        event = delivery.event
        return self._log.bind(
            delivery_id=delivery.id, event_id=event.id, type=event.type, target=_shown(delivery.target)
        )

    def _claim(self, free: int) -> list[Delivery]:
        wanted = []
        for receiver in self._ledger.due_receivers(RECEIVERS_PER_STEP) if free > 0 else ():
            limit = 1 if receiver in self._failing else MAX_PER_RECEIVER
            count = min(free, limit - self._in_flight[receiver])
            if count > 0:
                wanted.append((receiver, count))
                free -= count
            if free <= 0:
                break
        return self._ledger.claim_deliveries(wanted, self._lease) if wanted else []

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            await self._attempt(delivery)
        except MiraQueueError as error:
            # Nothing is recorded: the delivery is made again after its lease.
            self._log.warning("webhook_not_settled", delivery_id=delivery.id, error=str(error))
        finally:
            self._in_flight[delivery.receiver] -= 1

    async def _attempt(self, delivery: Delivery) -> None:
        endpoint = None
        if is_endpoint_id(delivery.target):
            endpoint = await asyncio.to_thread(self._ledger.endpoint, delivery.event.project, delivery.target)
            if endpoint is None:
                await asyncio.to_thread(self._ledger.drop_delivery, delivery)
                return
            if endpoint.disabled:
                await asyncio.to_thread(self._ledger.bury_delivery, delivery, f"endpoint disabled: {endpoint.disabled}")
                return
        secrets = endpoint.signing_secrets(int(time.time())) if endpoint else self._secrets
        url = endpoint.url if endpoint else delivery.target
        body = payload_of(delivery.event, self._object_id(delivery.event))
        attempt = await self._sender.send(url, delivery.event.id, body, secrets)
        await asyncio.to_thread(self._settle, delivery, attempt)

    def _settle(self, delivery: Delivery, attempt: Attempt) -> None:
        decision = decide(attempt, delivery.attempts + 1, random.random())
        log = self._log_of(delivery)
        if isinstance(decision, Delivered):
            self._failing.discard(delivery.receiver)
            self._ledger.complete_delivery(delivery, str(attempt))
            log.info("webhook_delivered", status=attempt.status, attempt=delivery.attempts + 1)
            return
        if isinstance(decision, Dead):
            self._failing.discard(delivery.receiver)
            self._ledger.bury_delivery(delivery, str(attempt))
            if decision.is_gone and is_endpoint_id(delivery.target):
                self._ledger.disable_endpoint(delivery.event.project, delivery.target, str(attempt))
            log.warning("webhook_dead", result=str(attempt), attempt=delivery.attempts + 1)
            return
        self._failing.add(delivery.receiver)
        self._ledger.postpone_delivery(delivery, str(attempt), decision.wait, decision.pause)
        log.info("webhook_postponed", result=str(attempt), wait_s=round(decision.wait.total_seconds(), 1))


def _targets(event: WebhookEvent, endpoints: Sequence[WebhookEndpoint]) -> list[str]:
    """Return the receivers of an event: endpoints of its project, and its own URL."""
    found = [endpoint.id for endpoint in endpoints_of(event, endpoints)]
    is_url = event.webhook.startswith(("http://", "https://"))
    return [*found, event.webhook] if is_url else found


def _shown(target: str) -> str:
    """Return a target for the log, without what may be a secret in the path of its URL."""
    return target if is_endpoint_id(target) else "/".join(target.split("/", 3)[:3])
