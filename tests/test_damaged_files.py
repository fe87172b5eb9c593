"""Damaged, foreign and malicious files: a named error or a skipped entry, never a wrong value."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointCorruptError,
    CheckpointData,
    CheckpointDecodeError,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointRecord,
    CheckpointTooLargeError,
    FormatVersionError,
    NotACheckpointError,
    RecoveryReport,
    StorageError,
)
from tests.conftest import MakeWriter
from tests.durabilities import journal_by_default, writers_of_each_durability
from tests.on_disk import on_disk, path_of
from tests.trees import checkpoint_files, file_contents, session_directory, snapshot

Writer = AsyncCheckpointWriter[CheckpointData]
Damage = Callable[[Path], None]
RecordT = TypeVar("RecordT", bound=CheckpointRecord)


durability, make_writer = journal_by_default, writers_of_each_durability


def step(checkpoint_id: str, session_id: str = "s", **fields: Any) -> CheckpointData:
    return CheckpointData(session_id=session_id, checkpoint_id=checkpoint_id, **fields)


class Damaged(NamedTuple, Generic[RecordT]):
    """
    Session `s` with the checkpoints `old` and `new`, the file of the latter not yet damaged.

    Attributes:
        writer: has read both.
        old: the older record.
        path: the file of the newer.
    """

    writer: AsyncCheckpointWriter[RecordT]
    old: RecordT
    path: Path


@pytest.fixture(name="session")
async def _session(make_writer: MakeWriter) -> Damaged[CheckpointData]:
    writer = make_writer(max_backups=0)
    old = step("old", iteration=1)
    await writer.save(old)
    await writer.save(step("new", iteration=2, messages=[{"content": "hé", "n": [1, {}]}]))
    await on_disk(writer)
    (newest, _) = await writer.list("s")
    return Damaged(writer, old, path_of(newest))


# What is done to the file


def edited(edit: Callable[[bytes], bytes]) -> Damage:
    """Return the damage that replaces a file's bytes."""

    def damage(path: Path) -> None:
        content = edit(path.read_bytes())
        path.write_bytes(content)

    return damage


def replacing(old: bytes, new: bytes) -> Damage:
    """Return the damage that replaces some bytes, which must be there."""

    def edit(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new, 1)

    return edited(edit)


def instead(make: Callable[[Path], object]) -> Damage:
    """Return the damage that puts something else in the file's place."""

    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def sealed(document: dict[str, Any]) -> bytes:
    """Return a file with the right checksum, made without the library."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return with_checksum(text.encode())


def with_checksum(text: bytes) -> bytes:
    """Return a file with the right checksum for a canonical text, whatever that is."""
    digest = hashlib.sha256(text).hexdigest()
    return b'{"_checksum":"%s","_version":"1.0",%s' % (digest.encode(), text[1:])


def document(**changes: Any) -> dict[str, Any]:
    """Return what a checkpoint's file says, with some fields changed; `...` leaves one out."""
    fields = json.loads(msgspec.json.encode(step("new"))) | changes
    return {name: value for name, value in fields.items() if value is not ...}


def bind_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        directory = os.open(path.parent, os.O_RDONLY)
        try:  # the path itself may be too long for a socket's address
            listener.bind(f"/proc/self/fd/{directory}/{path.name}")
        finally:
            os.close(directory)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**30)


def nested(opening: bytes, closing: bytes, depth: int = 100_000) -> bytes:
    return b'{"_checksum":"x","a":' + opening * depth + closing * depth + b"}"


def copy_of_old(path: Path) -> None:
    older = min(path.parent.glob("cp_*.json"))
    assert older != path
    shutil.copyfile(older, path)


def copy_of_another_session(path: Path) -> None:
    path.write_bytes(sealed(document(session_id="other")))


