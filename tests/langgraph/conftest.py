"""Savers on a directory of the test, closed and checked after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import AsyncCheckpointWriter
from aiocheckpoint.adapters.langgraph import CheckpointSaver

MakeSaver = Callable[..., CheckpointSaver]


@pytest.fixture(name="make")
async def _make(root: Path, request: pytest.FixtureRequest) -> AsyncIterator[MakeSaver]:
    """
    Make savers on `root`, close them after the test and then check the store.

    A test that damages its store on purpose is marked `damages_store`.
    """
    made: list[CheckpointSaver] = []

    def make(path: Path = root, **options: Any) -> CheckpointSaver:
        made.append(CheckpointSaver(path, **options))
        return made[-1]

    yield make
    for saver in made:
        await saver.aclose()
    if not request.node.get_closest_marker("damages_store"):
        async with AsyncCheckpointWriter(root) as checker:
            assert await checker.check() == ()
