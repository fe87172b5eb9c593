"""Savers on a directory of the test, closed and checked after it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import AsyncCheckpointWriter
from aiocheckpoint.adapters.langgraph import CheckpointSaver


class MakeSaver:
    """Makes savers on a directory, and closes them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: list[CheckpointSaver] = []

    def __call__(self, path: Path | None = None, **options: Any) -> CheckpointSaver:
        self._made.append(CheckpointSaver(path or self._root, **options))
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
