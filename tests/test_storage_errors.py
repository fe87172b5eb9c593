"""A disk that refuses: a named error, nothing acknowledged is lost, the next save works."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointCorruptError,
    CheckpointData,
    CheckpointError,
    DurabilityUnknownError,
    StorageError,
    StorageFullError,
)
from aiocheckpoint._disk.files import LocalFiles
from tests.conftest import MakeWriter
from tests.durabilities import SYNCED_FILES, journal_by_default, writers_of_each_durability
from tests.faults import Fault, FaultyFiles, RefusingFiles
from tests.on_disk import on_disk
from tests.test_damaged_files import unprivileged
from tests.trees import checkpoint_files, file_contents, remove, snapshot

Writer = AsyncCheckpointWriter[CheckpointData]
Method = Callable[[Writer], Awaitable[object]]
State = dict[str, tuple[tuple[str, str | None], ...]]
"""By session, newest first: each checkpoint's id and hint, as list and load agree on them."""

ERRORS = (
    errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EROFS, errno.EACCES, errno.EINTR,
)  # fmt: skip
FULL = (errno.ENOSPC, errno.EDQUOT)

# A call that never ends cannot be cancelled either; better a dead test run than a silent one.
pytestmark = pytest.mark.timeout(300, method="thread")


durability, make_writer = journal_by_default, writers_of_each_durability


def step(iteration: int, session_id: str = "s", **fields: Any) -> CheckpointData:
    return CheckpointData(
        session_id=session_id, checkpoint_id=f"step-{iteration}", iteration=iteration, **fields
    )


async def state_of(writer: Writer) -> State:
    """Return what a writer sees, having loaded and verified all of it."""
    found: State = {}
    async for session_id in writer.sessions():
        loaded = []
        for meta in await writer.list(session_id):
            data = await writer.load(session_id, meta.checkpoint_id)
            assert data is not None
            loaded.append((data.checkpoint_id, data.resume_hint))
        newest = await writer.load(session_id)
        assert newest is not None
        assert loaded[0] == (newest.checkpoint_id, newest.resume_hint)
        found[session_id] = tuple(loaded)
    return found


class Scenario(NamedTuple):
    """
    A change, and what may be seen after it was refused.

    Attributes:
        change: the call.
        keeps: given the states before, after and found, whether the promise is kept.
        session_id: where to save next.
    """

    change: Method
    keeps: Callable[[State, State, State], bool]
    session_id: str = "s"


def nothing(before: State, after: State, found: State) -> bool:
    return found == before


def all_or_nothing(before: State, after: State, found: State) -> bool:
    return found in (before, after)


def some_of_the_source(before: State, after: State, found: State) -> bool:
    """Tell whether the copy's target has all that it had, and some of the source in its order."""
    source = [name for name, _ in before["s"]][::-1]
    target = [name for name, _ in found["t"]][::-1]
    kept = [name for name, _ in before["t"]][::-1]
    possible = [
        [name for name in kept if name not in some] + [*some]
        for count in range(len(source) + 1)
        for some in itertools.combinations(source, count)
    ]
    return target in possible and found | {"t": ()} == before | {"t": ()}


SCENARIOS: dict[str, Scenario] = {
    "save": Scenario(lambda writer: writer.save(step(3)), nothing),
    "save-first": Scenario(lambda writer: writer.save(step(0, "new")), nothing, "new"),
    "replace": Scenario(lambda writer: writer.save(step(1, resume_hint="again")), nothing),
    "replace-newest": Scenario(lambda writer: writer.save(step(2, resume_hint="again")), nothing),
    "delete": Scenario(lambda writer: writer.delete("s", "step-1"), all_or_nothing),
    "delete-newest": Scenario(lambda writer: writer.delete("s", "step-2"), all_or_nothing),
    "delete-session": Scenario(lambda writer: writer.delete_session("s"), all_or_nothing),
    "copy-session": Scenario(lambda writer: writer.copy_session("s", "t"), some_of_the_source, "t"),
}
scenario = pytest.mark.parametrize("name", SCENARIOS)


