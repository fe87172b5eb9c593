"""Savers on a directory of the test, or on another store, closed and checked after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import AsyncCheckpointWriter
from aiocheckpoint.adapters.langgraph import CheckpointSaver
from tests.langgraph import places
from tests.langgraph.places import Place
from tests.stores import locations


class MakeSaver:
    """Makes savers on a directory, or in another place, and closes them."""

    def __init__(self, root: Path | Place) -> None:
        self._root = root
        self._made: list[CheckpointSaver] = []

    def __call__(self, path: Path | None = None, **options: Any) -> CheckpointSaver:
        storage = self._root.storage() if isinstance(self._root, Place) else self._root
        self._made.append(CheckpointSaver(path or storage, **options))
        return self._made[-1]

    async def close(self) -> None:
        """Close all that were made: then everything is in files."""
        for saver in self._made:
            await saver.aclose()


@pytest.fixture(name="make")
async def _make(root: Path, request: pytest.FixtureRequest) -> AsyncIterator[MakeSaver]:
    """
    Make savers on `root`, close them after the test and then check the store.

    A test that damages its store on purpose is marked `damages_store`.
    """
    make = MakeSaver(root)
    yield make
    await make.close()
    if not request.node.get_closest_marker("damages_store"):
        async with AsyncCheckpointWriter(root) as checker:
            assert await checker.check() == ()


@pytest.fixture(name="ceph_url", scope="session")
def _ceph_url() -> Iterator[str]:
    with locations.ceph() as url:
        yield url


_PLACES = [
    "memory",
    pytest.param("bucket", marks=pytest.mark.campaign),  # slow, and Ceph's gateway is the real one
    "ceph",
    pytest.param("postgresql", marks=pytest.mark.servers),
]


@pytest.fixture(name="place", params=_PLACES)
def _place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Give each kind of store but the directory, empty."""
    match request.param:
        case "memory":
            yield places.memory()
        case "bucket":
            with places.fake_bucket(monkeypatch) as place:
                yield place
        case "ceph":
            yield places.bucket(request.getfixturevalue("ceph_url"), monkeypatch)
        case _:
            yield Place(request.getfixturevalue("postgres_url"))
