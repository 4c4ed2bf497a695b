"""Order in which a worker takes messages from its queues, for Celery's transport."""

from __future__ import annotations


class KindsInOrder:
    """Queues of the first kind go first. Of each kind, accounts take turns: a long file of one delays no other.

    A kind is the part of a queue's name before the account. The transport calls the three methods.
    """

    def __init__(self) -> None:
        self._kinds: list[str] = []
        self._queues: list[str] = []

    def update(self, queues: list[str]) -> None:
        """Set the queues, in the order of their kinds."""
        self._queues = list(queues)
        self._kinds = list(dict.fromkeys(map(_kind, queues)))

    def consume(self, count: int) -> list[str]:
        """Return the first queues: the transport takes the message from the first one that has any."""
        return sorted(self._queues, key=lambda queue: self._kinds.index(_kind(queue)))[:count]

    def rotate(self, used: str) -> str:
        """Put the queue of the last message behind the others of its kind."""
        if used in self._queues:
            self._queues.remove(used)
            self._queues.append(used)
        return used


def _kind(queue: str) -> str:
    return queue.rpartition(".")[0]
