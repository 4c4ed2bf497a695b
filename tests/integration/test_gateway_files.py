"""Files over HTTP: with the official SDK, and with the bytes that other SDKs send."""

from __future__ import annotations

import io
import json
import os
import resource
import socket
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.support.gateway_process import Gateway, started_gateway
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

TIMEOUT_S = 30
MAX_FILE_BYTES = 300_000
CONTENT = b"".join(b'{"custom_id": "line-%d", "prompt": "hello"}\n' % n for n in range(100))
BOUNDARY = b"----formdata-undici-0123456789"


@pytest.fixture(scope="module")
def gateway(simulator_process: SimulatorProcess) -> Iterator[Gateway]:
    """A gateway with a small limit of file sizes."""
    with started_gateway(api_base=simulator_process.url, workers=0, max_file_bytes=MAX_FILE_BYTES) as running:
        yield running


def part(name: bytes, value: bytes, filename: bytes = b"") -> bytes:
    named = b'; filename="' + filename + b'"\r\nContent-Type: application/octet-stream' if filename else b""
    head = b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="' + name + b'"' + named + b"\r\n\r\n"
    return head + value + b"\r\n"


END = b"--" + BOUNDARY + b"--\r\n"


def raw_request(
    gateway: Gateway, body: bytes, key: str = "", *, chunk: int = 0, length: bool = False
) -> tuple[int, Any]:
    """POST a multipart body to /v1/files as bytes: chunked, or with a Content-Length. Return status and body."""
    head = (
        f"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key or gateway.key}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}\r\nConnection: close\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", gateway.port), TIMEOUT_S) as connection:
        if length:
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        else:
            connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            size = chunk or len(body)
            for start in range(0, len(body), size):
                piece = body[start : start + size]
                connection.sendall(b"%x\r\n" % len(piece) + piece + b"\r\n")
            connection.sendall(b"0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, found = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(found)


def folders(gateway: Gateway) -> set[str]:
    root = gateway.state_dir / "files"
    return set(os.listdir(root)) if root.exists() else set()


def test_a_file_is_uploaded_listed_retrieved_read_and_deleted_with_the_sdk(openai_client: openai.OpenAI) -> None:
    created = openai_client.files.create(file=("prompts.jsonl", io.BytesIO(CONTENT)), purpose="batch")

    assert created.id.startswith("file-")
    assert (created.object, created.bytes, created.filename) == ("file", len(CONTENT), "prompts.jsonl")
    assert (created.purpose, created.status) == ("batch", "processed")
    assert created.expires_at == created.created_at + 30 * 86400
    assert openai_client.files.retrieve(created.id) == created
    assert openai_client.files.wait_for_processing(created.id) == created
    assert created in list(openai_client.files.list())
    assert openai_client.files.content(created.id).read() == CONTENT
    deleted = openai_client.files.delete(created.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (created.id, "file", True)
    with pytest.raises(openai.NotFoundError):
        openai_client.files.retrieve(created.id)


def test_a_file_expires_when_its_creator_wants(openai_client: openai.OpenAI) -> None:
    created = openai_client.files.create(
        file=("a.jsonl", CONTENT), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )

    assert created.expires_at == created.created_at + 3600


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"purpose": "assistants"}, "purpose"),
        ({"purpose": "batch", "expires_after": {"anchor": "created_at", "seconds": 60}}, "expires_after[seconds]"),
        ({"purpose": "batch", "extra_body": {"colour": "blue"}}, "colour"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_stored(
    gateway: Gateway, openai_client: openai.OpenAI, options: dict[str, Any], param: str
) -> None:
    before = folders(gateway)

    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.files.create(file=("a.jsonl", CONTENT), **options)

    assert (caught.value.param, caught.value.type) == (param, "invalid_request_error")
    assert caught.value.request_id is not None
    assert folders(gateway) == before


def test_pages_of_files_hold_each_once_though_files_are_deleted_meanwhile(openai_client: openai.OpenAI) -> None:
    created = [openai_client.files.create(file=(f"{n}.jsonl", b"{}\n"), purpose="batch").id for n in range(7)]

    seen = []
    for file in openai_client.files.list(limit=3, order="asc"):
        seen.append(file.id)
        openai_client.files.delete(file.id)

    assert [each for each in seen if each in created] == created
    assert len(set(seen)) == len(seen)
    assert list(openai_client.files.list()) == []


def test_a_range_is_that_part_of_the_file(gateway: Gateway, openai_client: openai.OpenAI) -> None:
    file = openai_client.files.create(file=("a.jsonl", CONTENT), purpose="batch")

    def content(header: str) -> tuple[int, bytes, str | None]:
        found = openai_client.files.with_raw_response.content(file.id, extra_headers={"Range": header})
        return found.status_code, found.content, found.headers.get("content-range")

    size = len(CONTENT)
    assert content("bytes=10-19") == (206, CONTENT[10:20], f"bytes 10-19/{size}")
    assert content("bytes=10-") == (206, CONTENT[10:], f"bytes 10-{size - 1}/{size}")
    assert content("bytes=-5") == (206, CONTENT[-5:], f"bytes {size - 5}-{size - 1}/{size}")
    assert content("lines=1-2") == (200, CONTENT, None)
    with pytest.raises(openai.APIStatusError) as caught:
        content(f"bytes={size}-")
    assert (caught.value.status_code, caught.value.code) == (416, "invalid_range")


@pytest.mark.parametrize(("chunk", "length"), [(0, False), (1, False), (17, False), (4096, False), (0, True)])
def test_nodes_form_is_accepted_the_file_first_and_in_any_pieces(gateway: Gateway, chunk: int, length: bool) -> None:
    content = CONTENT[:300] + b"\r\n--" + BOUNDARY[:-1] + b"\r\n" + CONTENT[:300]
    body = part(b"file", content, b"prompts.jsonl") + part(b"purpose", b"batch") + END

    status, file = raw_request(gateway, body, chunk=chunk, length=length)

    assert status == 200
    assert (file["bytes"], file["filename"]) == (len(content), "prompts.jsonl")
    assert (gateway.state_dir / "files" / file["id"] / "content").read_bytes() == content


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (part(b"purpose", b"batch") + END, 400, "missing_required_parameter"),
        (part(b"file", b"{}", b"a") + END, 400, "missing_required_parameter"),
        (part(b"file", b"{}", b"a") + part(b"purpose", b"batch"), 400, "invalid_multipart"),
        (b"no boundary at all", 400, "invalid_multipart"),
        (part(b"file", b"{}", b"a") + part(b"file", b"{}", b"b") + END, 400, "invalid_value"),
        (part(b"purpose", b"x" * 100_000) + END, 400, "invalid_value"),
        (part(b"file", b"y" * (MAX_FILE_BYTES + 1), b"a") + part(b"purpose", b"batch") + END, 413, "request_too_large"),
        (part(b"purpose", b"vision") + part(b"file", b"{}", b"a") + END, 400, "invalid_value"),
    ],
)
@pytest.mark.parametrize("length", [False, True])
def test_a_wrong_form_is_rejected_and_leaves_nothing(
    gateway: Gateway, body: bytes, status: int, code: str, length: bool
) -> None:
    before = folders(gateway)

    found, error = raw_request(gateway, body, chunk=50_000, length=length)

    assert (found, error["error"]["code"]) == (status, code)
    assert folders(gateway) == before


