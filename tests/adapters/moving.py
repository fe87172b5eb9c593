"""What all that moves sessions here from a framework's own store promises: subclass it."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from abc import abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest

from aiocheckpoint import StorageFullError, open_store
from aiocheckpoint.adapters._moving import Copied, CopyMismatchError
from aiocheckpoint.testing import MemoryStore
from tests.adapters.damages import DAMAGES, Place, as_killed, digests


class _FailingStore(MemoryStore[Any]):
    """A store that fails after some changes, as its disk is full, unless it says something else."""

    changes_left: int | None = None
    error: Exception = StorageFullError("save", "memory:", errno.ENOSPC, "no space left")

    def _count(self) -> None:
        if self.changes_left is not None:
            if not self.changes_left:
                raise self.error
            self.changes_left -= 1

    async def save(self, data: Any, /, **options: Any) -> Any:
        self._count()
        return await super().save(data, **options)

    async def update(self, session_id: Any, work: Any, /) -> Any:
        self._count()
        return await super().update(session_id, work)

    async def update_many(self, session_ids: Any, work: Any, /) -> Any:
        self._count()
        return await super().update_many(session_ids, work)


_TELLING = ("mend or delete", "cannot save", "invalid ")


class _Tried(NamedTuple):
    copied: Copied
    refused: dict[str | None, str]


class MoverContract:
    """The tests of a mover; a subclass has a fixture `source`, of at least two sessions."""

    record_type: ClassVar[Any]
    main: ClassVar[Callable[[list[str]], None]]
    refused: ClassVar[str]
    """The session that `go_on` changes, as errors name it; not the last one that is copied."""
    unit: ClassVar[str] = "session"
    """What the framework calls it."""
    shares: ClassVar[bool] = False
    """Whether something of a session is stored with others, as what it has in common with them."""
    refused_sessions: ClassVar[int] = 1
    """As how many it counts, where it has others within."""

    units: ClassVar[dict[str, int]]
    """All that may be refused, as errors name it, and as how many sessions each counts."""

    @abstractmethod
    async def copy(self, source: Any, storage: Any) -> Copied:
        """Copy."""

    @abstractmethod
    async def go_on(self, storage: Any) -> None:
        """Store something else in the session that is to be refused, by the framework's call."""

    @abstractmethod
    async def add_nan(self, source: Any) -> None:
        """Store a session with a NaN in the source, by the framework's call."""

    @abstractmethod
    def places(self, source: Any) -> Iterable[Place]:
        """Return what may be damaged of a session in the source, each column or file once."""

    def arguments(self, source: Any) -> list[str]:
        """Return what the command is given in front of the storage."""
        return [str(source)]

    async def test_what_is_refused_stops_no_other(self, source: Any) -> None:
        """A session with which the target has gone on is refused whole, and all others come."""
        whole: MemoryStore[Any] = MemoryStore(self.record_type)
        total = await self.copy(source, whole)
        store: MemoryStore[Any] = MemoryStore(self.record_type)
        await self.go_on(store)
        mine = await _content(store)

        for _ in range(2):
            with pytest.raises(CopyMismatchError) as refused:
                await self.copy(source, store)
            error = refused.value
            assert [failure.session_id for failure in error.failures] == [self.refused]
            text = str(error)
            assert f"{self.unit} {self.refused!r}: " in text
            assert "find out which of the two is the newer before you change either" in text
            assert text.endswith("\n1 refused, and all others are there")
            assert error.copied.sessions == total.sessions - self.refused_sessions
            after = await _content(store)
            assert after.items() >= mine.items()
            assert after.keys() <= (await _content(whole)).keys()

    async def test_a_nan_is_the_same_after_the_copy(self, source: Any) -> None:
        """A session with a value that does not equal itself is compared, and may come again."""
        store: MemoryStore[Any] = MemoryStore(self.record_type)
        before = await self.copy(source, store)
        await self.add_nan(source)

        after = await self.copy(source, store)

        assert after.sessions == before.sessions + 1
        assert await self.copy(source, store) == after

    async def test_the_source_is_not_changed(self, source: Any, root: Path) -> None:
        """Each of its files is as it was, also what a process that was killed has left."""
        if not isinstance(source, Path):
            pytest.skip("the source is in memory")
        if source.is_file():
            source = as_killed(source)
        before = digests(source)

        await self.copy(source, MemoryStore[Any](self.record_type))
        await asyncio.to_thread(type(self).main, [*self.arguments(source), str(root)])

        assert digests(source) == before

    @pytest.mark.parametrize("damage", DAMAGES)
    async def test_damage_in_the_source_stops_no_other(self, source: Any, damage: str) -> None:
        """What cannot be read is refused by name, and comes once it is mended; all others come."""
        whole: MemoryStore[Any] = MemoryStore(self.record_type)
        total = await self.copy(source, whole)
        content = await _content(whole)
        for place in self.places(source):
            for damaged in place.damaged(damage):
                store: MemoryStore[Any] = MemoryStore(self.record_type)
                with damaged:
                    tried = await self._tried(source, store)
                about = f"{place.name}: {tried}"[:1000]
                healthy = self.units.keys() - place.units
                assert not tried.refused.keys() & healthy, about
                if None in tried.refused:  # it may be of any
                    assert not await _content(store), about
                    continue
                least = sum(self.units[unit] for unit in healthy)
                assert tried.copied.sessions >= least, about
                for reason in tried.refused.values():
                    assert any(word in reason for word in _TELLING), about
                    assert len(reason) < 2000, about
                there = await _content(store)
                mended = await self._tried(source, store)
                if tried.refused.keys() & place.units:
                    assert self.shares or there.items() <= content.items(), about
                    assert mended == _Tried(total, {}), about
                assert mended.refused.keys() <= place.units, about

    async def _tried(self, source: Any, store: MemoryStore[Any]) -> _Tried:
        try:
            return _Tried(await self.copy(source, store), {})
        except CopyMismatchError as error:
            reasons = {failure.session_id: failure.reason for failure in error.failures}
            return _Tried(error.copied, reasons)

    @pytest.mark.damages_store
    async def test_damage_in_the_target_is_told_with_its_session(self, source: Any) -> None:
        """A session that is damaged there is refused by name, and all others are compared."""
        store: MemoryStore[Any] = MemoryStore(self.record_type)
        total = await self.copy(source, store)
        damaged = min([session async for session in store.sessions()])
        for checkpoint_id in await store.ids(damaged):
            store.damage(damaged, checkpoint_id)

        with pytest.raises(CopyMismatchError, match="damaged") as refused:
            await self.copy(source, store)

        failures = refused.value.failures
        assert 1 <= len(failures) < total.sessions
        lost = sum(self.units[str(failure.session_id)] for failure in failures)
        assert refused.value.copied.sessions + lost <= total.sessions

    async def test_a_copy_that_was_cut_off_goes_on(self, source: Any) -> None:
        """Wherever the target refuses, as it is full, the next copy completes what is there."""
        whole: MemoryStore[Any] = MemoryStore(self.record_type)
        total = await self.copy(source, whole)
        for changes in range(1000):
            store = _FailingStore(self.record_type)
            store.changes_left = changes
            try:
                await self.copy(source, store)
            except StorageFullError:
                store.changes_left = None
                assert await self.copy(source, store) == total
                assert (await _content(store)).keys() == (await _content(whole)).keys()
            else:
                break
        assert changes > 1

    @pytest.mark.parametrize("kind", [KeyError, ValueError, OSError, sqlite3.OperationalError])
    async def test_a_fault_here_is_not_told_as_one_of_the_source(
        self, source: Any, kind: type[Exception]
    ) -> None:
        """What the source may raise where it cannot be read, ends the copy if the target does."""
        store = _FailingStore(self.record_type)
        store.changes_left, store.error = 0, kind("a fault of the target")
        with pytest.raises(kind, match="a fault of the target"):
            await self.copy(source, store)

    async def test_the_command_lists_what_it_refuses(
        self, source: Any, root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It exits with 1, names each session that was refused, and says how much is there."""
        async with open_store(root, record_type=self.record_type) as store:
            await self.go_on(store)
        main = type(self).main
        with pytest.raises(SystemExit) as ended:
            await asyncio.to_thread(main, [*self.arguments(source), str(root)])
        assert ended.value.code == 1
        told = capsys.readouterr()
        assert told.out == ""
        first, *_, last_but_one, last = told.err.splitlines()
        assert first.startswith(f"{self.unit} {self.refused!r}: ")
        assert last_but_one == "1 refused, and all others are there:"
        assert last.endswith(" copied and compared")


async def _content(store: MemoryStore[Any]) -> dict[str, Any]:
    """Return the sessions, and what they hold that is the same for each copy."""
    return {session: await store.ids(session) async for session in store.sessions()}