class Lab:
    """
    Runs a change again and again on copies of one store, each time with another fault.

    Args:
        directory: for the copies.
        options: of the writers.
        is_cold: whether the change is its writer's first call.
    """

    def __init__(self, directory: Path, options: dict[str, Any], *, is_cold: bool = False) -> None:
        self._template = directory / "template"
        self._root = directory / "root"
        self._options = {"max_backups": 1, "lock_timeout_seconds": 10, **options}
        self._is_cold = is_cold

    def _writer(self, root: Path, files: LocalFiles | None = None) -> Writer:
        return AsyncCheckpointWriter(root, files=files, **self._options)

    async def prepare(self) -> None:
        async with self._writer(self._template) as writer:
            for iteration in range(3):
                await writer.save(step(iteration))
            for iteration in (0, 7):
                await writer.save(step(iteration, "t"))

    async def _copied(self) -> None:
        await asyncio.to_thread(shutil.rmtree, self._root, ignore_errors=True)
        await asyncio.to_thread(shutil.copytree, self._template, self._root, symlinks=True)

    async def _seen(self) -> State:
        async with self._writer(self._root) as reader:
            return await state_of(reader)

    async def _opened(self, files: FaultyFiles) -> Writer:
        writer = self._writer(self._root, files)
        if not self._is_cold:
            await writer.load("s")
            await on_disk(writer)
        files.forget_calls()
        return writer

    async def each_call_fails(
        self,
        tried: Scenario,
        error_numbers: tuple[int, ...],
        fault: Fault,
        *,
        first: int = 0,
        every: int = 1,
    ) -> int:
        """
        Make calls of the change, and of the flush behind it, fail in turn, each with another error.

        Args:
            tried: the change.
            error_numbers: the errors.
            fault: how they fail.
            first: which of them fails first.
            every: which of them follow, as every second.

        Returns:
            how many calls the two make.
        """
        await self.prepare()
        await self._copied()
        before = await self._seen()
        disk = FaultyFiles()
        async with await self._opened(disk) as writer:
            await tried.change(writer)
            await on_disk(writer)
            count = len(disk.calls)
        after = await self._seen()
        assert before != after
        for nth in range(first, count, every):
            number = error_numbers[nth % len(error_numbers)]
            await self._once(tried, fault._replace(error_number=number, nth=nth), before, after)
        return count

    async def _once(self, tried: Scenario, fault: Fault, before: State, after: State) -> None:
        await self._copied()
        disk = FaultyFiles()
        async with await self._opened(disk) as writer:
            disk.arm(fault)
            refused = await raised_by(tried.change(writer))
            late = None if refused else await raised_by(on_disk(writer))
            failed = disk.failed[:1]
            disk.arm(None)
            case = f"{fault} at {failed}: {refused or late!r}"

            if error := refused or late:
                self._check_error(error, fault, failed[0].operation, failed[0].path, case)
            found = await self._seen()
            if not refused:
                assert found == after, (case, found)
            elif self._is_unknown(refused):
                assert tried.keeps(before, after, found) or found == after, (case, found)
            else:
                assert tried.keeps(before, after, found), (case, found)
            await on_disk(writer)
            assert await self._seen() == found, case
            assert await asyncio.to_thread(temporary_files, self._root) == [], case
            await self._goes_on(writer, tried.session_id, case)

    def _is_unknown(self, error: CheckpointError) -> bool:
        """Tell whether a change that failed may have been made: also one that waited for files."""
        return isinstance(error, DurabilityUnknownError) or self._options["durability"] == "file"

    def _check_error(
        self, error: CheckpointError, fault: Fault, operation: str, path: str, case: str
    ) -> None:
        assert isinstance(error, StorageError), case
        assert error.errno == fault.error_number, case
        assert isinstance(error.__cause__, OSError | StorageError), case
        assert str(self._root.parent) in str(error), case
        kind = type(error)
        if kind in (StorageError, StorageFullError):
            assert (kind is StorageFullError) == (fault.error_number in FULL), case
        if not fault.for_ever:
            assert (error.operation, error.path) == (operation, path), case

    async def _goes_on(self, writer: Writer, session_id: str, case: str) -> None:
        """Use the same writer on the healed disk, close it, and look for anything left over."""
        await writer.save(step(9, session_id))
        newest = await writer.load(session_id)
        assert newest is not None, case
        assert newest.iteration == 9, case
        await writer.aclose()
        async with self._writer(self._root) as checker:
            assert await checker.check() == (), case
        assert await asyncio.to_thread(temporary_files, self._root) == [], case


async def raised_by(work: Awaitable[object]) -> CheckpointError | None:
    """Return the error that some work ends with, None if it ends well."""
    try:
        await work
    except CheckpointError as error:
        return error
    return None


