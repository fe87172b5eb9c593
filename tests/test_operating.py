"""What whoever runs a service is told: `writer.stats()`, and the logger `aiocheckpoint`."""

from __future__ import annotations

import ast
import asyncio
import errno
import functools
import logging
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import aiocheckpoint
from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointCorruptError,
    CheckpointData,
    StorageError,
    WriterStats,
)
from aiocheckpoint.testing import Fault, FaultyFiles
from tests.conftest import MakeWriter
from tests.faults import Hold

_NOTHING = WriterStats(
    reads=0, changes=0, commits=0, waiting=0, unflushed_changes=0, unflushed_bytes=0,
    lag_seconds=0.0, files_error=None,
)  # fmt: skip


def _step(number: int, session_id: str = "s") -> CheckpointData:
    return CheckpointData(
        session_id=session_id, checkpoint_id=f"c{number}", messages=["what nobody may log"]
    )


@pytest.fixture(name="log")
def _log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="aiocheckpoint")
    return caplog


def _told(log: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return the levels and texts of what was told, and that it names no content."""
    assert {record.name for record in log.records} <= {"aiocheckpoint", "asyncio"}
    found = [(r.levelname, r.getMessage()) for r in log.records if r.name == "aiocheckpoint"]
    assert not any("nobody may log" in text for _, text in found)
    return found


class TestStats:
    async def test_unused_and_closed(self, make_writer: MakeWriter) -> None:
        """A writer that did nothing has nothing to tell, and a closed one has no files open."""
        writer = make_writer()
        assert writer.stats() == _NOTHING
        await writer.save(_step(1))
        await writer.aclose()
        stats = writer.stats()
        assert (stats.changes, stats.unflushed_changes, stats.unflushed_bytes) == (1, 0, 0)

    async def test_counts(self, make_writer: MakeWriter) -> None:
        """Changes, the commits they took, and reads are counted; what was flushed is not."""
        writer = make_writer()
        await asyncio.gather(*(writer.save(_step(number)) for number in range(9)))
        await writer.delete("s", "c0")
        for _ in range(3):
            await writer.load("s")
        stats = writer.stats()
        assert (stats.reads, stats.changes, stats.waiting) == (3, 10, 0)
        assert 2 <= stats.commits <= 10
        await writer.flush()
        assert writer.stats().changes == 10

    @pytest.mark.usefixtures("no_flushing")
    async def test_what_has_no_file(self, make_writer: MakeWriter) -> None:
        """What is in the journal alone is told, and since when; after a flush there is nothing."""
        writer = make_writer()
        for number in range(3):
            await writer.save(_step(number, f"s{number}"))
        first, second = writer.stats(), writer.stats()
        assert (first.unflushed_changes, first.files_error) == (3, None)
        assert first.unflushed_bytes > 1_000
        assert 0 < first.lag_seconds < second.lag_seconds < 60
        other = make_writer()
        await other.list("s0")
        assert other.stats().unflushed_changes == 3
        await writer.flush()
        flushed = writer.stats()
        assert (flushed.unflushed_changes, flushed.unflushed_bytes) == (0, 0)
        assert flushed.lag_seconds == 0.0

    async def test_what_waits(self, make_writer: MakeWriter) -> None:
        """While the disk hangs it answers at once, from any thread, and tells how much waits."""
        disk, hold = FaultyFiles(), Hold()
        writer = make_writer(files=disk)
        await writer.save(_step(0))
        disk.at("before_sync_log", hold)
        saves = [asyncio.ensure_future(writer.save(_step(1)))]
        await asyncio.to_thread(hold.wait_arrived)
        saves += [asyncio.ensure_future(writer.save(_step(number))) for number in (2, 3)]
        await asyncio.sleep(0)
        answers: list[WriterStats] = []
        thread = threading.Thread(target=lambda: answers.append(writer.stats()))
        thread.start()
        await asyncio.to_thread(thread.join)
        hold.release()
        await asyncio.gather(*saves)
        assert [answer.waiting for answer in answers] == [2]
        assert (writer.stats().waiting, writer.stats().changes) == (0, 4)

    async def test_nothing_waits_where_nothing_was_saved(self, make_writer: MakeWriter) -> None:
        """A writer that has only read tells of no change that waits, open or closed."""
        async with make_writer() as writer:
            assert await writer.load("s") is None
            assert writer.stats().waiting == 0
        assert writer.stats().waiting == 0

    async def test_files_that_cannot_be_written(self, make_writer: MakeWriter) -> None:
        """Why files lack is told as long as they do; the journal has what was saved."""
        disk = FaultyFiles()
        writer = make_writer(files=disk)
        await writer.save(_step(0))
        await writer.flush()
        disk.arm(Fault(errno.EACCES, "rename", for_ever=True))
        await writer.save(_step(1))
        with pytest.raises(StorageError):
            await writer.flush()
        stats = writer.stats()
        assert stats.files_error is not None
        assert "rename" in stats.files_error
        assert stats.unflushed_changes == 1
        for number in range(2, 5):  # each of a session of its own, tried in vain by each flush
            await writer.save(_step(number, f"s{number}"))
            with pytest.raises(StorageError):
                await writer.flush()
        assert writer.stats().unflushed_changes == 4
        assert stats.lag_seconds > 0
        disk.arm(None)
        await writer.flush()
        assert writer.stats().files_error is None


class TestLog:
    async def test_in_peace(self, make_writer: MakeWriter, log: Any) -> None:
        """Where all is well nothing is told."""
        writer = make_writer()
        await writer.save(_step(0))
        await writer.delete("s", "c0")
        await writer.flush()
        await writer.aclose()
        assert _told(log) == []

    @pytest.mark.usefixtures("no_flushing")
    async def test_taken_over(self, make_writer: MakeWriter, root: Path, log: Any) -> None:
        """Who finds changes without files in the journal tells how many it takes over."""
        first = make_writer()
        for number in range(3):
            await first.save(_step(number))
        await make_writer().save(_step(3))
        ((level, text),) = _told(log)
        assert level == "INFO"
        assert str(root) in text
        assert "3 changes in " in text

    async def test_files_that_cannot_be_written(self, make_writer: MakeWriter, log: Any) -> None:
        """It is told once why files are tried again, and once that they are written again."""
        disk = FaultyFiles()
        writer = make_writer(files=disk)
        await writer.save(_step(0))
        await writer.flush()
        disk.arm(Fault(errno.EACCES, "rename", for_ever=True))
        for number in range(1, 4):
            await writer.save(_step(number, f"s{number}"))
            with pytest.raises(StorageError):
                await writer.flush()
        disk.arm(None)
        await writer.flush()
        (failed, healed) = _told(log)
        assert failed[0] == "WARNING"
        assert "rename failed on" in failed[1]
        assert (healed[0], healed[1][:23]) == ("INFO", "files are written again")

    async def test_a_bug_of_ours(self, make_writer: MakeWriter, log: Any) -> None:
        """An error that nobody thought of is told with its traceback, once; nothing is lost."""
        disk, breaks = FaultyFiles(), True

        def fail() -> None:
            if breaks:
                raise ZeroDivisionError

        writer = make_writer(files=disk)
        await writer.save(_step(0))
        disk.at("before_rename", fail)
        for number in range(1, 3):
            await writer.save(_step(number))
            with pytest.raises(ZeroDivisionError):
                await writer.flush()
        assert writer.stats().files_error == "ZeroDivisionError()"
        breaks = False
        await writer.flush()
        found = [record for record in log.records if record.name == "aiocheckpoint"]
        assert [record.levelname for record in found] == ["ERROR", "INFO"]
        assert found[0].exc_info[0] is ZeroDivisionError

    @pytest.mark.damages_store
    @pytest.mark.blocking
    async def test_a_directory_that_was_moved(
        self, make_writer: MakeWriter, root: Path, log: Any
    ) -> None:
        """It is told once that the path leads elsewhere, and once that it leads back."""
        writer = make_writer()
        await writer.save(_step(0))
        await writer.flush()
        moved = root.rename(root.with_name("moved"))
        for _ in range(2):
            assert await writer.load("s") is None
        ((level, text),) = _told(log)
        assert level == "WARNING"
        assert text.startswith(f"{root} is not the directory any more that this writer has used")
        await writer.save(_step(1))
        await writer.flush()
        assert len(_told(log)) == 1
        root.rename(root.with_name("begun-anew"))
        moved.rename(root)
        newest = await writer.load("s")
        assert newest is not None
        assert newest.checkpoint_id == "c0"
        assert [level for level, _ in _told(log)] == ["WARNING", "WARNING"]

    @pytest.mark.blocking
    @pytest.mark.parametrize("is_remade", [True, False])
    async def test_a_directory_that_was_removed(
        self, make_writer: MakeWriter, root: Path, log: Any, is_remade: bool
    ) -> None:
        """It is told once of who saves next, also where it was made again at once."""
        writer = make_writer()
        await writer.save(_step(0))
        await writer.flush()
        shutil.rmtree(root)
        if is_remade:
            root.mkdir()
        await writer.save(_step(1))
        await writer.flush()
        ((level, text),) = _told(log)
        assert level == "WARNING"
        assert "it was moved, removed or replaced" in text

    @pytest.mark.blocking
    async def test_a_directory_that_is_only_read(
        self, make_writer: MakeWriter, root: Path, log: Any
    ) -> None:
        """Who only reads is told the same, and nothing where the first save makes it."""
        reader = make_writer()
        assert await reader.load("s") is None
        await make_writer().save(_step(0))
        assert await reader.load("s") is not None
        assert _told(log) == []
        root.rename(root.with_name("moved"))
        assert await reader.load("s") is None
        ((level, _),) = _told(log)
        assert level == "WARNING"

    async def test_quarantine(self, make_writer: MakeWriter, root: Path, log: Any) -> None:
        """Each file that `recover` moves is told with its new place."""
        writer = make_writer()
        await writer.save(_step(0))
        await writer.save(_step(1))
        await writer.flush()

        def damage() -> None:
            max(root.glob("s/checkpoints/cp_*.json")).write_bytes(b"{}")

        await asyncio.to_thread(damage)
        report = await writer.recover("s")
        assert report.quarantined
        told = [f"moved to the quarantine: {path}" for path in report.quarantined]
        assert _told(log) == [("WARNING", text) for text in told]
        assert (await writer.recover("s")).quarantined == ()
        assert len(_told(log)) == len(told)

    @pytest.mark.usefixtures("no_flushing")
    @pytest.mark.damages_store
    async def test_a_damaged_save(self, make_writer: MakeWriter, root: Path, log: Any) -> None:
        """Of what is damaged in the journal nobody says that it is kept: `recover` helps."""
        writer = make_writer()
        for number in range(2):
            await writer.save(_step(number))

        def damage() -> None:
            for slot in root.glob(".aiocheckpoint/log.*"):
                slot.write_bytes(slot.read_bytes().replace(b'"c1"', b'"cX"'))

        await asyncio.to_thread(damage)
        other = make_writer()
        with pytest.raises(CheckpointCorruptError):
            await other.flush()
        with pytest.raises(CheckpointCorruptError) as refused:
            await other.flush()
        assert refused.value.session_id == "s"
        ((level, text),) = [told for told in _told(log) if told[0] != "INFO"]
        assert level == "WARNING"
        assert text == (
            f"{refused.value}; until then the journal keeps what has no files, and flush raises"
        )
        assert "(session 's')" in text
        with pytest.raises(StorageError, match=r"recover\(session_id\) lets the session go on"):
            await other.save(_step(2))
        assert other.stats().unflushed_changes > 0
        await other.recover("s")
        await other.save(_step(2))
        await other.flush()
        assert other.stats().unflushed_changes == 0

    @pytest.mark.usefixtures("no_flushing")
    @pytest.mark.damages_store
    async def test_damaged_journal(self, make_writer: MakeWriter, root: Path, log: Any) -> None:
        """A journal that is damaged is told as an error, by whoever opens it to write."""
        writer = make_writer()
        for number in range(3):
            await writer.save(_step(number))

        def damage() -> None:
            for slot in root.glob(".aiocheckpoint/log.*"):
                content = slot.read_bytes()
                start = content.find(b'"c1"') // 4096 * 4096
                if start > 0:
                    slot.write_bytes(content[:start] + bytes(4096) + content[start + 4096 :])

        await asyncio.to_thread(damage)
        other = AsyncCheckpointWriter(root)
        await other.save(_step(9, "other"))
        assert [text for level, text in _told(log) if level == "ERROR"]
        with pytest.raises(CheckpointCorruptError):
            await other.aclose()


_PACKAGE = Path(aiocheckpoint.__file__).parent
_PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "operate.md"


@functools.cache
def _logged() -> Sequence[tuple[str, str]]:
    """Return the level and the text of each call of our logger in the source."""
    return [*_found()]


def _found() -> Iterator[tuple[str, str]]:
    for path in sorted(_PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "_logger." not in text:
            continue  # nor is it parsed: every process that collects tests comes by here
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "_logger"
            ):
                yield node.func.attr.upper(), ast.literal_eval(node.args[0])


def _rows() -> list[tuple[str, str]]:
    """Return the level and the text of each row of the page's table."""
    return re.findall(r"^\| ([A-Z]+) \| `([^`]+)`", _PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def _is_row_of(row: tuple[str, str], logged: tuple[str, str]) -> bool:
    """Tell whether the words of a row, without what differs each time, are those of a call."""
    parts = [part.strip() for part in re.split(r"\.\.\.|\d+", row[1]) if part.strip()]
    words = ".*".join(map(re.escape, parts))
    return row[0] == logged[0] and re.search(words, logged[1]) is not None


class TestPage:
    @pytest.mark.parametrize("logged", sorted({*_logged()}))
    def test_has_a_row_for_each_text(self, logged: tuple[str, str]) -> None:
        """Whoever finds a text in the log finds it in the page, by its own words, and once."""
        assert len([row for row in _rows() if _is_row_of(row, logged)]) == 1

    @pytest.mark.parametrize("row", _rows(), ids=lambda row: row[1][:30])
    def test_has_no_other_row(self, row: tuple[str, str]) -> None:
        """Each row is of a text that the library logs."""
        assert [logged for logged in _logged() if _is_row_of(row, logged)]
