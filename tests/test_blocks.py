"""Blocks under damage, faults, other processes and crashes."""

from __future__ import annotations

import asyncio
import errno
import itertools
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlockRecord,
    CheckpointCorruptError,
    CheckpointData,
    CheckpointEncodeError,
    CheckpointRecord,
    CheckpointTooLargeError,
    InvalidIdError,
    MissingBlockError,
    RecordTypeError,
    SessionReader,
    StorageError,
    block_digest,
)
from aiocheckpoint.testing import Fault, FaultyFiles, LargeValue
from tests.conftest import MakeWriter
from tests.faults import Hold

Writer = AsyncCheckpointWriter[LargeValue]
ONE, TWO, THREE = b"1" * 5000, b"2" * 5000, b"3" * 5000


def _given(*blocks: bytes) -> dict[str, bytes]:
    return {block_digest(block): block for block in blocks}


def _record(checkpoint_id: str, *blocks: bytes) -> LargeValue:
    digests = tuple(_given(*blocks))
    return LargeValue(session_id="s", checkpoint_id=checkpoint_id, block_digests=digests)


async def _save(writer: Writer, checkpoint_id: str, *blocks: bytes) -> None:
    await writer.save(_record(checkpoint_id, *blocks), blocks=_given(*blocks))


async def _seen(writer: Writer) -> dict[str, list[bytes]]:
    """Return the blocks of each checkpoint, all read and verified."""
    records = await writer.load_many("s", await writer.ids("s"))
    return {
        record.checkpoint_id: [*(await writer.load_blocks("s", record.block_digests)).values()]
        for record in records
    }


def _stored(root: Path) -> set[str]:
    return {path.name for path in (root / "s" / "blocks").glob("*")}


