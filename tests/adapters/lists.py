"""Lists of what adapters keep, some of which cannot be read."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from aiocheckpoint import CheckpointError, CheckpointRecord, LostIdError, StorageError, open_store
from aiocheckpoint.writer import DEFAULT_MAX_BYTES
from tests.adapters.case import AdapterCase

_INTACT = ("shop/one/latest", "shop/three/latest")
_BAD = "shop/two/latest"
_LONG = f"shop/{'x' * 300}/latest"  # whose name is a digest

Told = Mapping[str, str | None]


class Stranger(CheckpointRecord, tag="stranger.Stranger"):
    """What no adapter knows."""


def _flip(path: Path) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def _enlarge(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(DEFAULT_MAX_BYTES + 1)


def _block(path: Path) -> None:
    path.unlink()
    path.mkdir()


_WAYS: Mapping[str, Callable[[Path], None]] = {
    "damaged": _flip,
    "over max_bytes": _enlarge,
    "unreadable": _block,
}


class Lists(AdapterCase):
    """
    What cannot be read is never invisible in a list, and hides nothing else.

    A subclass whose framework lists something says so by `list_all` and `told_by`; what is listed
    is a session each, unless `make` and `open_one` say otherwise.
    """

    tells_problems: ClassVar[bool] = True
    """Whether what the framework lists may say that it cannot be read, not its name alone."""

    lists_sessions: ClassVar[bool] = True
    """Whether each thing that is listed is a session of the store."""

    async def list_all(self, adapter: Any) -> Any:
        """Return what the framework's own call lists."""
        raise NotImplementedError

    def told_by(self, listed: Any) -> Told:
        """Return the names in a list, each with what it says is wrong with it."""
        raise NotImplementedError

    async def make(self, adapter: Any, name: str) -> None:
        """Store something that is listed by this name."""
        await self.add(adapter, name, "text")

    async def open_one(self, adapter: Any, name: str) -> None:
        """Read it, by the framework's own call."""
        await self.texts(adapter, name)

    @pytest.fixture(autouse=True)
    def _has_lists(self, request: pytest.FixtureRequest) -> None:
        own = type(self).list_all is not Lists.list_all
        if not own and getattr(Lists, request.function.__name__, None) is not None:
            pytest.skip("the framework lists nothing")

    @pytest.mark.damages_store
    @pytest.mark.blocking
    @pytest.mark.parametrize("way", _WAYS)
    async def test_what_cannot_be_read_is_listed(self, root: Path, way: str) -> None:
        """It is named, with what is wrong, its opening raises, and all others are as ever."""
        paths = await self._filled(root)
        told: list[str | None] = []
        for path in paths:
            kept = root.parent / "kept"
            shutil.copy2(path, kept)
            _WAYS[way](path)
            async with self.opened(root) as adapter:
                problem = await self._problem(adapter)
                told.append(problem)
                if problem is not None:
                    with pytest.raises(CheckpointError):
                        await self.open_one(adapter, _BAD)
            if path.is_dir():
                path.rmdir()
            shutil.move(kept, path)
        assert any(told) == self.tells_problems
        async with self.opened(root) as adapter:
            assert await self._problem(adapter) is None

    @pytest.mark.blocking
    @pytest.mark.parametrize("kind", ["directory", "postgresql", "bucket"])
    async def test_what_is_of_another_type_is_listed(self, location: Any) -> None:
        """So is what a stranger has written in its place, in whatever store."""
        async with self.opened(location) as adapter:
            await self.make(adapter, _INTACT[0])
            await self.make(adapter, _INTACT[1])
            before = await _sessions(location)
            await self.make(adapter, _BAD)
        sessions = await _sessions(location)
        async with open_store(location, record_type=Stranger) as store:
            for session_id in sessions - before if self.lists_sessions else sessions:
                for it in await store.ids(session_id):
                    if self.lists_sessions or it == _BAD:
                        await store.save(Stranger(session_id=session_id, checkpoint_id=it))

        async with self.opened(location) as adapter:
            assert (await self._problem(adapter) is not None) == self.tells_problems
            with pytest.raises(CheckpointError):
                await self.open_one(adapter, _BAD)

    @pytest.mark.damages_store
    @pytest.mark.blocking
    async def test_what_nobody_can_look_into_hides_no_other(self, root: Path) -> None:
        """A list raises where it cannot name something; the error has all others."""
        if not self.lists_sessions:
            pytest.skip("all that is listed is in one session")
        paths = await self._filled(root)
        place = root / paths[0].relative_to(root).parts[0]
        place.rename(root.parent / "elsewhere")
        place.symlink_to(root.parent / "elsewhere")

        async with self.opened(root) as adapter:
            with pytest.raises(StorageError, match=r"`listed`") as raised:
                await self.list_all(adapter)
            found = self.told_by(raised.value.listed)
            assert {name: found.get(name, "missing") for name in _INTACT} == dict.fromkeys(_INTACT)

    @pytest.mark.damages_store
    @pytest.mark.blocking
    async def test_what_has_no_name_any_more_hides_no_other(self, root: Path) -> None:
        """So does one of which nothing is left that tells its name."""
        if not self.lists_sessions:
            pytest.skip("all that is listed is in one session")
        for path in await self._filled(root, _LONG):
            path.write_bytes(b"{}")

        async with self.opened(root) as adapter:
            with pytest.raises(LostIdError, match=r"`listed`") as raised:
                await self.list_all(adapter)
            found = self.told_by(raised.value.listed)
            assert {name: found.get(name, "missing") for name in _INTACT} == dict.fromkeys(_INTACT)

    async def _filled(self, root: Path, bad: str = _BAD) -> list[Path]:
        """Store three things, and return the files of the one between the others."""
        async with self.opened(root) as adapter:
            await self.make(adapter, _INTACT[0])
        before = {*_files(root)}
        async with self.opened(root) as adapter:
            await self.make(adapter, bad)
        after = {*_files(root)}
        async with self.opened(root) as adapter:
            await self.make(adapter, _INTACT[1])
            found = self.told_by(await self.list_all(adapter))
        assert found == dict.fromkeys((*_INTACT, bad))
        return sorted(after - before)

    async def _problem(self, adapter: Any) -> str | None:
        """Return what a list says is wrong with one of three, which are all there."""
        found = self.told_by(await self.list_all(adapter))
        assert found.keys() == {*_INTACT, _BAD}
        assert [found[name] for name in _INTACT] == [None, None]
        return found[_BAD]


async def _sessions(location: Any) -> set[str]:
    async with open_store(location, record_type=Stranger) as store:
        return {session_id async for session_id in store.sessions()}


def _files(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        is_own = ".aiocheckpoint" not in path.parts and path.suffix != ".backup"
        with contextlib.suppress(FileNotFoundError):
            if is_own and path.is_file() and path.name != "latest.json":
                yield path