CORRUPT: dict[str, Damage] = {
    "empty": edited(lambda _: b""),
    "half": edited(lambda content: content[: len(content) // 2]),
    "zeros": edited(lambda content: bytes(len(content))),
    "zero-tail": edited(lambda content: content[:-64] + bytes(64)),
    "garbage": edited(lambda _: bytes(range(256)) * 4),
    "list": edited(lambda _: b"[]"),
    "null": edited(lambda _: b"null"),
    "no-keys": edited(lambda _: b"{}"),
    "twice": edited(lambda content: content * 2),
    "trailing-text": edited(lambda content: content + b" x"),
    "leading-zero-byte": edited(lambda content: b"\0" + content),
    "byte-order-mark": edited(lambda content: b"\xef\xbb\xbf" + content),
    "utf-16": edited(lambda content: content.decode().encode("utf-16")),
    "invalid-utf-8": replacing("é".encode(), b"\xc3\x28"),
    "overlong-utf-8": replacing("é".encode(), b"\xc1\xa9"),
    "lone-surrogate": replacing("é".encode(), b"\\ud800"),
    "raw-control-character": replacing("é".encode(), b"\n"),
    "comment": replacing(b"{", b"{ /* x */"),
    "trailing-comma": edited(lambda content: content[:-2] + b",\n}"),
    "nan": replacing(b'"iteration": 2', b'"iteration": NaN'),
    "huge-number": replacing(b'"iteration": 2', b'"iteration": 1e999'),
    "leading-zero": replacing(b'"iteration": 2', b'"iteration": 02'),
    "other-value": replacing(b'"iteration": 2', b'"iteration": 3'),
    "float-for-integer": replacing(b'"iteration": 2', b'"iteration": 2.0'),
    "other-key": replacing(b'"iteration"', b'"iteratioN"'),
    "field-removed": replacing(b'  "iteration": 2,\n', b""),
    "field-added": replacing(b'  "iteration": 2,\n', b'  "iteration": 2,\n  "extra": 1,\n'),
    "second-key-wins": replacing(b'  "iteration": 2,', b'  "iteration": 2,\n  "iteration": 3,'),
    "second-id": replacing(b'  "iteration": 2,', b'  "checkpoint_id": "old",\n  "iteration": 2,'),
    "no-checksum": replacing(b"_checksum", b"_checksam"),
    "upper-case-checksum": edited(
        lambda content: content[:18] + content[18:82].upper() + content[82:]
    ),
    "numeric-checksum": edited(lambda content: content[:17] + b"1" + content[83:]),
    "no-version": replacing(b'  "_version": "1.0",\n', b""),
    "numeric-version": replacing(b'"1.0"', b"1.0"),
    "deep-lists": edited(lambda _: nested(b"[", b"]")),
    "deep-objects": edited(lambda _: nested(b'{"a":', b"}").replace(b"{}", b"{1}")),
    "deep-and-open": edited(lambda _: nested(b"[", b"")),
    "deep-in-a-string": edited(lambda _: b'{"' + b"[" * 100_000 + b'":1}'),
    "one-level-too-deep": edited(
        lambda _: with_checksum(b'{"a":' + b"[" * 127 + b"]" * 127 + b"}")
    ),
    "fifo": instead(os.mkfifo),
    "directory": instead(os.mkdir),
    "socket": instead(bind_socket),
    "symlink-out-of-the-root": instead(lambda path: path.symlink_to("/etc/passwd")),
    "symlink-to-older": instead(lambda path: path.symlink_to(min(path.parent.glob("cp_*.json")))),
    "symlink-to-itself": instead(lambda path: path.symlink_to(path.name)),
    "symlink-to-nothing": instead(lambda path: path.symlink_to("nothing")),
    "device": instead(lambda path: path.symlink_to("/dev/zero")),
}

REGULAR = {
    **{name: CORRUPT[name] for name in ("empty", "half", "zeros", "garbage", "no-keys")},
    **{name: CORRUPT[name] for name in ("other-value", "second-id", "no-checksum", "deep-lists")},
    "sparse": sparse,
    "other-version": replacing(b'"1.0"', b'"2.0"'),
}

WRONG_FIELDS: dict[str, dict[str, Any]] = {
    "no-session-id": {"session_id": ...},
    "no-checkpoint-id": {"checkpoint_id": ...},
    "numeric-id": {"checkpoint_id": 5},
    "null-session-id": {"session_id": None},
    "no-time": {"created_at": ...},
}

OTHER_TYPES: dict[str, dict[str, Any]] = {
    "naive-time": {"created_at": "2026-01-01T00:00:00"},
    "no-such-day": {"created_at": "2026-02-30T00:00:00Z"},
    "text-iteration": {"iteration": "2"},
    "iteration-over-32-bits": {"iteration": 2**31},
    "messages-not-a-list": {"messages": {}},
    "messages-null": {"messages": None},
    "cost-as-text": {"cost_estimate": "free"},
    "no-trigger": {"trigger": ...},
    "no-messages": {"messages": ...},
    "no-resume-hint": {"resume_hint": ...},
}


class TestEachDamage:
    """With the default durability."""

    @pytest.fixture(name="durability")
    def _durability(self) -> dict[str, Any]:
        return {}

    @pytest.mark.parametrize("damage", CORRUPT.values(), ids=CORRUPT.keys())
    @pytest.mark.some(16)
    @pytest.mark.few(8)
    async def test_is_told_skipped_and_quarantined(
        self, session: Damaged[CheckpointData], make_writer: MakeWriter, root: Path, damage: Damage
    ) -> None:
        """Load raises and names the newest intact one, check tells, recover moves it aside."""
        writer, old, path = session
        await asyncio.to_thread(damage, path)
        reader = make_writer()

        for some in (writer, reader):
            with pytest.raises(CheckpointCorruptError) as refused:
                await some.load("s")
            assert refused.value.path == str(path)
            assert refused.value.newest_valid_id == "old"
            with pytest.raises((CheckpointCorruptError, NotACheckpointError)) as refused_id:
                await some.load("s", "new")
            assert str(path) in str(refused_id.value)
            assert await some.load("s", "old") == old
            assert [meta.checkpoint_id for meta in await some.list("s")] == ["new", "old"]
            assert await says_not_intact(some, path)
        (finding,) = await writer.check()
        assert (finding.path, finding.session_id) == (path, "s")
        assert finding.kind in ("damaged", "unreadable")
        before = await asyncio.to_thread(file_contents, root / "s")

        report = await writer.recover("s")

        assert report.newest_valid_id == "old"
        (aside,) = report.quarantined
        assert Path(aside).parent == root / ".aiocheckpoint" / "quarantine" / "s"
        assert set(before) <= set(await asyncio.to_thread(file_contents, root))
        for some in (writer, reader, make_writer()):
            assert await some.load("s") == old
            assert await some.load("s", "new") is None
            assert [meta.checkpoint_id for meta in await some.list("s")] == ["old"]
        await writer.save(step("new"))

    @pytest.mark.parametrize("fields", WRONG_FIELDS.values(), ids=WRONG_FIELDS.keys())
    async def test_intact_file_of_no_record_is_an_error(
        self, session: Damaged[CheckpointData], fields: dict[str, Any]
    ) -> None:
        """A file whose checksum is right and that names no checkpoint is damage."""
        writer, old, path = session
        content = await asyncio.to_thread(sealed, document(**fields))
        await asyncio.to_thread(path.write_bytes, content)

        with pytest.raises(CheckpointCorruptError) as refused:
            await writer.load("s")
        assert refused.value.path == str(path)
        await writer.list("s")
        await writer.check()
        assert await writer.verify(path) is False

        assert (await writer.recover("s")).newest_valid_id == "old"
        assert await writer.load("s") == old

    @pytest.mark.parametrize("fields", OTHER_TYPES.values(), ids=OTHER_TYPES.keys())
    async def test_record_of_another_type_is_no_damage(
        self, session: Damaged[CheckpointData], fields: dict[str, Any]
    ) -> None:
        """An intact file that the type cannot read is an error of its own, and stays."""
        writer, old, path = session
        content = await asyncio.to_thread(sealed, document(**fields))
        await asyncio.to_thread(path.write_bytes, content)

        for call in (writer.load("s"), writer.load("s", "new"), writer.load_many("s", ["new"])):
            with pytest.raises(CheckpointDecodeError, match=next(iter(fields))) as refused:
                await call
            assert not isinstance(refused.value, CheckpointCorruptError)
            assert (refused.value.path, refused.value.record_type) == (str(path), "CheckpointData")
            assert "mend the type" in str(refused.value)
            assert "recover" not in str(refused.value)
        assert await writer.verify(path) is True
        assert [f for f in await writer.check() if f.kind != "leftover"] == []
        assert await writer.recover("s") == RecoveryReport(
            session_id="s", newest_valid_id="new", quarantined=()
        )
        assert await asyncio.to_thread(path.read_bytes) == content
        assert await writer.delete("s", "new") is True
        assert await writer.load("s") == old


class TestDamagedNewest:
    @pytest.mark.damages_store
    async def test_file_without_a_time_is_an_error(self, session: Damaged[CheckpointData]) -> None:
        """A file that does not say when it was made is not given a time anew at each load."""
        content = await asyncio.to_thread(sealed, document(created_at=...))
        await asyncio.to_thread(session.path.write_bytes, content)

        with pytest.raises(CheckpointCorruptError):
            await session.writer.load("s")

    async def test_unknown_fields_are_no_damage(self, session: Damaged[CheckpointData]) -> None:
        """A file with keys of a later version, and the right checksum, loads."""
        content = await asyncio.to_thread(sealed, document(added_later=[1], iteration=7))
        await asyncio.to_thread(session.path.write_bytes, content)

        loaded = await session.writer.load("s")
        assert loaded is not None
        assert loaded.iteration == 7
        assert await session.writer.verify(session.path) is True

    async def test_other_layout_of_the_same_content_is_no_damage(
        self, session: Damaged[CheckpointData]
    ) -> None:
        """What another program has indented, ordered or escaped otherwise still loads."""
        before = await session.writer.load("s")
        content = json.loads(await asyncio.to_thread(session.path.read_bytes))
        for text in (
            json.dumps(content),
            json.dumps(dict(reversed(content.items())), indent="\t", ensure_ascii=True),
            json.dumps(content, separators=(",", ":")) + "\n\n",
            "\r\n " + json.dumps(content, indent=1).replace("\n", "\r\n"),
        ):
            await asyncio.to_thread(session.path.write_bytes, text.encode())
            assert await session.writer.load("s") == before
            assert await session.writer.verify(session.path) is True
            assert len(await session.writer.list("s")) == 2

    async def test_same_key_twice_with_the_same_value(
        self, session: Damaged[CheckpointData]
    ) -> None:
        """A duplicate key that changes nothing gives the right value or an error."""
        before = await session.writer.load("s")
        repeat = replacing(b'  "iteration": 2,', b'  "iteration": 3,\n  "iteration": 2,')
        await asyncio.to_thread(repeat, session.path)

        try:
            assert await session.writer.load("s") == before
        except CheckpointCorruptError:
            assert await session.writer.verify(session.path) is False

    @pytest.mark.damages_store
    @pytest.mark.parametrize("version", ["1.1", "2.0", "", "0.9", "1.0 "])
    async def test_other_format_version_has_its_own_error(
        self, session: Damaged[CheckpointData], version: str
    ) -> None:
        """A file of another format version is refused as such, is no damage, and stays."""
        before = await asyncio.to_thread(session.path.read_bytes)
        content = before.replace(b'"_version": "1.0"', b'"_version": "%s"' % version.encode())
        await asyncio.to_thread(session.path.write_bytes, content)

        for call in (session.writer.load("s"), session.writer.recover("s")):
            with pytest.raises(FormatVersionError) as refused:
                await call
            assert not isinstance(refused.value, CheckpointCorruptError)
            assert (refused.value.found, refused.value.supported) == (version, "1.0")
            assert refused.value.path == str(session.path)
        assert await session.writer.verify(session.path) is True
        (newest, old) = await session.writer.list("s")
        assert (newest.checkpoint_id, old.checkpoint_id) == ("new", "old")
        assert str(refused.value) == newest.problem
        assert old.problem is None
        (finding,) = await session.writer.check()
        assert (finding.kind, finding.path) == ("other-version", session.path)
        assert "the version that wrote it" in finding.detail
        assert await asyncio.to_thread(session.path.read_bytes) == content

    @pytest.mark.damages_store
    async def test_other_version_beside_damage_stays(
        self, session: Damaged[CheckpointData]
    ) -> None:
        """Recover moves what is damaged, and no file of which this version cannot tell."""
        (old, _) = await asyncio.to_thread(checkpoint_files, session.path.parents[2], "s")
        await asyncio.to_thread(replacing(b'"1.0"', b'"2.0"'), old)
        await asyncio.to_thread(replacing(b'"iteration": 1', b'"iteration": 9'), old)
        await session.writer.save(step("newer"))
        await on_disk(session.writer)
        await asyncio.to_thread(session.path.write_bytes, b"{}")

        report = await session.writer.recover("s")

        assert (report.newest_valid_id, len(report.quarantined)) == ("newer", 1)
        assert await asyncio.to_thread(old.exists)
        assert [(f.kind, f.path) for f in await session.writer.check()] == [("unreadable", old)]
        with pytest.raises(FormatVersionError):  # its checksum may be right for that version
            await session.writer.verify(old)
        await session.writer.save(step("old", iteration=3))
        assert await session.writer.load("s", "old") == await session.writer.load("s")

    async def test_older_damaged_does_not_hinder_the_newest(
        self, session: Damaged[CheckpointData]
    ) -> None:
        """Damage to an older checkpoint leaves load-newest and save as they are."""
        (older, _) = await asyncio.to_thread(checkpoint_files, session.path.parents[2], "s")
        await asyncio.to_thread(older.write_bytes, b"")

        newest = await session.writer.load("s")
        assert newest is not None
        assert newest.checkpoint_id == "new"
        await session.writer.save(step("newer"))
        with pytest.raises(CheckpointCorruptError) as refused:
            await session.writer.load("s", "old")
        assert refused.value.path == str(older)
        metas = await session.writer.list("s")
        assert [meta.checkpoint_id for meta in metas] == ["newer", "new", "old"]
        assert [meta.problem is None for meta in metas] == [True, True, False]
        report = await session.writer.recover("s")
        assert (report.newest_valid_id, len(report.quarantined)) == ("newer", 1)

    async def test_all_damaged(self, session: Damaged[CheckpointData]) -> None:
        """Where nothing is intact the error and the report say None, and a save begins anew."""
        for path in await asyncio.to_thread(checkpoint_files, session.path.parents[2], "s"):
            await asyncio.to_thread(path.write_bytes, b"{}")

        with pytest.raises(CheckpointCorruptError) as refused:
            await session.writer.load("s")
        assert refused.value.newest_valid_id is None
        report = await session.writer.recover("s")
        assert (report.newest_valid_id, len(report.quarantined)) == (None, 2)
        assert await session.writer.load("s") is None
        assert await session.writer.list("s") == ()
        await session.writer.save(step("again"))
        assert await session.writer.load("s") is not None

    async def test_save_over_a_damaged_one(
        self, session: Damaged[CheckpointData], make_writer: MakeWriter
    ) -> None:
        """Where nobody knows what a damaged file was, it stays for `recover` beside a new save."""
        await asyncio.to_thread(session.path.write_bytes, b"{}")
        again = step("new", iteration=9)

        await make_writer(max_backups=0).save(again)

        assert await make_writer().load("s") == await make_writer().load("s", "new") == again
        await on_disk(session.writer)
        assert [finding.path for finding in await session.writer.check()] == [session.path]
        report = await session.writer.recover("s")
        assert (report.newest_valid_id, len(report.quarantined)) == ("new", 1)
        assert await session.writer.delete("s", "new") is True

    @pytest.mark.parametrize("replaces", [False, True])
    async def test_who_saved_a_damaged_one_can_remove_it(
        self, session: Damaged[CheckpointData], replaces: bool
    ) -> None:
        """A name stands for one checkpoint for ever, so who saved it may delete or replace it."""
        await asyncio.to_thread(session.path.write_bytes, b"{}")

        if replaces:
            await session.writer.save(step("new", iteration=9))
        else:
            assert await session.writer.delete("s", "new") is True

        await on_disk(session.writer)
        assert not await asyncio.to_thread(session.path.exists)
        assert await session.writer.check() == ()
        expected = ["new", "old"] if replaces else ["old"]
        assert [meta.checkpoint_id for meta in await session.writer.list("s")] == expected

    @pytest.mark.parametrize("damage", REGULAR.values(), ids=REGULAR.keys())
    @pytest.mark.some(8)
    async def test_a_damaged_one_goes_by_the_id_that_is_listed(
        self, session: Damaged[CheckpointData], make_writer: MakeWriter, damage: Damage
    ) -> None:
        """Whoever has not saved it knows it by its name: that is what `list` says, and deletes."""
        await asyncio.to_thread(damage, session.path)
        writer = make_writer()
        assert [meta.checkpoint_id for meta in await writer.list("s")] == ["new", "old"]

        assert await writer.delete("s", "new") is True

        assert await writer.delete("s", "new") is False
        assert await writer.load("s") == session.old
        await on_disk(writer)
        assert not await asyncio.to_thread(session.path.exists)
        assert await make_writer().check() == ()
        pointer = await asyncio.to_thread(os.readlink, session.path.with_name("latest.json"))
        assert pointer.endswith("_old.json")

    @pytest.mark.parametrize(
        "checkpoint_id", ["a b/c", "x" * 500, ".", "123456_x", "latest.json"], ids=range(5)
    )
    async def test_whatever_its_id(self, make_writer: MakeWriter, checkpoint_id: str) -> None:
        """An id that is encoded in the name, or hashed, is deleted as well, and no other."""
        writer = make_writer()
        for name in (checkpoint_id, "other"):
            await writer.save(step(name))
        await on_disk(writer)
        (_, meta) = await writer.list("s")
        await asyncio.to_thread(path_of(meta).write_bytes, b"{}")
        reader = make_writer()

        assert await reader.delete("s", "x") is False
        assert await reader.delete_many("s", [checkpoint_id, "y"]) == 1

        assert await reader.ids("s") == ("other",)
        assert await reader.check() == ()

    async def test_a_hashed_id_goes_by_what_is_listed(self, make_writer: MakeWriter) -> None:
        """Where the id itself is lost, `list` tells the name, and that is enough to delete."""
        writer = make_writer()
        await writer.save(step("x" * 500))
        await on_disk(writer)
        (meta,) = await writer.list("s")
        await asyncio.to_thread(path_of(meta).write_bytes, b"{}")
        reader = make_writer()
        (listed,) = await reader.list("s")
        assert listed.checkpoint_id.startswith("~sha256-")

        assert await reader.delete("s", listed.checkpoint_id) is True

        assert await reader.list("s") == ()

    @pytest.mark.damages_store
    async def test_what_may_be_of_another_id_is_not_deleted(
        self, session: Damaged[CheckpointData], make_writer: MakeWriter
    ) -> None:
        """An intact one that stands in the wrong place stays, and so does a doubtful name."""
        await asyncio.to_thread(copy_of_old, session.path)
        with pytest.raises(CheckpointMismatchError):
            await make_writer().delete("s", "new")
        await asyncio.to_thread(CORRUPT["directory"], session.path)
        with pytest.raises(CheckpointCorruptError, match="recover"):
            await make_writer().delete("s", "new")
        await asyncio.to_thread(session.path.rmdir)
        doubtful = session.path.with_name("cp_20200101_101010_123456_x.json")
        await asyncio.to_thread(doubtful.write_bytes, b"{}")

        with pytest.raises(CheckpointCorruptError):
            await make_writer().delete("s", "123456_x")  # a name of the Rust crate's

        assert await asyncio.to_thread(doubtful.read_bytes) == b"{}"
        assert await make_writer().delete("s", "x") is True

    async def test_others_go_beside_a_damaged_one(
        self, session: Damaged[CheckpointData], make_writer: MakeWriter
    ) -> None:
        """Neither an intact one, nor the whole session, is held up by damage."""
        await asyncio.to_thread(session.path.write_bytes, b"{}")
        assert await session.writer.delete("s", "old") is True
        assert await session.writer.delete_session("s") is True
        await on_disk(session.writer)
        assert not await asyncio.to_thread(session.path.exists)


async def says_not_intact(writer: AsyncCheckpointWriter[Any], path: Path) -> bool:
    """Tell whether verify says that a file is no intact checkpoint, by False or by its error."""
    try:
        return not await writer.verify(path)
    except NotACheckpointError as refused:
        return refused.path == str(path)


class TestEveryByte:
    """Of the smallest record there is; which journal it came by makes no difference."""

    @pytest.fixture(name="durability")
    def _durability(self) -> dict[str, Any]:
        return {}

    @pytest.fixture(name="small")
    async def _small(self, make_writer: MakeWriter) -> Damaged[CheckpointRecord]:
        writer = make_writer(record_type=CheckpointRecord, max_backups=0)
        for name in ("old", "new"):
            await writer.save(CheckpointRecord(session_id="s", checkpoint_id=name))
        await on_disk(writer)
        old = await writer.load("s", "old")
        assert old is not None
        (newest, _) = await writer.list("s")
        return Damaged(writer, old, path_of(newest))

    async def each_is_refused(
        self, small: Damaged[CheckpointRecord], contents: list[bytes]
    ) -> None:
        """Put each content in the place of the newest, then all beside it, and ask about them."""
        writer, old, path = small
        for content in contents:
            await asyncio.to_thread(path.write_bytes, content)
            with pytest.raises(CheckpointCorruptError) as refused:
                await writer.load("s")
            assert (refused.value.path, refused.value.newest_valid_id) == (str(path), "old")
            assert await writer.verify(path) is False
        await asyncio.to_thread(put_all, path.parent, contents)
        assert await writer.load("s", "old") == old
        assert [meta.checkpoint_id for meta in await writer.list("s")].count("old") == 1
        kinds = [finding.kind for finding in await writer.check()]
        assert kinds == ["damaged"] * (len(contents) + 1)
        report = await writer.recover("s")
        assert (report.newest_valid_id, len(report.quarantined)) == ("old", len(contents) + 1)
        assert await writer.load("s") == old

    @pytest.mark.parametrize(
        "every", [7, pytest.param(1, marks=pytest.mark.campaign)], ids=["some", "all"]
    )
    async def test_every_flipped_bit(self, small: Damaged[CheckpointRecord], every: int) -> None:
        """A file in which any one bit is wrong is refused by load, verify, check and recover."""
        content = await asyncio.to_thread(small.path.read_bytes)
        assert len(content) < 300

        version = b'"_version": "1.0"'  # another is not damage
        flipped = [flip for flip in flips(content) if version in flip or b'sion": "' not in flip]
        await self.each_is_refused(small, flipped[::every])  # of each byte another one

    async def test_every_truncation(self, small: Damaged[CheckpointRecord]) -> None:
        """A file that ends early, anywhere, is refused by load, verify, check and recover."""
        content = await asyncio.to_thread(small.path.read_bytes)

        await self.each_is_refused(small, [content[:n] for n in range(len(content))])

    async def test_every_tail_of_zeros(self, small: Damaged[CheckpointRecord]) -> None:
        """A file that is zeros from anywhere on is refused by load, verify, check and recover."""
        content = await asyncio.to_thread(small.path.read_bytes)
        lengths = range(0, len(content), 7)

        await self.each_is_refused(small, [content[:n].ljust(len(content), b"\0") for n in lengths])


def put_all(directory: Path, contents: list[bytes]) -> None:
    """Put each content into a checkpoint file of its own, older than all others."""
    for number, content in enumerate(contents):
        (directory / f"cp_20250101_000000_{number:06}_new.json").write_bytes(content)


def flips(content: bytes) -> Iterator[bytes]:
    """Yield the content with each bit flipped in turn."""
    for position in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[position] ^= 1 << bit
            yield bytes(flipped)


class TestTooLarge:
    @pytest.mark.damages_store
    async def test_sparse_gigabyte(self, session: Damaged[CheckpointData]) -> None:
        """A file of a gigabyte is refused by its size before a byte is read."""
        await asyncio.to_thread(sparse, session.path)

        calls: list[Callable[[], Any]] = [
            lambda: session.writer.load("s"),
            lambda: session.writer.load("s", "new"),
            lambda: session.writer.verify(session.path),
            lambda: session.writer.recover("s"),
        ]
        for call in calls:
            with pytest.raises(CheckpointTooLargeError) as refused:
                await call()
            assert refused.value.size_bytes == 2**30
        (newest, _) = await session.writer.list("s")
        assert newest.checkpoint_id == "new"
        assert str(2**30) in str(newest.problem)
        assert [finding.kind for finding in await session.writer.check()] == ["unreadable"]
        await session.writer.save(step("newer"))


class TestMisplacedFiles:
    async def test_of_another_session(
        self, session: Damaged[CheckpointData], make_writer: MakeWriter
    ) -> None:
        """A file of another session is refused as misplaced, and recover moves it aside."""
        await asyncio.to_thread(copy_of_another_session, session.path)

        for some in (session.writer, make_writer()):
            with pytest.raises(CheckpointMismatchError) as refused:
                await some.load("s")
            assert refused.value.found == ("other", "new")
            assert refused.value.newest_valid_id == "old"
            with pytest.raises(CheckpointMismatchError):
                await some.load("s", "new")
            (newest, _) = await some.list("s")
            assert (newest.session_id, newest.checkpoint_id) == ("s", "new")
            assert "'other'" in str(newest.problem)
            assert await some.verify(session.path) is True
        assert [f.kind for f in await session.writer.check()] == ["misplaced"]
        assert (await session.writer.recover("s")).newest_valid_id == "old"
        assert await session.writer.load("s") == session.old

    async def test_swapped_between_sessions(
        self, session: Damaged[CheckpointData], make_writer: MakeWriter, root: Path
    ) -> None:
        """Two files that changed places are refused in both sessions, and recovered in both."""
        await session.writer.save(step("new", session_id="t"))
        await on_disk(session.writer)
        (other,) = await asyncio.to_thread(checkpoint_files, root, "t")

        def swap() -> None:
            mine, theirs = session.path.read_bytes(), other.read_bytes()
            session.path.write_bytes(theirs)
            other.write_bytes(mine)

        await asyncio.to_thread(swap)

        for name in ("s", "t"):
            with pytest.raises(CheckpointMismatchError):
                await session.writer.load(name)
        assert [f.kind for f in await session.writer.check()] == ["misplaced"] * 2
        assert (await session.writer.recover("s")).newest_valid_id == "old"
        assert (await session.writer.recover("t")).newest_valid_id is None

    async def test_whole_session_under_another_name(
        self, session: Damaged[CheckpointData], root: Path, make_writer: MakeWriter
    ) -> None:
        """A session's directory that was renamed is refused under the new name."""
        await asyncio.to_thread((root / "s").rename, root / "t")
        writer = make_writer()

        with pytest.raises(CheckpointMismatchError) as refused:
            await writer.load("t")
        assert refused.value.newest_valid_id is None
        assert [meta.problem is None for meta in await writer.list("t")] == [False, False]
        assert await writer.load("s") is None
        assert {finding.kind for finding in await writer.check()} == {"misplaced"}
        await asyncio.to_thread((root / "t").rename, root / "s")

    @pytest.mark.damages_store
    async def test_older_content_under_the_newest_name(
        self, session: Damaged[CheckpointData], make_writer: MakeWriter
    ) -> None:
        """An older checkpoint that was copied over the newest is never taken for it."""
        await asyncio.to_thread(copy_of_old, session.path)

        for some in (session.writer, make_writer()):
            with pytest.raises(CheckpointMismatchError) as refused:
                await some.load("s")
            assert refused.value.path == str(session.path)
            assert refused.value.newest_valid_id == "old"
            with pytest.raises(CheckpointMismatchError):
                await some.load("s", "new")

    async def test_older_content_under_the_newest_name_is_recovered(
        self, session: Damaged[CheckpointData], make_writer: MakeWriter
    ) -> None:
        """Check finds it, recover moves it aside, the older one's own file stays."""
        await asyncio.to_thread(copy_of_old, session.path)

        assert [f.kind for f in await session.writer.check()] == ["misplaced"]
        report = await session.writer.recover("s")
        assert (report.newest_valid_id, len(report.quarantined)) == ("old", 1)
        assert await session.writer.load("s") == session.old

    @pytest.mark.damages_store
    async def test_two_files_exchanged(self, session: Damaged[CheckpointData], root: Path) -> None:
        """Two checkpoints of a session that changed names are not loaded in the wrong order."""

        def exchange() -> None:
            (older, newer) = checkpoint_files(root, "s")
            first, second = older.read_bytes(), newer.read_bytes()
            older.write_bytes(second)
            newer.write_bytes(first)

        await asyncio.to_thread(exchange)

        with pytest.raises(CheckpointMismatchError):
            await session.writer.load("s")

    @pytest.mark.damages_store
    async def test_renamed_to_another_id(self, session: Damaged[CheckpointData]) -> None:
        """A file renamed to another id is loaded neither as that one nor as the newest."""
        renamed = session.path.with_name(session.path.name.replace("_new", "_other"))
        await asyncio.to_thread(session.path.rename, renamed)

        for checkpoint_id in (None, "other"):
            with pytest.raises(CheckpointMismatchError):
                await session.writer.load("s", checkpoint_id)
        await asyncio.to_thread(renamed.rename, session.path)


GARBAGE_NAMES = [
    b"cp_.json",
    b"cp__.json",
    b"cp_20250101_000000_.json",
    b"cp_20251301_000000_x.json",
    b"cp_20250100_000000_x.json",
    b"cp_20250101_240000_x.json",
    b"cp_2025-01-01_x.json",
    b"cp_00000101_000000_x.json",
    b"CP_20250101_000000_x.json",
    b"cp_20250101_000000_x.JSON",
    b"cp_20250101_000000_x.json~",
    b"cp_20250101_000000_x.json.bak",
    b"cp_20250101_000000_x.json.backup.backup",
    b"xcp_20250101_000000_x.json",
    "cp_２０２５0101_000000_x.json".encode(),  # noqa: RUF001 - full-width digits
    b"latest.json.tmp",
    b"...",
    b"-rf",
    b"\xff\xfe",
    b"cp_20250101_000000_\xff\xfe.json",
    b"a\nb",
    b" ",
    b"x" * 255,
]
"""Names that are no checkpoints', whatever is in the files."""

OLD_NAMES = [
    b"cp_20250230_000000_x.json",
    b"cp_20250101_000000_a\nb.json",
    b"cp_20250101_000000_000001_" + b"x" * 200 + b".json",
    b"cp_20250101_000000_000001_~%zz.json",
    b"cp_10000101_000000_x.json",
]
"""Names that checkpoints may have, older than all others here."""


def put(directory: Path, names: list[bytes], content: bytes = b"not ours") -> None:
    for name in names:
        with open(os.path.join(os.fsencode(directory), name), "xb") as file:
            file.write(content)


class TestGarbageNames:
    async def test_are_left_out_and_left_alone(
        self, session: Damaged[CheckpointData], make_writer: MakeWriter, root: Path
    ) -> None:
        """Files that are not named as checkpoints are seen by nothing and touched by nothing."""
        directory = session_directory(root, "s")
        await asyncio.to_thread(put, directory, GARBAGE_NAMES)

        for some in (session.writer, make_writer()):
            newest = await some.load("s")
            assert newest is not None
            assert newest.checkpoint_id == "new"
            assert len(await some.list("s")) == 2
            assert await some.check() == ()
            assert (await some.recover("s")).quarantined == ()
        await session.writer.save(step("newer"))
        await session.writer.delete_session("s")
        await on_disk(session.writer)
        left = await asyncio.to_thread(os.listdir, os.fsencode(directory))
        assert sorted(left) == sorted(GARBAGE_NAMES)

    async def test_possible_names_are_told_and_quarantined(
        self, session: Damaged[CheckpointData], make_writer: MakeWriter, root: Path
    ) -> None:
        """Damaged files named as odd as can be are reported, moved aside, and harm nothing else."""
        await asyncio.to_thread(put, session_directory(root, "s"), OLD_NAMES)

        for some in (session.writer, make_writer()):
            newest = await some.load("s")
            assert newest is not None
            assert newest.checkpoint_id == "new"
            ids = [meta.checkpoint_id for meta in await some.list("s")]
            assert ids[:2] == ["new", "old"]
            assert len(ids) == 2 + len(OLD_NAMES) - 1  # two are of one id
        kinds = [finding.kind for finding in await session.writer.check()]
        assert kinds == ["damaged"] * len(OLD_NAMES)
        report = await session.writer.recover("s")
        assert (report.newest_valid_id, len(report.quarantined)) == ("new", len(OLD_NAMES))

    @pytest.mark.damages_store
    async def test_longest_name_is_quarantined(
        self, session: Damaged[CheckpointData], root: Path
    ) -> None:
        """A damaged file whose name is as long as names can be is moved aside as well."""
        name = b"cp_20250101_000000_" + b"x" * 231 + b".json"
        assert len(name) == 255
        await asyncio.to_thread(put, session_directory(root, "s"), [name])

        assert len((await session.writer.recover("s")).quarantined) == 1

    async def test_longest_name_can_be_superseded(
        self, session: Damaged[CheckpointData], root: Path
    ) -> None:
        """A save works where the newest file's name leaves no room for that of a backup."""
        name = "x" * 225
        path = session.path.with_name(f"cp_29990101_000000_{name}.json")
        content = await asyncio.to_thread(sealed, document(checkpoint_id=name))
        await asyncio.to_thread(path.write_bytes, content)
        async with AsyncCheckpointWriter(root) as writer:
            newest = await writer.load("s")
            assert newest is not None
            assert newest.checkpoint_id == name

            await writer.save(step("newer"))

            newest = await writer.load("s")
            assert newest is not None
            assert newest.checkpoint_id == "newer"

    @pytest.mark.damages_store
    async def test_last_second_of_the_calendar(self, session: Damaged[CheckpointData]) -> None:
        """A file from the end of the year 9999 leaves no time for a save: a named error."""
        path = session.path.with_name("cp_99991231_235959_999998_new.json")
        await asyncio.to_thread(session.path.rename, path)
        assert await session.writer.load("s") is not None

        with pytest.raises(CheckpointError) as refused:
            await session.writer.save(step("newer"))

        assert path.name in str(refused.value)

    async def test_directories_with_odd_names(
        self, session: Damaged[CheckpointData], make_writer: MakeWriter, root: Path
    ) -> None:
        """Directories in the root that no session can have are left out of sessions and check."""

        def prepare() -> None:
            for name in (b"\xff\xfe", b"~%zz", b"~%41", b"~", b"~sha256-0", b"a\nb", b"con"):
                directory = os.path.join(os.fsencode(root), name, b"checkpoints")
                os.makedirs(directory)
                put(Path(os.fsdecode(directory)), [b"cp_20250101_000000_x.json"])

        await asyncio.to_thread(prepare)

        found = [session_id async for session_id in make_writer().sessions()]
        assert set(found) - {"s", ""} == set()
        assert "s" in found
        findings = await session.writer.check()
        assert [(found.kind, found.session_id) for found in findings] == [("damaged", "")]
        await asyncio.to_thread(remove_all_but, root, {"s", ".aiocheckpoint"})


def remove_all_but(root: Path, names: set[str]) -> None:
    for path in root.iterdir():
        if path.name not in names:
            shutil.rmtree(path)


async def all_sessions(
    writer: AsyncCheckpointWriter[Any],
) -> tuple[list[str], CheckpointError | None]:
    """Return the sessions that are named, and what is raised after the last."""
    found: list[str] = []
    try:
        async for session_id in writer.sessions():
            found += [session_id]
    except CheckpointError as error:
        return found, error
    return found, None


class TestSymlinkedDirectories:
    @pytest.mark.damages_store
    @pytest.mark.parametrize("place", ["session", "checkpoints"])
    async def test_nothing_outside_is_read_or_changed(
        self, make_writer: MakeWriter, root: Path, tmp_path: Path, place: str
    ) -> None:
        """A session's directory that is a symlink is refused by all methods; its target is safe."""
        outside = tmp_path / "outside"
        async with make_writer(outside) as elsewhere:
            await elsewhere.save(step("secret"))
        writer = make_writer()
        await writer.save(step("mine", session_id="other"))

        def link() -> None:
            if place == "session":
                (root / "s").symlink_to(outside / "s")
            else:
                (root / "s").mkdir()
                (root / "s" / "checkpoints").symlink_to(outside / "s" / "checkpoints")

        await asyncio.to_thread(link)
        before = await asyncio.to_thread(snapshot, outside)

        calls: dict[str, Callable[[], Any]] = {
            "load": lambda: writer.load("s"),
            "load_id": lambda: writer.load("s", "secret"),
            "list": lambda: writer.list("s"),
            "save": lambda: writer.save(step("new")),
            "delete": lambda: writer.delete("s", "secret"),
            "delete_session": lambda: writer.delete_session("s"),
            "copy_from": lambda: writer.copy_session("s", "t"),
            "copy_to": lambda: writer.copy_session("other", "s"),
            "recover": lambda: writer.recover("s"),
        }
        for name, call in calls.items():
            with pytest.raises(StorageError) as refused:
                await call()
            assert refused.value.operation == "open directory", name
            assert refused.value.path.startswith(str(root / "s"))
        found, error = await all_sessions(writer)
        assert found == ["other"]
        assert "symlink" in str(error)
        [finding] = await writer.check()
        assert (finding.kind, finding.session_id) == ("unreadable", "s")
        assert await asyncio.to_thread(snapshot, outside) == before

    async def test_own_directory_is_a_symlink(
        self, make_writer: MakeWriter, root: Path, tmp_path: Path
    ) -> None:
        """A symlink in the place of the store's own directory is never followed."""
        outside = tmp_path / "outside"

        def link() -> None:
            outside.mkdir()
            root.mkdir()
            (root / ".aiocheckpoint").symlink_to(outside)

        await asyncio.to_thread(link)
        writer = make_writer(root)

        for call in (writer.save(step("new")), writer.delete("s", "new"), writer.recover("s")):
            with contextlib.suppress(StorageError):
                await call

        assert await asyncio.to_thread(snapshot, outside) == {}
        await asyncio.to_thread((root / ".aiocheckpoint").unlink)


class TestPointer:
    @pytest.mark.parametrize(
        "damage",
        [
            os.unlink,
            instead(lambda path: path.symlink_to("/etc/passwd")),
            instead(lambda path: path.symlink_to("latest.json")),
            instead(lambda path: path.symlink_to("cp_20250101_000000_gone.json")),
            instead(lambda path: path.symlink_to(min(path.parent.glob("cp_*.json")).name)),
            instead(lambda path: path.write_bytes(b"")),
            instead(os.mkfifo),
        ],
        ids=["gone", "outside", "itself", "dangling", "older", "empty-file", "fifo"],
    )
    async def test_is_never_trusted(
        self, session: Damaged[CheckpointData], make_writer: MakeWriter, damage: Damage
    ) -> None:
        """Whatever `latest.json` is, load gives the newest, and the next save makes it right."""
        pointer = session.path.with_name("latest.json")
        await asyncio.to_thread(damage, pointer)

        for some in (session.writer, make_writer()):
            newest = await some.load("s")
            assert newest is not None
            assert newest.checkpoint_id == "new"
            assert len(await some.list("s")) == 2

        await session.writer.save(step("newer"))
        await on_disk(session.writer)
        (newest_meta, *_) = await session.writer.list("s")
        assert await asyncio.to_thread(os.readlink, pointer) == path_of(newest_meta).name

    async def test_directory_in_its_place(self, session: Damaged[CheckpointData]) -> None:
        """Saves go on without `latest.json`, which `recover` makes once there is room for it."""
        pointer = session.path.with_name("latest.json")
        await asyncio.to_thread(instead(os.mkdir), pointer)

        await session.writer.save(step("newer"))
        await session.writer.flush()

        newest = await session.writer.load("s")
        assert newest is not None
        assert newest.checkpoint_id == "newer"
        await asyncio.to_thread(pointer.rmdir)
        await session.writer.recover("s")
        assert await asyncio.to_thread(os.readlink, pointer) == (
            path_of((await session.writer.list("s"))[0]).name
        )


UNREADABLE = """
    import asyncio, sys
    from pathlib import Path
    from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, StorageError

    async def main():
        root = sys.argv[1]
        async with AsyncCheckpointWriter(root, durability=sys.argv[2]) as writer:
            for name in ("old", "new"):
                await writer.save(CheckpointData(session_id="s", checkpoint_id=name))
            (newest, _) = await writer.list("s")
        newest.path.chmod(0)
        async with AsyncCheckpointWriter(root, durability=sys.argv[2]) as writer:
            for call in (
                lambda: writer.load("s"), lambda: writer.load("s", "new"),
                lambda: writer.verify(newest.path), lambda: writer.recover("s"),
                lambda: writer.delete("s", "new"),
            ):
                try:
                    await call()
                except StorageError as error:
                    print(error.operation, error.errno, error.path == str(newest.path))
                else:
                    print("no error")
            print([(meta.checkpoint_id, bool(meta.problem)) for meta in await writer.list("s")])
            print([finding.kind for finding in await writer.check()])
            newest.path.chmod(0o600)
            print((await writer.load("s")).checkpoint_id)

    asyncio.run(main())
"""


def unprivileged(script: str, *arguments: str) -> list[str]:
    """Run a script that the modes of files apply to, and return the lines it prints."""
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root is not bound by permissions, and there is no setpriv to become so")
        command = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


class TestPermissions:
    def test_unreadable_file(self, root: Path, durability: dict[str, Any]) -> None:
        """A file that may not be read is a `StorageError` with its path, and check says so."""
        lines = unprivileged(UNREADABLE, str(root), durability.get("durability", "journal"))

        listed = "[('new', True), ('old', False)]"
        assert lines == [*["open 13 True"] * 5, listed, "['unreadable']", "new"]


class TestVerifyOddPaths:
    @pytest.mark.parametrize(
        "path",
        [
            "a\0b",
            "\ud800",
            "x" * 300,
            "x/" * 3000,
            "a/../b",
        ],
    )
    async def test_path_that_cannot_be(self, writer: Writer, tmp_path: Path, path: str) -> None:
        """A path that no file can have is False or a named error."""
        with contextlib.suppress(CheckpointError):
            assert await writer.verify(f"{tmp_path}/{path}") is False

    @pytest.mark.parametrize(
        "path",
        [
            "/",
            ".",
            "..",
            "./",
            "directory/",
            "directory/.",
        ],
    )
    async def test_directory_by_any_name(
        self, writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
    ) -> None:
        """A directory is refused as one, whatever the path to it looks like."""
        await asyncio.to_thread((tmp_path / "directory").mkdir)
        await asyncio.to_thread(monkeypatch.chdir, tmp_path)

        with pytest.raises(NotACheckpointError):
            await writer.verify(path)

    async def test_symlink_that_is_not_the_pointer(self, session: Damaged[CheckpointData]) -> None:
        """Only `latest.json` stands for what it points at; another symlink is refused."""
        link = session.path.with_name("link.json")
        await asyncio.to_thread(link.symlink_to, session.path.name)

        with pytest.raises(NotACheckpointError):
            await session.writer.verify(link)
