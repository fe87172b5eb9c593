"""Blobs under damage, faults, other processes and crashes."""

from __future__ import annotations

import asyncio
import errno
import itertools
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobRecord,
    CheckpointCorruptError,
    CheckpointData,
    CheckpointEncodeError,
    CheckpointRecord,
    CheckpointTooLargeError,
    InvalidArgumentError,
    InvalidIdError,
    MissingBlobError,
    RecordTypeError,
    SessionReader,
    StorageError,
    blob_digest,
)
from aiocheckpoint.testing import Fault, FaultyFiles, LargeValue
from tests.conftest import MakeWriter
from tests.faults import Hold
from tests.on_disk import on_disk, path_of

Writer = AsyncCheckpointWriter[LargeValue]
ONE, TWO, THREE = b"1" * 5000, b"2" * 5000, b"3" * 5000


def _given(*blobs: bytes) -> dict[str, bytes]:
    return {blob_digest(blob): blob for blob in blobs}


def _record(checkpoint_id: str, *blobs: bytes) -> LargeValue:
    digests = tuple(_given(*blobs))
    return LargeValue(session_id="s", checkpoint_id=checkpoint_id, blob_digests=digests)


async def _save(writer: Writer, checkpoint_id: str, *blobs: bytes) -> None:
    await writer.save(_record(checkpoint_id, *blobs), blobs=_given(*blobs))


async def _seen(writer: Writer) -> dict[str, list[bytes]]:
    """Return the blobs of each checkpoint, all read and verified."""
    records = await writer.load_many("s", await writer.ids("s"))
    return {
        record.checkpoint_id: [*(await writer.load_blobs("s", record.blob_digests)).values()]
        for record in records
    }


def _stored(root: Path) -> set[str]:
    return {path.name for path in (root / "s" / "blobs").glob("*")}


def _put_first_in_place_of_second(directory: Path) -> None:
    first, second, *_ = sorted(directory.glob("cp_*.json"))
    second.unlink()  # its backup is the same file
    second.write_bytes(first.read_bytes())