class TestRecords:
    def test_the_key_is_taken(self) -> None:
        """A record that is no BlockRecord may not use the key of the digests."""

        class Mine(CheckpointRecord):
            block_digests: list[str] = []  # noqa: RUF012

        with pytest.raises(RecordTypeError, match="extend BlockRecord"):
            AsyncCheckpointWriter("state", record_type=Mine)

    def test_the_field_must_stay_as_it_is(self) -> None:
        """A record type may not retype the digests."""

        class Mine(BlockRecord):
            block_digests: list[str] = []  # type: ignore[assignment]  # noqa: RUF012

        with pytest.raises(RecordTypeError, match="block_digests"):
            AsyncCheckpointWriter("state", record_type=Mine)

    async def test_a_digest_is_a_digest(self, make_writer: MakeWriter) -> None:
        """Names that are no SHA-256 are refused before anything is looked for."""
        writer = make_writer(record_type=LargeValue)
        bad = LargeValue(session_id="s", block_digests=("../x",))
        with pytest.raises(CheckpointEncodeError, match=r"block_digests\[0\]"):
            await writer.save(bad)
        with pytest.raises(InvalidIdError, match="block digest"):
            await writer.load_blocks("s", ["../x"])

    async def test_a_buffer_is_taken_as_it_is_at_the_call(self, make_writer: MakeWriter) -> None:
        """A block given in a buffer is stored as it was when the save was called."""
        files, hold = FaultyFiles(), Hold()
        files.at("lock folder", hold)
        writer = make_writer(record_type=LargeValue, files=files)
        buffer = bytearray(ONE)
        blocks: dict[str, Any] = {block_digest(ONE): buffer}
        saving = asyncio.ensure_future(writer.save(_record("a", ONE), blocks=blocks))
        await asyncio.to_thread(hold.wait_arrived)
        buffer[:] = TWO
        hold.release()

        assert await saving == "a"
        assert await _seen(writer) == {"a": [ONE]}

    async def test_a_block_is_bytes(self, make_writer: MakeWriter) -> None:
        """What is no bytes is refused by the call itself, in words about bytes."""
        blocks: dict[str, Any] = {block_digest(ONE): "text"}
        with pytest.raises(TypeError, match="bytes-like"):
            await make_writer(record_type=LargeValue).save(_record("a", ONE), blocks=blocks)

    async def test_a_block_is_bounded(self, make_writer: MakeWriter) -> None:
        """A block over max_bytes is refused."""
        writer = make_writer(record_type=LargeValue, max_bytes=4000)
        with pytest.raises(CheckpointTooLargeError, match=block_digest(ONE)):
            await _save(writer, "a", ONE)

    async def test_old_checkpoints_take_their_blocks_along(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """What max_checkpoints prunes leaves no block behind."""
        writer = make_writer(record_type=LargeValue, max_checkpoints=2)
        for number in range(6):
            await _save(writer, f"{number}", b"%d" % number * 5000, ONE)
        assert await asyncio.to_thread(_stored, root) == set(_given(b"4" * 5000, b"5" * 5000, ONE))

    async def test_copies_have_blocks_of_their_own(self, make_writer: MakeWriter) -> None:
        """A copied session keeps its blocks when the source goes, and gives its own up."""
        writer = make_writer(record_type=LargeValue)
        await _save(writer, "a", ONE, TWO)
        await _save(writer, "b", TWO)
        assert await writer.copy_session("s", "t") == 2
        await writer.delete_session("s")
        copies = await writer.load_many("t", await writer.ids("t"))
        for record in copies:
            assert len(await writer.load_blocks("t", record.block_digests)) == len(
                record.block_digests
            )
        await writer.delete("t", "a")
        with pytest.raises(MissingBlockError):
            await writer.load_blocks("t", _given(ONE))


class TestReading:
    async def test_several_reads_share_a_hop(self, make_writer: MakeWriter) -> None:
        """Reads that need one another's outcome are done in one thread, off the loop."""
        writer = make_writer(record_type=LargeValue)
        await _save(writer, "a", ONE)
        await _save(writer, "b", ONE, TWO)

        def newest(reader: SessionReader[LargeValue]) -> tuple[int, set[bytes]]:
            (record,) = reader.load_many(reader.ids(prefix="b", limit=1))
            blocks = reader.load_blocks(record.block_digests)
            return threading.get_ident(), {*blocks.values()}

        thread, blocks = await writer.read("s", newest)
        assert thread != threading.get_ident()
        assert blocks == {ONE, TWO}

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
        """Missing, damaged and unused blocks are found; recover moves them and what needs them."""
        writer = make_writer(record_type=LargeValue)
        for checkpoint_id, block in (("a", ONE), ("b", TWO), ("c", THREE)):
            await _save(writer, checkpoint_id, block)
        folder = root / "s" / "blocks"
        await asyncio.to_thread((folder / block_digest(TWO)).unlink)
        await asyncio.to_thread((folder / block_digest(THREE)).write_bytes, b"4" * 5000)
        await asyncio.to_thread((folder / block_digest(b"x")).write_bytes, b"x")
        found = {(f.kind, f.path.name) for f in await writer.check()}
        assert found == {
            ("missing-block", block_digest(TWO)),
            ("damaged", block_digest(THREE)),
            ("unused-block", block_digest(b"x")),
        }
        with pytest.raises(MissingBlockError):
            await writer.load_blocks("s", _given(TWO))
        with pytest.raises(CheckpointCorruptError, match="does not match its name"):
            await writer.load_blocks("s", _given(THREE))

        report = await writer.recover("s")

        assert report.newest_valid_id == "a"
        assert len(report.quarantined) == 5  # of one checkpoint also its backup
        assert await writer.check() == ()
        assert await _seen(writer) == {"a": [ONE]}
        await _save(writer, "c", THREE)
        assert await _seen(writer) == {"a": [ONE], "c": [THREE]}

    async def test_a_damaged_block_is_not_built_upon(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """A process that meets a damaged block writes it anew if it has it, or refuses."""
        first = make_writer(record_type=LargeValue)
        await _save(first, "a", ONE)
        await first.aclose()
        path = root / "s" / "blocks" / block_digest(ONE)
        await asyncio.to_thread(path.write_bytes, b"0" * 5000)
        second = make_writer(record_type=LargeValue)
        with pytest.raises(CheckpointCorruptError):
            await second.save(_record("b", ONE))
        await _save(second, "b", ONE)
        assert await _seen(second) == {"a": [ONE], "b": [ONE]}

    async def test_nothing_is_collected_while_a_checkpoint_is_unreadable(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """A damaged checkpoint may refer to any block, so all stay until it is recovered."""
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
        with pytest.raises(MissingBlockError):
            await one.save(_record("b", ONE))
        await _save(one, "b", ONE)
        assert await _seen(two) == {"b": [ONE]}

    async def test_blocks_of_others_count(self, make_writer: MakeWriter) -> None:
        """A block goes only when no record of any process refers to it."""
        one, two = (make_writer(record_type=LargeValue) for _ in range(2))
        await _save(one, "a", ONE, TWO)
        await two.save(_record("b", ONE))
        await one.delete("s", "a")
        assert await _seen(one) == {"b": [ONE]}
        with pytest.raises(MissingBlockError):
            await two.save(_record("c", TWO))

    async def test_a_writer_of_other_records_collects_too(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """The command line, which knows no record type, leaves no unused block either."""
        one, other = make_writer(record_type=LargeValue), make_writer()
        await _save(one, "a", ONE)
        await _save(one, "b", TWO)
        assert await other.delete("s", "a")
        assert await asyncio.to_thread(_stored, root) == set(_given(TWO))
        await other.save(CheckpointData(session_id="s", checkpoint_id="c"))
        assert await other.delete("s", "b")
        assert await asyncio.to_thread(_stored, root) == set()

    async def test_what_a_dead_process_journaled_keeps_its_blocks(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """Nothing is collected while a journal waits whose saves may refer to it."""
        writer = make_writer(record_type=LargeValue)
        await _save(writer, "a", ONE)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _DIES_AFTER_JOURNALING, str(root), stderr=subprocess.PIPE
        )
        _, errors = await child.communicate()
        assert (child.returncode, errors) == (-signal.SIGKILL, b"")
        await writer.delete("s", "a")
        assert await writer.ids("s") == ()
        await writer.aclose()

        again = make_writer(record_type=LargeValue)
        assert await _seen(again) == {"b": [ONE]}
        await again.delete("s", "b")


_DIES_AFTER_JOURNALING = """
import asyncio, os, signal, sys
from aiocheckpoint import AsyncCheckpointWriter, block_digest
from aiocheckpoint.testing import FaultyFiles, LargeValue

async def main():
    disk = FaultyFiles()
    disk.at("after_sync_journal", lambda: os.kill(os.getpid(), signal.SIGKILL))
    async with AsyncCheckpointWriter(sys.argv[1], record_type=LargeValue, files=disk) as writer:
        digests = (block_digest(b"1" * 5000),)
        await writer.save(LargeValue(session_id="s", checkpoint_id="b", block_digests=digests))

asyncio.run(main())
"""


@pytest.mark.damages_store
@pytest.mark.parametrize("durability", ["journal", "file"])
async def test_each_failing_call_leaves_records_with_their_blocks(
    make_writer: MakeWriter, durability: str
) -> None:
    """Whichever system call of a save or a delete fails, every record has its blocks."""
    disk = FaultyFiles()
    writer = make_writer(record_type=LargeValue, files=disk, durability=durability)
    await _save(writer, "a", ONE, TWO)
    for nth in itertools.count():
        disk.arm(Fault(errno.EIO, nth=nth))
        block = b"%d" % nth * 2000
        try:
            await _save(writer, "b", TWO, block)
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
    assert kinds <= {"unused-block", "stale-pointer", "leftover"}
    await writer.aclose()
    last = make_writer(record_type=LargeValue)
    assert await _seen(last) == {"a": [ONE, TWO]}
    await _save(last, "c", ONE)
    await last.delete("s", "c")
    assert {finding.kind for finding in await last.check()} == set()
