"""Uploads in parts, with the official SDK."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.support.gateway_process import Gateway, started_gateway
from tests.support.simulator_process import SimulatorProcess

MB = 1024 * 1024
MAX_FILE_BYTES = 80 * MB


@pytest.fixture(scope="module")
def gateway(simulator_process: SimulatorProcess) -> Iterator[Gateway]:
    with started_gateway(api_base=simulator_process.url, workers=0, max_file_bytes=MAX_FILE_BYTES) as running:
        yield running


def begun(client: openai.OpenAI, size: int, **options: Any) -> str:
    wanted: dict[str, Any] = {
        "bytes": size,
        "filename": "a.jsonl",
        "mime_type": "application/jsonl",
        "purpose": "batch",
    }
    return client.uploads.create(**{**wanted, **options}).id


def parts(client: openai.OpenAI, upload_id: str, *pieces: bytes) -> list[str]:
    return [client.uploads.parts.create(upload_id, data=piece).id for piece in pieces]


def test_the_sdk_uploads_a_file_in_parts(openai_client: openai.OpenAI) -> None:
    content = os.urandom(3 * MB + 17)
    upload = openai_client.uploads.upload_file_chunked(
        file=content, filename="big.jsonl", bytes=len(content), mime_type="application/jsonl", purpose="batch",
        part_size=MB, md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),
    )  # fmt: skip

    assert (upload.object, upload.status, upload.bytes) == ("upload", "completed", len(content))
    assert upload.expires_at == upload.created_at + 3600
    assert upload.file is not None
    assert (upload.file.filename, upload.file.bytes, upload.file.purpose) == ("big.jsonl", len(content), "batch")
    assert openai_client.files.content(upload.file.id).read() == content


def test_parts_are_assembled_in_the_order_of_the_list_and_a_repeated_completion_is_the_same_file(
    gateway: Gateway, openai_client: openai.OpenAI
) -> None:
    upload_id = begun(openai_client, 6)
    second, first, unused = parts(openai_client, upload_id, b"def", b"abc", b"xyz")

    upload = openai_client.uploads.complete(upload_id, part_ids=[first, second])
    again = openai_client.uploads.complete(upload_id, part_ids=[first, second])

    assert upload.file is not None
    assert upload.file == again.file
    assert openai_client.files.content(upload.file.id).read() == b"abcdef"
    # The parts have gone with the completion.
    assert not list((gateway.state_dir / "uploads" / upload_id).glob("part_*"))
    with pytest.raises(openai.ConflictError):
        parts(openai_client, upload_id, b"more")
    assert unused


def test_a_completion_whose_parts_do_not_add_up_is_rejected_and_can_be_repeated(openai_client: openai.OpenAI) -> None:
    upload_id = begun(openai_client, 6)
    first, second = parts(openai_client, upload_id, b"abc", b"def")

    def rejected(**options: Any) -> str | None:
        with pytest.raises(openai.BadRequestError) as caught:
            openai_client.uploads.complete(upload_id, **options)
        return caught.value.param

    assert rejected(part_ids=[first]) == "part_ids"
    assert rejected(part_ids=[first, first]) == "part_ids"
    assert rejected(part_ids=[first, "part_" + "0" * 32]) == "part_ids"
    assert rejected(part_ids=[first, "../../" + second]) == "part_ids"
    assert rejected(part_ids=[]) == "part_ids"
    assert rejected(part_ids=[first, second], md5="0" * 32) == "md5"
    assert openai_client.uploads.complete(upload_id, part_ids=[first, second]).status == "completed"


def test_a_cancelled_upload_takes_no_parts(gateway: Gateway, openai_client: openai.OpenAI) -> None:
    upload_id = begun(openai_client, 6)
    (part,) = parts(openai_client, upload_id, b"abcdef")

    assert openai_client.uploads.cancel(upload_id).status == "cancelled"
    assert openai_client.uploads.cancel(upload_id).status == "cancelled"

    with pytest.raises(openai.ConflictError) as caught:
        openai_client.uploads.complete(upload_id, part_ids=[part])
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert not list((gateway.state_dir / "uploads" / upload_id).glob("part_*"))


def test_an_upload_over_a_limit_is_rejected(openai_client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as too_large:
        begun(openai_client, MAX_FILE_BYTES + 1)
    assert (too_large.value.status_code, too_large.value.param) == (413, "bytes")
    with pytest.raises(openai.BadRequestError) as caught:
        begun(openai_client, 10, purpose="vision")
    assert caught.value.param == "purpose"
    upload_id = begun(openai_client, 70 * MB)
    with pytest.raises(openai.APIStatusError) as large_part:
        openai_client.uploads.parts.create(upload_id, data=io.BytesIO(bytes(64 * MB + 1)))
    assert large_part.value.status_code == 413


def test_more_parts_than_were_announced_are_rejected(openai_client: openai.OpenAI) -> None:
    upload_id = begun(openai_client, 4)
    parts(openai_client, upload_id, b"abcd", b"abcd")

    with pytest.raises(openai.BadRequestError):
        parts(openai_client, upload_id, b"abcd")


def test_another_projects_upload_does_not_exist(gateway: Gateway) -> None:
    upload_id = begun(gateway.client(gateway.create_key("one")), 4)
    other = gateway.client(gateway.create_key("two"))

    for call in (lambda: parts(other, upload_id, b"abcd"), lambda: other.uploads.cancel(upload_id)):
        with pytest.raises(openai.NotFoundError):
            call()