class TestRecords:
    def test_the_key_is_taken(self) -> None:
        """A record that is no BlobRecord may not use the key of the digests."""

        class Mine(CheckpointRecord):
            blob_digests: list[str] = []  # noqa: RUF012

        with pytest.raises(RecordTypeError, match="extend BlobRecord"):
            AsyncCheckpointWriter("state", record_type=Mine)

    def test_the_field_must_stay_as_it_is(self) -> None:
        """A record type may not retype the digests."""

        class Mine(BlobRecord):
            blob_digests: list[str] = []  # type: ignore[assignment]  # noqa: RUF012

        with pytest.raises(RecordTypeError, match="blob_digests"):
            AsyncCheckpointWriter("state", record_type=Mine)

    async def test_a_digest_is_a_digest(self, make_writer: MakeWriter) -> None:
        """Names that are no SHA-256 are refused before anything is looked for."""
        writer = make_writer(record_type=LargeValue)
        bad = LargeValue(session_id="s", blob_digests=("../x",))
        with pytest.raises(CheckpointEncodeError, match=r"blob_digests\[0\]"):
            await writer.save(bad)
        with pytest.raises(InvalidIdError, match="blob digest"):
            await writer.load_blobs("s", ["../x"])

    async def test_a_buffer_is_taken_as_it_is_at_the_call(self, make_writer: MakeWriter) -> None:
        """A blob given in a buffer is stored as it was when the save was called."""
        files, hold = FaultyFiles(), Hold()
        files.at("lock", hold)
        writer = make_writer(record_type=LargeValue, files=files)
        buffer = bytearray(ONE)
        blobs: dict[str, Any] = {blob_digest(ONE): buffer}
        saving = asyncio.ensure_future(writer.save(_record("a", ONE), blobs=blobs))
        await asyncio.to_thread(hold.wait_arrived)
        buffer[:] = TWO
        hold.release()

        assert await saving == "a"
        assert await _seen(writer) == {"a": [ONE]}

    async def test_a_blob_is_bytes(self, make_writer: MakeWriter) -> None:
        """What is no bytes is refused by the call itself, in words about bytes."""
        blobs: dict[str, Any] = {blob_digest(ONE): "text"}
        with pytest.raises(InvalidArgumentError, match="give bytes"):
            await make_writer(record_type=LargeValue).save(_record("a", ONE), blobs=blobs)

    async def test_a_blob_that_is_not_named_is_refused(self, make_writer: MakeWriter) -> None:
        """A record that forgets to name a blob would be saved without it."""
        writer = make_writer(record_type=LargeValue)
        with pytest.raises(InvalidArgumentError, match="blob_digests"):
            await writer.save(_record("a"), blobs={blob_digest(ONE): ONE})
        assert await writer.load("s") is None

    async def test_a_blob_is_bounded(self, make_writer: MakeWriter) -> None:
        """A blob over max_bytes is refused."""
        writer = make_writer(record_type=LargeValue, max_bytes=4000)
        with pytest.raises(CheckpointTooLargeError, match=blob_digest(ONE)):
            await _save(writer, "a", ONE)

    async def test_old_checkpoints_take_their_blobs_along(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """What max_checkpoints prunes leaves no blob behind."""
        writer = make_writer(record_type=LargeValue, max_checkpoints=2)
        for number in range(6):
            await _save(writer, f"{number}", b"%d" % number * 5000, ONE)
        await on_disk(writer)
        assert await asyncio.to_thread(_stored, root) == set(_given(b"4" * 5000, b"5" * 5000, ONE))

    async def test_copies_have_blobs_of_their_own(self, make_writer: MakeWriter) -> None:
        """A copied session keeps its blobs when the source goes, and gives its own up."""
        writer = make_writer(record_type=LargeValue)
        await _save(writer, "a", ONE, TWO)
        await _save(writer, "b", TWO)
        assert await writer.copy_session("s", "t") == 2
        await writer.delete_session("s")
        copies = await writer.load_many("t", await writer.ids("t"))
        for record in copies:
            assert len(await writer.load_blobs("t", record.blob_digests)) == len(
                record.blob_digests
            )
        await writer.delete("t", "a")
        with pytest.raises(MissingBlobError):
            await writer.load_blobs("t", _given(ONE))


class TestReading:
    async def test_several_reads_share_a_hop(self, make_writer: MakeWriter) -> None:
        """Reads that need one another's outcome are done in one thread, off the loop."""
        writer = make_writer(record_type=LargeValue)
        await _save(writer, "a", ONE)
        await _save(writer, "b", ONE, TWO)

        async def newest(reader: SessionReader[LargeValue]) -> tuple[int, set[bytes]]:
            (record,) = await reader.load_many(await reader.ids(prefix="b", limit=1))
            blobs = await reader.load_blobs(record.blob_digests)
            return threading.get_ident(), {*blobs.values()}

        thread, blobs = await writer.read("s", newest)
        assert thread != threading.get_ident()
        assert blobs == {ONE, TWO}

    async def test_ids_that_names_do_not_tell(self, make_writer: MakeWriter) -> None:
        """Ids too long for a file's name are listed with the others, also after a restart."""
        writer = make_writer(record_type=LargeValue)
        ids = {"a", "b" * 300, "c" * 300, "d/e"}
        for checkpoint_id in ids:
            await _save(writer, checkpoint_id, ONE)
        for each in (writer, make_writer(record_type=LargeValue)):
            assert await each.ids("s") == tuple(sorted(ids, reverse=True))
            assert await each.ids("s", prefix="b", before="d") == ("b" * 300,)
        assert await writer.delete_many("s", ids) == 4
        assert await writer.ids("s") == ()


@pytest.mark.damages_store
class TestDamage:
    async def test_check_and_recover(self, make_writer: MakeWriter, root: Path) -> None:
        """Missing, damaged and unused blobs are found; recover moves them and what needs them."""
        writer = make_writer(record_type=LargeValue)
        for checkpoint_id, blob in (("a", ONE), ("b", TWO), ("c", THREE)):
            await _save(writer, checkpoint_id, blob)
        await on_disk(writer)
        directory = root / "s" / "blobs"
        await asyncio.to_thread((directory / blob_digest(TWO)).unlink)
        await asyncio.to_thread((directory / blob_digest(THREE)).write_bytes, b"4" * 5000)
        await asyncio.to_thread((directory / blob_digest(b"x")).write_bytes, b"x")
        found = {(f.kind, path_of(f).name) for f in await writer.check()}
        assert found == {
            ("missing-blob", blob_digest(TWO)),
            ("damaged", blob_digest(THREE)),
            ("unused-blob", blob_digest(b"x")),
        }
        with pytest.raises(MissingBlobError):
            await writer.load_blobs("s", _given(TWO))
        with pytest.raises(CheckpointCorruptError, match="does not match its name"):
            await writer.load_blobs("s", _given(THREE))

        report = await writer.recover("s")

        assert report.newest_valid_id == "a"
        assert len(report.quarantined) == 5  # of one checkpoint also its backup
        assert await writer.check() == ()
        assert await _seen(writer) == {"a": [ONE]}
        await _save(writer, "c", THREE)
        assert await _seen(writer) == {"a": [ONE], "c": [THREE]}

    @pytest.mark.parametrize("is_known", [False, True])
    async def test_all_blobs_are_gone(
        self, make_writer: MakeWriter, root: Path, *, is_known: bool
    ) -> None:
        """Also where no directory of blobs is left each is missed, and told for what it is."""
        writer = make_writer(record_type=LargeValue)
        await _save(writer, "a")
        await _save(writer, "b", ONE, TWO)
        await on_disk(writer)
        await asyncio.to_thread(shutil.rmtree, root / "s" / "blobs")
        if not is_known:
            writer = make_writer(record_type=LargeValue)
        found = {(f.kind, path_of(f).name) for f in await writer.check()}
        assert found == {("missing-blob", blob_digest(blob)) for blob in (ONE, TWO)}
        with pytest.raises(MissingBlobError):
            await writer.save(_record("c", ONE))
        assert (await writer.recover("s")).newest_valid_id == "a"
        assert await writer.check() == ()
        await _save(writer, "c", ONE)
        assert await _seen(writer) == {"a": [], "c": [ONE]}

    async def test_recover_leaves_blobs_of_what_it_restores(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """Where another one's file was in its place, a checkpoint comes back with its blobs."""
        writer = make_writer(record_type=LargeValue)
        await _save(writer, "a")
        await _save(writer, "b", ONE)
        await on_disk(writer)
        await _save(writer, "c")
        await on_disk(writer)
        await asyncio.to_thread(_put_first_in_place_of_second, root / "s" / "checkpoints")
        await writer.recover("s")
        assert await _seen(writer) == {"a": [], "b": [ONE], "c": []}
        assert await writer.check() == ()

    async def test_recover_leaves_blobs_that_others_need(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """A blob stays if any checkpoint that stays refers to it, and not only one that goes."""
        writer = make_writer(record_type=LargeValue, max_backups=0)
        await _save(writer, "a", ONE)
        await _save(writer, "b", ONE, TWO)
        await on_disk(writer)
        await asyncio.to_thread((root / "s" / "blobs" / blob_digest(TWO)).unlink)

        report = await writer.recover("s")

        assert (report.newest_valid_id, len(report.quarantined)) == ("a", 1)
        assert await _seen(make_writer(record_type=LargeValue)) == {"a": [ONE]}
        assert await writer.check() == ()

    async def test_recover_leaves_blobs_of_another_version(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """Nobody knows what a file of another version refers to, so no blob is called unused."""
        writer = make_writer(record_type=LargeValue, max_backups=0)
        await _save(writer, "a", ONE)
        await _save(writer, "b", TWO)
        await on_disk(writer)
        (*_, oldest) = await writer.list("s")
        content = await asyncio.to_thread(path_of(oldest).read_bytes)
        await asyncio.to_thread(path_of(oldest).write_bytes, content.replace(b'"1.0"', b'"2.0"'))

        assert [(f.kind, f.path) for f in await writer.check()] == [("other-version", oldest.path)]
        assert (await writer.recover("s")).quarantined == ()
        assert await asyncio.to_thread(_stored, root) == set(_given(ONE, TWO))

    async def test_a_damaged_blob_is_not_built_upon(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """A process that meets a damaged blob writes it anew if it has it, or refuses."""
        first = make_writer(record_type=LargeValue)
        await _save(first, "a", ONE)
        await first.aclose()
        path = root / "s" / "blobs" / blob_digest(ONE)
        await asyncio.to_thread(path.write_bytes, b"0" * 5000)
        second = make_writer(record_type=LargeValue)
        with pytest.raises(CheckpointCorruptError):
            await second.save(_record("b", ONE))
        await _save(second, "b", ONE)
        assert await _seen(second) == {"a": [ONE], "b": [ONE]}

    async def test_nothing_is_collected_while_a_checkpoint_is_unreadable(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """A damaged checkpoint may refer to any blob, so all stay until it is recovered."""
        writer = make_writer(record_type=LargeValue)
        await _save(writer, "a", ONE)
        await _save(writer, "b", TWO)
        await _save(writer, "c", THREE)
        await writer.aclose()
        (path,) = await asyncio.to_thread(lambda: [*(root / "s").glob("checkpoints/cp_*_a.json")])
        await asyncio.to_thread(path.write_bytes, b"{}")
        writer = make_writer(record_type=LargeValue)
        await writer.delete("s", "c")
        assert await asyncio.to_thread(_stored, root) == set(_given(ONE, TWO, THREE))


class TestOtherProcesses:
    async def test_memory_is_not_trusted_after_a_collection(self, make_writer: MakeWriter) -> None:
        """What another writer has removed is stored again, or asked for."""
        one, two = (make_writer(record_type=LargeValue) for _ in range(2))
        await _save(one, "a", ONE)
        await two.delete("s", "a")
        with pytest.raises(MissingBlobError):
            await one.save(_record("b", ONE))
        await _save(one, "b", ONE)
        assert await _seen(two) == {"b": [ONE]}

    async def test_blobs_of_others_count(self, make_writer: MakeWriter) -> None:
        """A blob goes only when no record of any process refers to it."""
        one, two = (make_writer(record_type=LargeValue) for _ in range(2))
        await _save(one, "a", ONE, TWO)
        await two.save(_record("b", ONE))
        await one.delete("s", "a")
        assert await _seen(one) == {"b": [ONE]}
        with pytest.raises(MissingBlobError):
            await two.save(_record("c", TWO))

    async def test_a_writer_of_other_records_collects_too(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """The command line, which knows no record type, leaves no unused blob either."""
        one, other = make_writer(record_type=LargeValue), make_writer()
        await _save(one, "a", ONE)
        await _save(one, "b", TWO)
        assert await other.delete("s", "a")
        await on_disk(other)
        assert await asyncio.to_thread(_stored, root) == set(_given(TWO))
        await other.save(CheckpointData(session_id="s", checkpoint_id="c"))
        assert await other.delete("s", "b")
        await on_disk(other)
        assert await asyncio.to_thread(_stored, root) == set()

    async def test_what_a_dead_process_committed_keeps_its_blobs(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """Nothing is collected that a save of a process refers to which died right after it."""
        writer = make_writer(record_type=LargeValue)
        await _save(writer, "a", ONE)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _DIES_AFTER_COMMITTING, str(root), stderr=subprocess.PIPE
        )
        _, errors = await child.communicate()
        assert (child.returncode, errors) == (-signal.SIGKILL, b"")
        await writer.delete("s", "a")
        assert await _seen(writer) == {"b": [ONE]}
        await writer.aclose()

        again = make_writer(record_type=LargeValue)
        assert await _seen(again) == {"b": [ONE]}
        await again.delete("s", "b")


_DIES_AFTER_COMMITTING = """
import asyncio, os, signal, sys
from aiocheckpoint import AsyncCheckpointWriter, blob_digest
from aiocheckpoint.testing import FaultyFiles, LargeValue

async def main():
    disk = FaultyFiles()
    disk.at("before_publish", lambda: os.kill(os.getpid(), signal.SIGKILL))
    async with AsyncCheckpointWriter(sys.argv[1], record_type=LargeValue, files=disk) as writer:
        digests = (blob_digest(b"1" * 5000),)
        await writer.save(LargeValue(session_id="s", checkpoint_id="b", blob_digests=digests))

asyncio.run(main())
"""


@pytest.mark.damages_store
@pytest.mark.parametrize("durability", ["journal", "file"])
async def test_each_failing_call_leaves_records_with_their_blobs(
    make_writer: MakeWriter, durability: str
) -> None:
    """Whichever system call of a save or a delete fails, every record has its blobs."""
    disk = FaultyFiles()
    writer = make_writer(record_type=LargeValue, files=disk, durability=durability)
    await _save(writer, "a", ONE, TWO)
    for nth in itertools.count():
        disk.arm(Fault(errno.EIO, nth=nth))
        blob = b"%d" % nth * 2000
        try:
            await _save(writer, "b", TWO, blob)
            await writer.delete("s", "b")
        except StorageError:
            pass
        else:
            if not disk.failed:
                break
        disk.arm(None)
        seen = await _seen(writer)
        assert seen["a"] == [ONE, TWO]
        assert seen.keys() <= {"a", "b"}
    disk.arm(None)
    assert nth > 20
    await writer.delete("s", "b")
    kinds = {finding.kind for finding in await writer.check()}
    assert kinds <= {"unused-blob", "stale-pointer", "leftover"}
    await writer.aclose()
    last = make_writer(record_type=LargeValue)
    assert await _seen(last) == {"a": [ONE, TWO]}
    await _save(last, "c", ONE)
    await last.delete("s", "c")
    assert {finding.kind for finding in await last.check()} == set()


@pytest.mark.parametrize("change", ["save", "save-again", "delete", "delete_session"])
async def test_what_a_killed_write_of_a_blob_left_is_removed(
    make_writer: MakeWriter, root: Path, change: str
) -> None:
    """The next process that writes or removes blobs of the session removes it; reads leave it."""
    writer = make_writer(record_type=LargeValue)
    await _save(writer, "a", ONE)
    await writer.aclose()
    left = root / "s" / "blobs" / ".tmp_cp_0123456789abcdef"
    await asyncio.to_thread(left.write_bytes, b"half of a blob")
    writer = make_writer(record_type=LargeValue)
    assert await _seen(writer) == {"a": [ONE]}
    assert [(found.kind, found.path) for found in await writer.check()] == [("leftover", left)]
    if change == "save":
        await _save(writer, "b", TWO)
    elif change == "save-again":
        await _save(writer, "a", TWO)
    elif change == "delete":
        await writer.delete("s", "a")
    else:
        await writer.delete_session("s")
        await writer.flush()
        assert not await asyncio.to_thread((root / "s").exists)
    await writer.flush()
    assert await writer.check() == ()
    assert not await asyncio.to_thread(left.exists)


@pytest.mark.parametrize("change", ["delete", "replace", "retention", "delete-session"])
async def test_a_blob_is_not_removed_and_used_in_one_commit(
    make_writer: MakeWriter, change: str
) -> None:
    """A save that names a blob which a change just before it removes is refused, or has it."""
    limit = 1 if change == "retention" else None
    writer = make_writer(record_type=LargeValue, max_checkpoints=limit)
    await _save(writer, "a", ONE)
    changes: dict[str, Callable[[], Awaitable[object]]] = {
        "delete": lambda: writer.delete("s", "a"),
        "replace": lambda: writer.save(_record("a")),
        "retention": lambda: writer.save(_record("c")),
        "delete-session": lambda: writer.delete_session("s"),
    }

    _, saved = await asyncio.gather(
        changes[change](), writer.save(_record("b", ONE)), return_exceptions=True
    )

    if isinstance(saved, MissingBlobError):
        assert await writer.load("s", "b") is None
    else:
        assert saved == "b"
        assert await writer.load_blobs("s", [blob_digest(ONE)]) == {blob_digest(ONE): ONE}
