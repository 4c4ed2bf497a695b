"""Published chunks of streamed answers, on a real server."""

from __future__ import annotations

import redis

from mira_queue.contract import names
from mira_queue.ledger.chunks import ReadChunks
from mira_queue.ledger.ledger import Ledger
from tests.support.ledger_steps import COMPLETION, begun, claimed, life_ms


def test_a_client_gets_each_chunk_once(ledger: Ledger, redis_client: redis.Redis) -> None:
    held, other = begun(ledger), begun(ledger)
    epoch = str(held.epoch)
    clients = [ReadChunks(held.job_id), ReadChunks(other.job_id), ReadChunks(held.job_id, epoch, 1)]

    assert ledger.read_chunks(clients) == [("", []), ("", []), ("", [])]
    assert ledger.publish_chunks(held, [b"one", b"two"])
    assert ledger.read_chunks(clients) == [(epoch, [b"one", b"two"]), ("", []), (epoch, [b"two"])]
    assert ledger.publish_chunks(held, [b"three"])
    assert ledger.read_chunks([ReadChunks(held.job_id, epoch, 2)]) == [(epoch, [b"three"])]
    assert 0 < life_ms(redis_client, names.chunks_key(held.job_id)) <= 60_000
    for lease in (held, other):
        ledger.finish(lease, COMPLETION)


def test_a_new_attempt_replaces_the_chunks_and_a_lost_lease_publishes_nothing(ledger: Ledger) -> None:
    first = begun(ledger)
    ledger.publish_chunks(first, [b"one"])
    ledger.release(first)
    second = claimed(ledger, first.job_id)

    assert not ledger.publish_chunks(first, [b"late"])
    assert ledger.publish_chunks(second, [b"new"])

    known = ReadChunks(first.job_id, str(first.epoch), 1)
    assert ledger.read_chunks([known]) == [(str(second.epoch), [b"new"])]
    ledger.finish(second, COMPLETION)
    assert not ledger.publish_chunks(second, [b"late"])


def test_thousands_of_chunks_are_published_and_read_in_pieces(ledger: Ledger) -> None:
    held = begun(ledger)
    chunks = [str(number).encode() for number in range(2 * names.MAX_CHUNKS + 1)]

    assert ledger.publish_chunks(held, chunks)

    found: list[bytes] = []
    while len(found) < len(chunks):
        [(_, piece)] = ledger.read_chunks([ReadChunks(held.job_id, str(held.epoch), len(found))])
        assert 0 < len(piece) <= names.MAX_CHUNKS
        found += piece
    assert found == chunks
    ledger.finish(held, COMPLETION)
