"""Digests of bodies: equal for a retry of the same request, and for no other."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mira_producer.gateway.retries import body_digest
from mira_producer.gateway.retries.body_digest import BodyDigest
from mira_producer.gateway.retries.identity import new_identity

from mira_queue.contract.file_id import file_id_of, parse_file_id

JSON = "application/json"


def digest(pieces: Sequence[bytes], content_type: str = JSON, path: str = "/v1/files") -> str:
    async def whole() -> str:
        found = BodyDigest(path, content_type)
        for piece in pieces:
            await found.add(piece)
        return await found.hexdigest()

    return asyncio.run(whole())


def form(boundary: bytes, content: bytes) -> bytes:
    return (
        b"--"
        + boundary
        + b'\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
        + content
        + b"\r\n--"
        + boundary
        + b"--\r\n"
    )


def cut(body: bytes, places: Sequence[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in pairwise(bounds)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_digest, "BLOCK_BYTES", 64)


@given(st.binary(max_size=300), st.lists(st.integers(0, 500), max_size=6))
def test_the_pieces_in_which_a_body_arrives_and_its_boundary_do_not_matter(content: bytes, places: list[int]) -> None:
    one = digest([form(b"first-0123456789", content)], "multipart/form-data; boundary=first-0123456789")
    other = digest(cut(form(b"second-98", content), places), "multipart/form-data; boundary=second-98")

    assert one == other
    assert digest([content]) == digest(cut(content, places))


def test_another_path_or_content_is_another_digest() -> None:
    kind = "multipart/form-data; boundary=x1"
    found = [
        digest([form(b"x1", b"a")], kind),
        digest([form(b"x1", b"b")], kind),
        digest([form(b"x1", b"a")], kind, "/v1/other"),
        digest([form(b"x1", b"a")]),
    ]

    assert len(set(found)) == len(found)


def test_ids_of_an_identity_are_those_of_objects_and_sort_by_time() -> None:
    identities = [new_identity() for _ in range(3)]

    assert [uuid.UUID(each).version for each in identities] == [7, 7, 7]
    ids = [str(file_id_of(each)) for each in identities]
    assert [str(parse_file_id(each)) for each in ids] == ids
    assert [each[:17] for each in ids] == sorted(each[:17] for each in ids)