def test_a_file_name_is_only_a_name(gateway: Gateway, openai_client: openai.OpenAI) -> None:
    body = part(b"file", b"{}\n", b"../../etc/\x1b[31mpasswd") + part(b"purpose", b"batch") + END

    _, file = raw_request(gateway, body)

    assert file["filename"] == "\N{REPLACEMENT CHARACTER}[31mpasswd"
    assert openai_client.files.content(file["id"]).read() == b"{}\n"


@pytest.mark.parametrize("file_id", ["file-0", "file-..", "%2e%2e", "file-019a00000000o1", "file-019a00000000i_"])
def test_an_id_that_names_no_file_is_not_found(openai_client: openai.OpenAI, file_id: str) -> None:
    with pytest.raises(openai.NotFoundError):
        openai_client.files.retrieve(file_id)


def test_a_sdk_gets_the_413_of_a_file_over_the_limit(openai_client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        openai_client.files.create(file=("big.jsonl", b"y" * 30_000_000), purpose="batch")

    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")


def test_an_upload_that_breaks_off_leaves_nothing(gateway: Gateway) -> None:
    before = folders(gateway)
    with socket.create_connection(("127.0.0.1", gateway.port), TIMEOUT_S) as connection:
        head = (
            f"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {gateway.key}\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}\r\nContent-Length: 200000\r\n\r\n"
        )
        connection.sendall(head.encode() + part(b"file", b"y" * 100_000, b"a"))
        wait_until("the gateway has begun to store it", lambda: folders(gateway) != before)

    wait_until("nothing is left", lambda: folders(gateway) == before)


def test_another_projects_file_does_not_exist(gateway: Gateway, openai_client: openai.OpenAI) -> None:
    of_app = gateway.client(gateway.create_key("app1"))
    of_same = gateway.client(gateway.create_key("app1", "--scope", "read"))
    of_other = gateway.client(gateway.create_key("app2"))
    file = of_app.files.create(file=("a.jsonl", CONTENT), purpose="batch")

    assert of_same.files.content(file.id).read() == CONTENT
    assert openai_client.files.retrieve(file.id) == file
    for call in (of_other.files.retrieve, of_other.files.content, of_other.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(file.id)
    assert file.id not in [each.id for each in of_other.files.list()]
    with pytest.raises(openai.PermissionDeniedError) as caught:
        of_same.files.delete(file.id)
    assert caught.value.code == "insufficient_scope"


def test_a_key_that_is_unknown_or_revoked_is_rejected(gateway: Gateway) -> None:
    for secret in ("mq-unknown", "sk-anything"):
        with pytest.raises(openai.AuthenticationError) as caught:
            gateway.client(secret).files.list()
        assert caught.value.code == "invalid_api_key"
    client = gateway.client(gateway.create_key("leaver"))
    client.files.list()
    assert gateway.cli("keys", "revoke", "leaver").code == 0

    def rejected() -> bool:
        try:
            client.files.list()
        except openai.AuthenticationError:
            return True
        return False

    wait_until("the key is rejected", rejected)


def test_files_of_several_clients_arrive_side_by_side(gateway: Gateway) -> None:
    key = gateway.create_key("crowd")
    names = [f"{n}.jsonl" for n in range(16)]

    def upload(name: str) -> None:
        with gateway.client(key) as client:
            client.files.create(file=(name, name.encode() * 1000), purpose="batch")

    threads = [threading.Thread(target=upload, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with gateway.client(key) as client:
        found = {file.filename: client.files.content(file.id).read() for file in client.files.list()}
    assert found == {name: name.encode() * 1000 for name in names}


def test_storage_that_takes_no_more_is_a_clear_error_and_leaves_nothing(
    gateway: Gateway, openai_client: openai.OpenAI
) -> None:
    before = folders(gateway)
    # The kernel refuses writes beyond this size, as it does on a full disk, in the middle of a file.
    limits = resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (150_000, limits[1]))
    try:
        with pytest.raises(openai.APIStatusError) as caught:
            openai_client.files.create(file=("a.jsonl", b"y" * 200_000), purpose="batch")
    finally:
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, limits)

    assert (caught.value.status_code, caught.value.code) == (507, "storage_full")
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert folders(gateway) == before
