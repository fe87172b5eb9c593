"""What every adapter promises, whatever its framework calls a session: subclass it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    BlobStore,
    CheckpointCorruptError,
    CheckpointError,
    CheckpointRecord,
    RawRecord,
    open_store,
)
from aiocheckpoint.cli import main
from aiocheckpoint.kit import encode_id, framework_of
from aiocheckpoint.testing import MemoryStore
from tests.adapters.lists import Lists
from tests.adapters.odd import OddArguments
from tests.adapters.rough import RoughHandling

IDS = ("plain", "a/b", "..", ".", "Ünï ☃", "a\nb", "%2e", "x" * 300, "a\0b", "ä" * 5000)

_SESSION = "shop/s/latest"  # of parts, as the keys of one of them
_OTHER = "shop/other/latest"


class Neighbour(CheckpointRecord, tag="neighbour.Neighbour"):
    """What another adapter stores, or the application."""


class AdapterContract(Lists, OddArguments, RoughHandling):
    """The tests of an adapter that hold for all of them; `AdapterCase` says what to give."""

    async def test_what_is_stored_is_there_for_the_next(self, storage: Any) -> None:
        """Another object on the storage has what one stored, beside it and after it was closed."""
        async with self.opened(storage) as one, self.opened(storage) as two:
            for number in range(40):
                await self.add((one, two)[number % 2], "s", f"text {number}")
                assert (await self.texts(two, "s"))[-1] == f"text {number}"
        async with self.opened(storage) as after:
            assert await self.texts(after, "s") == [f"text {number}" for number in range(40)]

    async def test_any_text_is_a_session(self, storage: Any) -> None:
        """Sessions are apart, whatever their ids look like."""
        async with self.opened(storage) as adapter:
            for session in IDS:
                await self.add(adapter, session, f"of {session!r}")
            for session in IDS:
                assert await self.texts(adapter, session) == [f"of {session!r}"]

    @pytest.mark.parametrize("kind", ["directory", "open store", "memory"])
    async def test_shares_a_storage_with_others(self, root: Path, kind: str) -> None:
        """Others may have the same sessions and ids: none finds or changes what is theirs."""
        both = self.record_type | Neighbour
        others: BlobStore[Any] = (
            MemoryStore(both)
            if kind == "memory"
            else open_store(root, record_type=both if kind == "open store" else Neighbour)
        )
        places = [(session, it) async for session, it in self._places()]
        async with others:
            for session, checkpoint_id in places:
                await others.save(Neighbour(session_id=session, checkpoint_id=checkpoint_id))
            async with self.opened(root if kind == "directory" else others) as adapter:
                assert await self.texts(adapter, "s") == []
                assert await self.listed(adapter) == []
                for number in range(40):
                    await self.add(adapter, "s", f"text {number}")
                assert await self.texts(adapter, "s") == [f"text {number}" for number in range(40)]
                listed = await self.listed(adapter)
            for session, checkpoint_id in places:
                assert isinstance(await others.load(session, checkpoint_id), Neighbour)

            async with self.opened(root if kind == "directory" else others) as after:
                assert await self.texts(after, "s") == [f"text {number}" for number in range(40)]
                assert await self.listed(after) == listed

    async def _places(self) -> AsyncIterator[tuple[str, str]]:
        """Yield where the adapter stores its records, without what tells them from others'."""
        alone: MemoryStore[Any] = MemoryStore(self.record_type)
        async with self.opened(alone) as adapter:
            for number in range(20):
                await self.add(adapter, "s", f"text {number}")
                async for session in alone.sessions():
                    for checkpoint_id in await alone.ids(session):
                        record: Any = await alone.load(session, checkpoint_id)
                        own, _, _ = type(record).__struct_config__.tag.partition(".")
                        for name in ("s", session.removeprefix(f"{own}.")):
                            yield name, checkpoint_id

    async def test_large_texts(self, storage: Any) -> None:
        """4 MB of one text come back, and what follows them."""
        large = "word " * 800_000
        async with self.opened(storage) as adapter:
            await self.add(adapter, "s", large)
            await self.add(adapter, "s", "small")
            assert await self.texts(adapter, "s") == [large, "small"]

    @pytest.mark.parametrize("suspensions", [0, 1, 2, 3, 5, 8, 13])
    async def test_cancelled_call_has_an_outcome(self, storage: Any, suspensions: int) -> None:
        """Wherever it is cancelled, it took place as a whole or not at all once it has ended."""
        async with self.opened(storage) as adapter:
            await self.add(adapter, "s", "one")
            task = asyncio.ensure_future(self.add(adapter, "s", "two"))
            for _ in range(suspensions):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

            found = await self.texts(adapter, "s")
            assert found in (["one"], ["one", "two"])
            if not task.cancelled():
                assert task.exception() is None
                assert found == ["one", "two"]
            await self.add(adapter, "s", "three")
            assert await self.texts(adapter, "s") == [*found, "three"]

    @pytest.mark.blocking
    def test_loops_in_turn(self, root: Path) -> None:
        """What one event loop stored is there for the next, in other threads too."""

        async def add(text: str) -> None:
            async with self.opened(root) as adapter:
                await self.add(adapter, "s", text)

        asyncio.run(add("one"))
        thread = threading.Thread(target=asyncio.run, args=(add("two"),))
        thread.start()
        thread.join()

        async def texts() -> list[str]:
            async with self.opened(root) as adapter:
                return await self.texts(adapter, "s")

        assert asyncio.run(texts()) == ["one", "two"]

    @pytest.mark.blocking
    async def test_many_objects_cost_one_writer(self, root: Path) -> None:
        """100 objects on one directory take one writer, and a descriptor each of a session."""
        adapters = [self.opened(root) for _ in range(100)]
        async with adapters[0] as first:
            await self.add(first, "s0", "text")
            await self.texts(first, "s0")
            threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
            for number, manager in enumerate(adapters[1:], 1):
                adapter = await manager.__aenter__()
                await self.add(adapter, f"s{number}", "text")
                await self.texts(adapter, f"s{number}")

            assert threading.active_count() <= threads + 16  # of pools that had not grown yet
            assert len(os.listdir("/proc/self/fd")) <= descriptors + 4 * len(adapters)
            for manager in adapters[1:]:
                await manager.__aexit__(None, None, None)

    @pytest.mark.damages_store
    @pytest.mark.blocking
    @pytest.mark.parametrize("removed", [False, True], ids=["damaged", "removed"])
    async def test_lost_file_is_never_a_shorter_session(self, root: Path, removed: bool) -> None:
        """
        Whichever file is damaged or removed, a read raises by name, or all is there.

        A file that is removed counts as deleted: the session may be gone as a whole with its only
        record, or the last text with the newest one. Of several records that are left none makes
        it an empty session.
        """
        async with self.opened(root) as adapter:
            for number in range(40):
                await self.add(adapter, "s", f"{number} " + "word " * 600)
        whole = await self._reread(root)
        assert len(whole) == 40
        right = [whole]
        if removed:
            right += [whole[:-1] if await _has_several_records(root) else []]
        raised = 0
        for path in _files(root):
            content = path.read_bytes()
            if removed:
                path.unlink()
            else:
                path.write_bytes(_damaged(content))
            try:
                assert await self._reread(root) in right, path
            except CheckpointError:
                raised += 1
            path.write_bytes(content)

        assert await self._reread(root) == whole
        is_one_record = len([*_files(root)]) == 1
        assert raised > 0 or (removed and is_one_record)

    @pytest.mark.damages_store
    @pytest.mark.blocking
    @pytest.mark.parametrize("removed", [False, True], ids=["damaged", "removed"])
    async def test_damage_names_the_session(self, root: Path, removed: bool) -> None:
        """Whoever reads the error knows which of the framework's sessions it is about."""
        async with self.opened(root) as adapter:
            for number in range(6):
                await self.add(adapter, "Ünï/42", f"{number} " + "word " * 600)
        messages = []
        for path in _files(root):
            content = path.read_bytes()
            path.unlink()
            if not removed:
                path.write_bytes(_damaged(content))
            try:
                async with self.opened(root) as adapter:
                    await self.texts(adapter, "Ünï/42")
            except CheckpointError as error:
                messages.append(str(error))
            path.write_bytes(content)
        assert messages or removed
        assert [message for message in messages if "Ünï/42" not in message] == []

    @pytest.mark.damages_store
    @pytest.mark.blocking
    @pytest.mark.parametrize("part", [0, -1], ids=["first file", "newest record"])
    @pytest.mark.parametrize("anyway", [False, True], ids=["as advised", "anyway"])
    async def test_way_back_is_as_it_is_told(
        self, root: Path, part: int, anyway: bool, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """
        What is damaged is told until somebody lets go of it knowingly, and concerns no other.

        `recover` moves nothing that the session cannot go on without, unless it is told to; a
        session whose records are whole states goes on from an earlier one.
        """
        async with self.opened(root) as adapter:
            for number in range(20):
                await self.add(adapter, _SESSION, f"{number} " + "word " * 600)
            async with open_store(root) as store:
                (name,) = [name async for name in store.sessions()]
            whole = await self.texts(adapter, _SESSION)
            await self.add(adapter, _OTHER, "text")
            others = [it for it in await self.listed(adapter) if it == _OTHER]
        path = [*_files(root / encode_id(name, "session id"))][part]
        path.write_bytes(_damaged(path.read_bytes()))
        framework = framework_of(name)
        with pytest.raises(CheckpointCorruptError) as told:
            await self._reread(root, _SESSION)
        options = ["--anyway"] if anyway else []

        status = await asyncio.to_thread(main, ["recover", *options, str(root), name])

        output, errors = capfd.readouterr()
        if framework is None:
            left = await self._reread(root, _SESSION)
            assert status == (0 if left else 1)
            assert ("goes on from" in output) == bool(left)
            assert left == whole[: len(left)] != whole
        elif anyway:
            assert status == 1
            assert "lost to" in output or "no intact checkpoint is left" in output
            with contextlib.suppress(CheckpointCorruptError):
                left = await self._reread(root, _SESSION)
                assert left == whole[: len(left)] != whole
        else:
            assert status == 1
            assert "nothing was moved" in errors
            assert framework.advice in str(told.value)
            assert framework.name in errors
            with pytest.raises(CheckpointCorruptError, match=re.escape(framework.advice)):
                await self._reread(root, _SESSION)
            await self.give_up(root, _SESSION)
            assert await self._reread(root, _SESSION) == []
        async with self.opened(root) as adapter:
            assert await self.texts(adapter, _OTHER) == ["text"]
            assert [it for it in await self.listed(adapter) if it == _OTHER] == others
            if framework is not None and not anyway:
                assert _SESSION not in await self.listed(adapter)
                await self.add(adapter, _SESSION, "anew")
                assert await self.texts(adapter, _SESSION) == ["anew"]

    async def _reread(self, root: Path, session: str = "s") -> list[str]:
        async with self.opened(root) as adapter:
            return await self.texts(adapter, session)


async def _has_several_records(root: Path) -> bool:
    async with open_store(root, record_type=RawRecord) as store:
        counts = [len(await store.ids(session)) async for session in store.sessions()]
    return sum(counts) > 1


def _files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        inside = path.is_file() and not path.is_symlink()
        if inside and ".aiocheckpoint" not in path.parts and path.suffix != ".backup":
            yield path


def _damaged(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