def slice_of(name: str, durability: dict[str, Any], *, every: int) -> dict[str, int]:
    """Return which calls of a scenario fail; those of the same calls elsewhere are others."""
    number = 2 * [*SCENARIOS].index(name) + (durability == SYNCED_FILES)
    return {"first": number * every // (2 * len(SCENARIOS)), "every": every}


def temporary_files(root: Path) -> list[Path]:
    """Return the temporary files of saves anywhere below a root."""
    return list(root.rglob(".tmp*"))


@pytest.mark.usefixtures("no_flushing")
class TestEachCallOfAChangeFails:
    @scenario
    @pytest.mark.some
    @pytest.mark.few(2)
    async def test_once(
        self,
        tmp_path: Path,
        durability: dict[str, Any],
        name: str,
    ) -> None:
        """A call that fails once is a named error and no harm."""
        lab = Lab(tmp_path, durability)

        # The calls are nearly the same in both durabilities and all scenarios: each tries others.
        count = await lab.each_call_fails(
            SCENARIOS[name], ERRORS, Fault(errno.EIO), **slice_of(name, durability, every=64)
        )

        assert count > 10

    @scenario
    @pytest.mark.some
    @pytest.mark.few(2)
    async def test_once_after_its_effect(
        self, tmp_path: Path, durability: dict[str, Any], name: str
    ) -> None:
        """A call that does its work and then fails is a named error and no harm either."""
        lab = Lab(tmp_path, durability)

        fault = Fault(errno.EIO, after_effect=True)
        await lab.each_call_fails(
            SCENARIOS[name], ERRORS, fault, **slice_of(name, durability, every=96)
        )

    @scenario
    @pytest.mark.some
    @pytest.mark.few(2)
    async def test_for_ever(self, tmp_path: Path, durability: dict[str, Any], name: str) -> None:
        """A disk that fails from some call on is a named error; once healed, all goes on."""
        lab = Lab(tmp_path, durability)

        fault = Fault(errno.EIO, for_ever=True)
        await lab.each_call_fails(
            SCENARIOS[name], ERRORS, fault, **slice_of(name, durability, every=96)
        )

    @scenario
    @pytest.mark.some
    @pytest.mark.few(2)
    async def test_once_in_the_first_call(
        self, tmp_path: Path, durability: dict[str, Any], name: str
    ) -> None:
        """The same holds for a writer whose first call it is."""
        lab = Lab(tmp_path, durability, is_cold=True)

        await lab.each_call_fails(
            SCENARIOS[name], ERRORS, Fault(errno.EIO), **slice_of(name, durability, every=96)
        )

    @pytest.mark.campaign
    @scenario
    @pytest.mark.parametrize("error_number", ERRORS, ids=errno.errorcode.get)
    @pytest.mark.parametrize("is_cold", [False, True], ids=["warm", "cold"])
    @pytest.mark.parametrize("after_effect", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for-ever"])
    async def test_every_way(
        self,
        tmp_path: Path,
        durability: dict[str, Any],
        name: str,
        error_number: int,
        *,
        is_cold: bool,
        after_effect: bool,
        for_ever: bool,
    ) -> None:
        """Every call with every error, before and after, once and for ever, warm and cold."""
        lab = Lab(tmp_path, durability, is_cold=is_cold)

        await lab.each_call_fails(
            SCENARIOS[name],
            (error_number,),
            Fault(error_number, after_effect=after_effect, for_ever=for_ever),
        )


READS: dict[str, Method] = {
    "load": lambda writer: writer.load("s"),
    "load-id": lambda writer: writer.load("s", "step-1"),
    "list": lambda writer: writer.list("s"),
    "check": AsyncCheckpointWriter.check,
}


def names_the_problem(answer: Any, expected: Any) -> bool:
    """Tell whether a listing is whole, and says of each line that is not right why."""
    return len(answer) == len(expected) and all(
        found == wanted or (found.problem and found.checkpoint_id == wanted.checkpoint_id)
        for found, wanted in zip(answer, expected, strict=True)
    )


class TestEachCallOfAReadFails:
    @pytest.mark.parametrize("name", READS)
    @pytest.mark.parametrize("is_cold", [False, True], ids=["warm", "cold"])
    @pytest.mark.parametrize(
        "every", [7, pytest.param(1, marks=pytest.mark.campaign)], ids=["some", "all"]
    )
    @pytest.mark.some
    async def test_named_error_then_the_right_answer(
        self, tmp_path: Path, durability: dict[str, Any], name: str, every: int, *, is_cold: bool
    ) -> None:
        """A read that fails raises or tells, changes nothing, and works the next time."""
        root = tmp_path / "root"
        async with AsyncCheckpointWriter(root, **durability) as writer:
            for iteration in range(3):
                await writer.save(step(iteration))
        before = await asyncio.to_thread(snapshot, root)

        async def read(fault: Fault | None) -> tuple[object, object, FaultyFiles]:
            disk = FaultyFiles()
            async with AsyncCheckpointWriter(root, files=disk, **durability) as writer:
                if not is_cold:
                    await writer.load("s")
                disk.forget_calls()
                disk.arm(fault)
                answer: object
                try:
                    answer = await READS[name](writer)
                except StorageError as error:
                    answer = (error.operation, error.path)
                calls = [(call.operation, call.path) for call in (disk.failed or disk.calls)]
                disk.arm(None)
                if fault is None:
                    return answer, len(calls), disk
                return answer, calls[0], disk

        expected, count, _ = await read(None)
        assert isinstance(count, int)
        assert count > 3
        first = (is_cold + (durability == SYNCED_FILES)) % every
        for nth in range(first, count, every):
            answer, failed, _ = await read(Fault(ERRORS[nth % len(ERRORS)], nth=nth))
            is_told = name == "check" or (name == "list" and names_the_problem(answer, expected))
            assert is_told or answer in (failed, expected), (nth, failed, answer)
            assert (await read(None))[0] == expected
        assert await asyncio.to_thread(snapshot, root) == before


class TestRecoverFails:
    @pytest.mark.parametrize("after_effect", [False, True], ids=["before", "after"])
    @pytest.mark.some
    @pytest.mark.few(1)
    async def test_loses_nothing_and_can_be_repeated(
        self, tmp_path: Path, durability: dict[str, Any], *, after_effect: bool
    ) -> None:
        """A recovery that fails anywhere loses no byte and no checkpoint; the next one ends it."""
        template, root = tmp_path / "template", tmp_path / "root"
        async with AsyncCheckpointWriter(template, max_backups=0, **durability) as writer:
            for iteration in range(3):
                await writer.save(step(iteration))
            kept = await writer.load("s", "step-1")

        def damage() -> list[bytes]:
            (oldest, _, newest) = checkpoint_files(template, "s")
            newest.write_bytes(b"damaged")
            oldest.write_bytes(b"damaged too")
            return file_contents(template / "s")

        contents = await asyncio.to_thread(damage)

        async def recover(fault: Fault | None) -> int:
            await asyncio.to_thread(shutil.rmtree, root, ignore_errors=True)
            await asyncio.to_thread(shutil.copytree, template, root, symlinks=True)
            disk = FaultyFiles(fault)
            async with AsyncCheckpointWriter(root, files=disk, **durability) as writer:
                with contextlib.suppress(StorageError):
                    await writer.recover("s")
                count = len(disk.calls)
                case = (fault, disk.failed[:1])
                disk.arm(None)
                assert set(contents) <= set(await asyncio.to_thread(file_contents, root)), case
                async with AsyncCheckpointWriter(root, **durability) as reader:
                    assert await reader.load("s", "step-1") == kept, case
                    with contextlib.suppress(CheckpointCorruptError):
                        assert await reader.load("s") == kept, case
                assert (await writer.recover("s")).newest_valid_id == "step-1", case
                assert await writer.load("s") == kept, case
                assert await writer.check() == (), case
            return count

        count = await recover(None)
        assert count > 20
        first = 2 * (durability == SYNCED_FILES) + after_effect
        for nth in range(3 * first, count, 12):
            await recover(Fault(ERRORS[nth % len(ERRORS)], nth=nth, after_effect=after_effect))


class Refusing(RefusingFiles):
    """
    A disk that refuses one operation on some paths.

    Attributes:
        part: what a path has that is refused; empty for none.
    """

    def __init__(self, operation: str, part: str, error_number: int) -> None:
        super().__init__(error_number)
        self.part = part
        self._operation = operation

    def is_refused(self, operation: str, path: str) -> bool:
        """Tell so of the operation, there."""
        return operation == self._operation and bool(self.part) and self.part in path


@pytest.mark.usefixtures("no_flushing")
class TestErrorsByKind:
    async def test_journal_sync_refuses_the_save(self, make_writer: MakeWriter) -> None:
        """A save whose sync failed is not there, and does not come back."""
        files = FaultyFiles()
        writer = make_writer(files=files, max_checkpoints=2)
        for iteration in range(2):
            await writer.save(step(iteration))
        files.arm(Fault(errno.EIO, "sync data"))

        with pytest.raises(StorageError) as refused:
            await writer.save(step(2))

        assert type(refused.value) is StorageError
        assert (refused.value.operation, refused.value.errno) == ("sync data", errno.EIO)
        for reader in (writer, make_writer()):
            assert [meta.iteration for meta in await reader.list("s")] == [1, 0]
        await writer.save(step(3))
        for reader in (writer, make_writer()):
            assert [meta.iteration for meta in await reader.list("s")] == [3, 1]

    async def test_journal_that_cannot_be_closed_leaves_the_outcome_unknown(
        self, make_writer: MakeWriter
    ) -> None:
        """Where not even the refusal can be made sure, the error says so."""
        files = FaultyFiles()
        writer = make_writer(files=files)
        await writer.save(step(0))
        files.arm(Fault(errno.EIO, "sync data", for_ever=True))

        with pytest.raises(DurabilityUnknownError, match="to see if it was made"):
            await writer.save(step(1))

        files.arm(None)
        await writer.save(step(2))
        found = [meta.iteration for meta in await make_writer().list("s")]
        assert found in ([2, 0], [2, 1, 0])

    @pytest.mark.parametrize("operation", ["sync file", "sync directory"])
    async def test_files_that_are_not_synced_are_written_anew(
        self, make_writer: MakeWriter, operation: str
    ) -> None:
        """A failed sync is final: before the next one the same content is written once more."""
        files = FaultyFiles()
        writer = make_writer(files=files, **SYNCED_FILES)
        await writer.save(step(0))
        files.forget_calls()
        files.arm(Fault(errno.EIO, operation))

        with pytest.raises(DurabilityUnknownError) as refused:
            await writer.save(step(1))

        assert (refused.value.operation, refused.value.errno) == (operation, errno.EIO)
        assert [meta.iteration for meta in await make_writer().list("s")] == [1, 0]
        await writer.save(step(2))
        assert [meta.iteration for meta in await writer.list("s")] == [2, 1, 0]
        kinds = [
            call.operation
            for call in files.calls
            if "/s/" in call.path and call.operation in ("create", "sync file", "sync directory")
        ]
        failed = kinds.index(operation)
        assert kinds[failed + 1 :].index("create") < kinds[failed + 1 :].index("sync file")

    async def test_what_cannot_be_removed_is_told_late(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """A superseded file that cannot be removed is listed no more, and is tried again."""
        files = FaultyFiles()
        writer = make_writer(files=files, max_checkpoints=2, max_backups=0)
        for iteration in range(2):
            await writer.save(step(iteration))
        await on_disk(writer)
        files.arm(Fault(errno.EACCES, "remove", for_ever=True))

        late = await raised_by(writer.save(step(2))) or await raised_by(on_disk(writer))

        assert isinstance(late, StorageError)
        assert (late.operation, late.errno) == ("remove", errno.EACCES)
        for reader in (writer, make_writer()):
            assert [meta.iteration for meta in await reader.list("s")] == [2, 1]
        assert len(await asyncio.to_thread(checkpoint_files, root, "s")) == 3
        files.arm(None)
        await on_disk(writer)
        assert len(await asyncio.to_thread(checkpoint_files, root, "s")) == 2

    async def test_error_keeps_its_cause(self, make_writer: MakeWriter) -> None:
        """The original `OSError` is the cause, for whoever needs more than the fields."""
        files = FaultyFiles()
        writer = make_writer(files=files)
        await writer.save(step(0))
        files.arm(Fault(errno.EIO, "write"))

        with pytest.raises(StorageError) as refused:
            await writer.save(step(1))

        assert isinstance(refused.value.__cause__, OSError)
        assert refused.value.__cause__.errno == errno.EIO
        assert refused.value.path in str(refused.value)

    @pytest.mark.parametrize("operation", ["create", "symlink"])
    async def test_temporary_file_of_a_late_failure_is_removed(
        self, make_writer: MakeWriter, root: Path, operation: str
    ) -> None:
        """Also a file that was made by a call that then failed does not stay behind."""
        files = FaultyFiles()
        writer = make_writer(files=files)
        await writer.save(step(0))
        await on_disk(writer)
        files.arm(Fault(errno.EIO, operation, after_effect=True))

        late = await raised_by(writer.save(step(1))) or await raised_by(on_disk(writer))

        assert isinstance(late, StorageError)
        await on_disk(writer)
        assert await asyncio.to_thread(temporary_files, root) == []

    async def test_first_failure_is_the_one_reported(self, make_writer: MakeWriter) -> None:
        """Where cleaning up fails as well, the error is of what failed first."""
        files = FaultyFiles()
        writer = make_writer(files=files)
        await writer.save(step(0))
        await on_disk(writer)
        files.arm(Fault(errno.EIO, "rename"))
        files.at("remove", lambda: files.arm(Fault(errno.EACCES, "remove")))

        late = await raised_by(writer.save(step(1))) or await raised_by(on_disk(writer))

        files.at("remove", lambda: None)
        files.arm(None)
        assert isinstance(late, StorageError)
        assert (late.operation, late.errno) == ("rename", errno.EIO)
        await on_disk(writer)

    async def test_session_whose_files_fail_fails_no_other(self, make_writer: MakeWriter) -> None:
        """Whoever waits for files of other sessions has them, however often one session's fail."""
        files = Refusing("rename", "/bad/", errno.EIO)
        writer = make_writer(files=files, **SYNCED_FILES)
        await writer.save(step(0, "good"))

        async def save(session_id: str, iteration: int) -> StorageError | str:
            try:
                return await writer.save(step(iteration, session_id))
            except StorageError as error:
                return error

        for iteration in range(1, 20):
            found = await asyncio.gather(
                *(save("good", iteration * 10 + number) for number in range(3)),
                save("bad", iteration),
                *(save("good", iteration * 10 + number) for number in range(3, 6)),
            )
            assert [one for one in found if isinstance(one, StorageError)] == [found[3]]
        assert files.refused > 0
        assert [meta.iteration for meta in await writer.list("bad")] == [1]
        files.part = ""
        await on_disk(writer)
        assert [meta.iteration for meta in await writer.list("bad")] == [1]

    async def test_journal_that_cannot_grow_ahead_is_nobodys_error(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """That a part of the journal could not be made in advance fails no call."""
        files = Refusing("write", "spare", errno.ENOSPC)
        writer = make_writer(files=files)

        for iteration in range(30):
            await writer.save(step(iteration, messages=["x" * 100_000]))
        await on_disk(writer)

        assert files.refused > 0
        assert len(await writer.list("s")) == 30
        assert not await asyncio.to_thread((root / ".aiocheckpoint" / "spare").exists)

    async def test_session_whose_files_fail_refuses_saves_by_name(
        self, make_writer: MakeWriter
    ) -> None:
        """While its files cannot be written a session takes no more saves; others do."""
        files = FaultyFiles()
        writer = make_writer(files=files)
        await writer.save(step(0, "other"))
        await on_disk(writer)
        files.arm(Fault(errno.EIO, "symlink", for_ever=True))
        await raised_by(writer.save(step(0)))
        await raised_by(on_disk(writer))

        for refusing in (writer, make_writer()):
            with pytest.raises(StorageError, match="earlier saves of the session wait") as refused:
                await refusing.save(step(1))
            assert (refused.value.operation, refused.value.errno) == ("symlink", errno.EIO)
        assert [meta.iteration for meta in await writer.list("s")] == [0]
        files.arm(None)
        await on_disk(writer)
        await writer.save(step(1))


SURVIVE = """
    import asyncio, errno, os, sys
    from aiocheckpoint import AsyncCheckpointWriter, CheckpointData
    from aiocheckpoint.testing import Fault, FaultyFiles

    async def main():
        disk = FaultyFiles()
        writer = AsyncCheckpointWriter(sys.argv[1], files=disk, durability=sys.argv[2])
        await writer.save(CheckpointData(session_id="s"))
        disk.arm(Fault(errno.EIO, sys.argv[3]))
        for turn in range(2):
            saving = asyncio.ensure_future(writer.save(CheckpointData(session_id="s")))
            done, _ = await asyncio.wait({saving}, timeout=10)
            if not done:
                print("hangs", flush=True)
                os._exit(0)  # it cannot be cancelled either
            error = saving.exception()
            assert error is None, error
        await writer.aclose()
        print("goes on")

    asyncio.run(main())
"""


class TestWriterSurvives:
    @pytest.mark.parametrize("operation", ["unlock", "close"])
    def test_failing_release(
        self,
        root: Path,
        durability: dict[str, Any],
        operation: str,
    ) -> None:
        """A failure after all is done ends neither the call nor the writer."""
        name = durability.get("durability", "journal")
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(SURVIVE), str(root), name, operation],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

        assert (done.returncode, done.stdout.split("\n")[0]) == (0, "goes on"), done.stderr


class NoMoreSyncs(FaultyFiles):
    """
    A disk that some time begins to refuse every sync.

    Attributes:
        refuses: whether it does.
    """

    refuses = False

    def call(self, operation: str, path: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        if self.refuses and operation.startswith("sync"):
            return super().call(operation, path, self._refuse)
        return super().call(operation, path, function, *args, **kwargs)

    def _refuse(self) -> None:
        raise OSError(errno.EIO, "injected")


class TestClosingOnABadDisk:
    async def test_acknowledged_saves_outlive_it(
        self, make_writer: MakeWriter, root: Path, durability: dict[str, Any]
    ) -> None:
        """A close whose last syncs fail loses nothing, and the next writer finds all."""
        files = NoMoreSyncs()
        writer = AsyncCheckpointWriter(root, files=files, **durability)
        for iteration in range(3):
            await writer.save(step(iteration))
        files.refuses = True

        with contextlib.suppress(StorageError):
            await writer.aclose()

        survivor = make_writer()
        assert [meta.iteration for meta in await survivor.list("s")] == [2, 1, 0]
        await on_disk(survivor)
        assert [meta.iteration for meta in await survivor.list("s")] == [2, 1, 0]

    @pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc to list descriptors")
    async def test_descriptors_are_released(
        self,
        root: Path,
        durability: dict[str, Any],
        tmp_path: Path,
    ) -> None:
        """Also a close that fails leaves no descriptor, and with it no lock, behind."""
        files = NoMoreSyncs()
        writer = AsyncCheckpointWriter(root, files=files, **durability)
        await writer.save(step(0))
        files.refuses = True

        with contextlib.suppress(StorageError):
            await writer.aclose()

        assert await asyncio.to_thread(descriptors_below, tmp_path) == []

    @pytest.mark.some(1)
    async def test_failed_flush_is_made_up_for(self, make_writer: MakeWriter) -> None:
        """Saves go on after a flushing that failed in the background, for a while or once."""
        files = NoMoreSyncs()
        writer = make_writer(files=files, max_journal_bytes=1, lock_timeout_seconds=0.2)

        for iteration in range(20):
            files.refuses = iteration % 3 == 1
            with contextlib.suppress(StorageError):
                await writer.save(step(iteration))
        files.refuses = False
        await on_disk(writer)
        await writer.save(step(20))

        newest = await make_writer().load("s")
        assert newest is not None
        assert newest.iteration == 20


def descriptors_below(directory: Path) -> list[str]:
    """Return what is open below a directory."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return [path for path in found if path.startswith(str(directory))]


@pytest.mark.usefixtures("no_flushing")
class TestFailedSaveThenAPowerCut:
    """Of a journaling writer, which says in the journal what a save replaces."""

    @pytest.fixture(name="durability")
    def _durability(self) -> dict[str, Any]:
        return {"durability": "journal"}

    @pytest.mark.parametrize("operation", ["write", "sync data"])
    async def test_what_it_would_have_replaced_is_still_there(
        self, make_writer: MakeWriter, root: Path, tmp_path: Path, operation: str
    ) -> None:
        """A replacing save that failed does not take the old one with it when the power goes."""
        files = FaultyFiles()
        writer = make_writer(files=files)
        await writer.save(step(0))
        await writer.save(step(1, resume_hint="acknowledged"))
        files.arm(Fault(errno.EIO, operation))
        with pytest.raises(StorageError):
            await writer.save(step(1, resume_hint="refused"))
        files.arm(None)
        await writer.save(step(2))

        copy = tmp_path / "after"
        await asyncio.to_thread(shutil.copytree, root, copy, symlinks=True)

        survivor = make_writer(copy)
        loaded = await survivor.load("s", "step-1")
        assert loaded is not None
        assert loaded.resume_hint == "acknowledged"
        assert [meta.iteration for meta in await survivor.list("s")] == [2, 1, 0]

    @pytest.mark.parametrize("operation", ["write", "sync data"])
    async def test_nothing_of_a_deleted_session_comes_back(
        self, make_writer: MakeWriter, root: Path, tmp_path: Path, operation: str
    ) -> None:
        """A save that failed is not in a session that was deleted after it, empty as it was."""
        files = FaultyFiles()
        writer = make_writer(files=files)
        await writer.save(step(1, session_id="other"))
        files.arm(Fault(errno.EIO, operation))
        with pytest.raises(StorageError):
            await writer.save(step(1))
        files.arm(None)
        assert await writer.delete_session("s") is False

        copy = tmp_path / "after"
        await asyncio.to_thread(shutil.copytree, root, copy, symlinks=True)

        assert await make_writer(copy).load("s") is None


class TestShortTransfers:
    async def test_pieces_are_put_together(self, make_writer: MakeWriter) -> None:
        """A kernel that writes and reads a piece at a time changes nothing."""
        files = FaultyFiles()
        files.largest_transfer_bytes = 5_000
        writer = make_writer(files=files)
        data = step(1, messages=["é" * 20_000])

        await writer.save(data)

        assert await make_writer(files=files).load("s") == data
        await on_disk(writer)
        assert await make_writer(files=files).load("s") == data
        assert await make_writer().load("s") == data
        assert files.count("write") > 10

    async def test_write_of_nothing_is_an_error(self, make_writer: MakeWriter) -> None:
        """A kernel that writes 0 bytes is not asked for ever."""
        files = FaultyFiles()
        writer = make_writer(files=files)
        await writer.save(step(0))
        files.largest_transfer_bytes = 0

        with pytest.raises(StorageError) as refused:
            await writer.save(step(1))

        assert refused.value.operation == "write"
        files.largest_transfer_bytes = None
        newest = await make_writer().load("s")
        assert newest is not None
        assert newest.iteration == 0
        await writer.save(step(1))


class TestRootThatCannotBe:
    @pytest.mark.parametrize("below", ["", "state", "a/b"])
    async def test_file_in_the_way(
        self, make_writer: MakeWriter, tmp_path: Path, below: str
    ) -> None:
        """A root that is a file, or below one, is named by every method, and the file is kept."""
        file = tmp_path / "file"
        await asyncio.to_thread(file.write_bytes, b"content")
        writer = make_writer(file / below)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: writer.save(step(0)), lambda: writer.load("s"), lambda: writer.list("s"),
            lambda: writer.delete("s", "x"), lambda: writer.delete_session("s"),
            lambda: writer.copy_session("s", "t"), lambda: writer.recover("s"),
            writer.check,
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(StorageError) as refused:
                await call()
            assert refused.value.errno in (errno.ENOTDIR, errno.EEXIST)
            assert refused.value.path.startswith(str(file))
        assert await asyncio.to_thread(file.read_bytes) == b"content"

    async def test_symlink_to_nothing(self, make_writer: MakeWriter, tmp_path: Path) -> None:
        """A root that is a dangling symlink is a named error for a save, not a new directory."""
        link = tmp_path / "link"
        await asyncio.to_thread(link.symlink_to, tmp_path / "nothing")

        with pytest.raises(StorageError) as refused:
            await make_writer(link).save(step(0))

        assert refused.value.path == str(link)
        assert not await asyncio.to_thread((tmp_path / "nothing").exists)

    async def test_symlink_to_a_directory(self, make_writer: MakeWriter, tmp_path: Path) -> None:
        """A root may be a symlink to a directory."""
        directory, link = tmp_path / "directory", tmp_path / "link"
        await asyncio.to_thread(directory.mkdir)
        await asyncio.to_thread(link.symlink_to, directory)
        writer = make_writer(link)

        await writer.save(step(0))

        assert await make_writer(directory).load("s") is not None

    async def test_root_that_disappears(self, root: Path, durability: dict[str, Any]) -> None:
        """Where the root is removed under a writer, a save works or is a named error."""
        writer = AsyncCheckpointWriter(root, **durability)
        await writer.save(step(0))
        await asyncio.to_thread(remove, root)

        data = step(1)
        with contextlib.suppress(StorageError):
            await writer.save(data)
            async with AsyncCheckpointWriter(root, **durability) as reader:
                assert await reader.load("s") == data
        with contextlib.suppress(StorageError):
            await writer.aclose()


READ_ONLY = """
    import asyncio, sys
    from pathlib import Path
    from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, StorageError

    async def main():
        root, durability = sys.argv[1:]
        async with AsyncCheckpointWriter(root, durability=durability) as writer:
            for name in ("old", "new"):
                await writer.save(CheckpointData(session_id="s", checkpoint_id=name))
        paths = [path for path in sorted(Path(root).rglob("*")) if not path.is_symlink()]
        for path in reversed([Path(root), *paths]):
            path.chmod(0o500 if path.is_dir() else 0o400)
        async with AsyncCheckpointWriter(root, durability=durability) as writer:
            (newest, older) = await writer.list("s")
            print((await writer.load("s")).checkpoint_id, await writer.verify(newest.path))
            print([session async for session in writer.sessions()], await writer.check())
            for call in (
                lambda: writer.save(CheckpointData(session_id="s")),
                lambda: writer.save(CheckpointData(session_id="new")),
                lambda: writer.delete("s", "old"),
                lambda: writer.delete_session("s"),
                lambda: writer.copy_session("s", "t"),
            ):
                try:
                    await call()
                except StorageError as error:
                    print(error.errno, error.path.startswith(root))
                else:
                    print("no error")
            print((await writer.load("s")).checkpoint_id, len(await writer.list("s")))
            for path in [Path(root), *paths]:
                path.chmod(0o700)
            await writer.save(CheckpointData(session_id="s", checkpoint_id="newer"))
            print((await writer.load("s")).checkpoint_id)

    asyncio.run(main())
"""


class TestReadOnly:
    def test_reads_work_and_changes_are_refused(
        self, root: Path, durability: dict[str, Any]
    ) -> None:
        """A directory without permission to write is read as ever, and changed by nobody."""
        lines = unprivileged(READ_ONLY, str(root), durability.get("durability", "journal"))

        assert lines == [
            "new True", "['s'] ()", *[f"{errno.EACCES} True"] * 5, "new 2", "newer",
        ]  # fmt: skip
