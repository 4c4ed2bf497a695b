"""Stored files and uploads: they expire, and what a killed gateway leaves behind is removed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import orjson
import pytest
from mira_producer.gateway.files.file_entry import FileEntry
from mira_producer.gateway.files.file_store import ABANDONED_AFTER_S, FileStore
from mira_producer.gateway.files.upload_store import UploadStore
from mira_producer.gateway.http.errors import ApiError
from mira_producer.gateway.retries.identity import new_identity
from structlog.testing import capture_logs

from mira_queue.contract.api_key import ApiKey, Scope
from mira_queue.contract.file_id import FileId, FileKind, file_id_of, parse_file_id

KEY = ApiKey("key_1", "app1", Scope.SUBMIT, 1000)
DAY_S = 86_400


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path)


@pytest.fixture
def uploads(tmp_path: Path, files: FileStore) -> UploadStore:
    return UploadStore(tmp_path, files)


def stored(files: FileStore, content: bytes = b"{}\n") -> FileEntry:
    with files.begin() as part:
        part.write(content)
        return part.finish(file_id_of(new_identity()), "a.jsonl", "batch", "app1", DAY_S)


def make_old(record: Path) -> None:
    """Let a file or an upload expire a second ago."""
    found = orjson.loads(record.read_bytes())
    record.write_bytes(orjson.dumps({**found, "expires_at": int(time.time()) - 1}))


def test_an_expired_file_is_not_found_and_its_space_is_freed(tmp_path: Path, files: FileStore) -> None:
    old, young = stored(files), stored(files)
    make_old(tmp_path / "files" / old.id / "file.json")
    # As another gateway sees it.
    other = FileStore(tmp_path)

    assert other.get(old.id) is None
    assert [file.id for file in other.all()] == [young.id]
    assert other.sweep() == 1
    assert [path.name for path in (tmp_path / "files").iterdir()] == [young.id]


def test_a_file_that_another_gateway_deleted_is_not_found(tmp_path: Path, files: FileStore) -> None:
    file = stored(files)
    assert files.get(file.id) == file

    FileStore(tmp_path).delete(file.id)

    assert files.get(file.id) is None
    assert list(files.all()) == []


def test_what_a_killed_upload_left_is_removed_and_a_running_one_stays(tmp_path: Path, files: FileStore) -> None:
    with files.begin() as running:
        running.write(b"{}")
        killed = tmp_path / "files" / ".part-killed"
        killed.mkdir()
        (killed / "content").write_bytes(b"{}")
        past_s = time.time() - ABANDONED_AFTER_S - 1
        os.utime(killed / "content", (past_s, past_s))

        assert files.sweep() == 1

        assert not killed.exists()
        assert running.folder.exists()


def test_an_upload_takes_no_parts_after_its_hour_and_its_space_is_freed(tmp_path: Path, uploads: UploadStore) -> None:
    upload = uploads.create(new_identity(), 3, "a.jsonl", "app1", DAY_S)
    with uploads.begin_part(upload) as part:
        part.write(b"abc")
        part_id = uploads.add_part(new_identity(), upload, part)
    make_old(tmp_path / "uploads" / upload.id / "upload.json")

    late = uploads.get(upload.id, KEY)
    assert late.status == "expired"
    with pytest.raises(ApiError, match="expired"):
        uploads.complete(late, [part_id], None)
    assert uploads.sweep() == 1
    with pytest.raises(ApiError):
        uploads.get(upload.id, KEY)


def test_a_part_that_was_not_completed_is_no_part(tmp_path: Path, uploads: UploadStore) -> None:
    upload = uploads.create(new_identity(), 3, "a.jsonl", "app1", DAY_S)
    with uploads.begin_part(upload) as part:
        part.write(b"abc")

    assert [path.name for path in (tmp_path / "uploads" / upload.id).iterdir()] == ["upload.json"]


def test_ids_sort_by_time_and_nothing_else_is_an_id() -> None:
    older, younger = FileId(1_000, FileKind.UPLOAD, "ff"), FileId(1_001, FileKind.ERRORS, "00")

    assert str(older) < str(younger)
    assert parse_file_id(str(younger)) == younger
    for text in ("", "file-", "file-..", f"{older}/x", f"{older}\n", str(older).upper()):
        assert parse_file_id(text) is None


def test_a_file_an_upload_and_a_part_that_are_created_again_are_created_once(
    tmp_path: Path, files: FileStore, uploads: UploadStore
) -> None:
    file_id, identity, identity_of_part = file_id_of(new_identity()), new_identity(), new_identity()
    with files.begin() as first, files.begin() as second:
        for part, content in ((first, b"first"), (second, b"again")):
            part.write(content)
        entries = [part.finish(file_id, "a.jsonl", "batch", "app1", DAY_S) for part in (first, second)]
    assert entries[0] == entries[1] == files.get(str(file_id))
    assert entries[1].path.read_bytes() == b"first"

    created = [uploads.create(identity, 3, "a.jsonl", "app1", DAY_S) for _ in range(2)]
    for _ in range(2):
        with uploads.begin_part(created[0]) as part:
            part.write(b"abc")
            part_id = uploads.add_part(identity_of_part, created[0], part)
    assert created[0] == created[1]
    assert uploads.complete(created[0], [part_id], None)[1].bytes == 3
    assert len(list((tmp_path / "uploads").iterdir())) == 1


def change(record: Path, **fields: object) -> None:
    record.write_bytes(orjson.dumps({**orjson.loads(record.read_bytes()), **fields}))


def test_records_of_a_newer_version_are_read_and_an_upload_keeps_what_is_unknown(
    tmp_path: Path, files: FileStore, uploads: UploadStore
) -> None:
    file, upload = stored(files), uploads.create(new_identity(), 3, "a.jsonl", "app1", DAY_S)
    record = tmp_path / "uploads" / upload.id / "upload.json"
    change(tmp_path / "files" / file.id / "file.json", color="blue", path="/etc/passwd")
    change(record, color="blue")

    assert list(FileStore(tmp_path).all()) == [file]
    assert uploads.cancel(uploads.get(upload.id, KEY)).status == "cancelled"
    assert orjson.loads(record.read_bytes())["color"] == "blue"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"bytes":"many"}'])
def test_a_damaged_record_hides_no_other_and_is_not_deleted(
    tmp_path: Path, files: FileStore, uploads: UploadStore, content: bytes
) -> None:
    damaged, file = stored(files), stored(files)
    upload = uploads.create(new_identity(), 3, "a.jsonl", "app1", DAY_S)
    records = [tmp_path / "files" / damaged.id / "file.json", tmp_path / "uploads" / upload.id / "upload.json"]
    for record in records:
        record.write_bytes(content)
    other = FileStore(tmp_path)

    with capture_logs() as logged:
        assert list(other.all()) == list(other.all()) == [file]
        assert other.get(damaged.id) is None
        assert (other.sweep(), uploads.sweep()) == (0, 0)
        with pytest.raises(ApiError) as caught:
            uploads.get(upload.id, KEY)

    assert caught.value.status == 404
    assert sorted(each["path"] for each in logged) == sorted(map(str, records))
    assert all(record.exists() for record in records)
