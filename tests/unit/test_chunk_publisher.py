"""Which pieces of a stream a worker publishes."""

from __future__ import annotations

from typing import Any, cast

import orjson
import pytest
from mira_worker.chunk_publisher import ChunkPublisher
from mira_worker.event_stream import asks_for_stream

from mira_queue import QueueUnavailable
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import Lease


class Published:
    """A ledger's place for chunks. It can be full, lost, or down."""

    def __init__(self, error: Exception | None = None, *, is_held: bool = True) -> None:
        self.chunks: list[bytes] = []
        self.calls = 0
        self._error = error
        self._is_held = is_held

    def publish_chunks(self, lease: Lease, chunks: list[bytes]) -> bool:
        self.calls += 1
        if self._error:
            raise self._error
        self.chunks += chunks
        return self._is_held


def publisher(place: Published) -> ChunkPublisher:
    return ChunkPublisher(cast(Ledger, place), Lease("a job", 1, b""))


CHUNKS = [orjson.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}) for text in ("one", "два", "3")]


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_chunks_are_found_however_the_bytes_arrive(size: int, end: bytes) -> None:
    body = b": ping" + end + b"".join(b"data: " + chunk + end for chunk in CHUNKS) + b"data: [DONE]" + end
    place = Published()
    publish = publisher(place)

    for start in range(0, len(body), size):
        publish(body[start : start + size])

    assert place.chunks == CHUNKS


@pytest.mark.parametrize("data", [b'{"error": {"code": 500}}', b"[DONE]", b"not JSON", b"[]", b'{"choices": null}'])
def test_nothing_is_published_after_what_is_no_chunk(data: bytes) -> None:
    place = Published()

    publisher(place)(b"data: %b\ndata: %b\ndata: %b\n" % (CHUNKS[0], data, CHUNKS[1]))

    assert place.chunks == CHUNKS[:1]


@pytest.mark.parametrize("place", [Published(QueueUnavailable("down")), Published(is_held=False)])
def test_a_worker_that_cannot_publish_stops_trying(place: Published) -> None:
    publish = publisher(place)

    for chunk in CHUNKS:
        publish(b"data: %b\n" % chunk)

    assert place.calls == 1


@pytest.mark.parametrize(
    ("body", "asks"),
    [
        ({"stream": True}, True),
        ({"stream": False}, False),
        ({}, False),
        ({"messages": [{"content": '{"stream":true}'}]}, False),
    ],
)
def test_a_request_that_asks_for_a_stream_is_recognized(body: dict[str, Any], asks: bool) -> None:
    assert asks_for_stream(orjson.dumps(body)) is asks
