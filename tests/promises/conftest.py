"""What the tests of promises share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import AsyncCheckpointWriter
from tests.crash import disks
from tests.promises.places import on_disk
from tests.promises.workers import Worker, discard_all

Start = Callable[..., Worker]

# What a killed process may leave behind, and nobody is hurt by.
_REMAINS = frozenset({"leftover", "unused-blob"})


@pytest.fixture(name="start")
def _start(root: Path, request: pytest.FixtureRequest) -> Iterator[Start]:
    """
    Start processes with a writer on `root`; in the end kill them, and see that the store is whole.

    A test that damages its store on purpose is marked `damages_store`.
    """
    started: list[Worker] = []

    def start(path: Path = root, **options: Any) -> Worker:
        started.append(Worker(path, **options))
        return started[-1]

    yield start
    discard_all(started)
    if not request.node.get_closest_marker("damages_store"):
        for path in {worker.root for worker in started}:
            asyncio.run(_assert_whole(path))


async def _assert_whole(root: Path) -> None:
    async with AsyncCheckpointWriter(root) as writer:
        await on_disk(writer)
        assert [found for found in await writer.check() if found.kind not in _REMAINS] == []


@pytest.fixture(name="why_no_disks", scope="session")
def _why_no_disks(tmp_path_factory: pytest.TempPathFactory) -> str:
    return disks.why_no_disks(tmp_path_factory.mktemp("probe"))


@pytest.fixture(name="disk_directory")
def _disk_directory(tmp_path: Path, why_no_disks: str) -> Path:
    """Return an empty directory for a disk; skip where none can be mounted."""
    if why_no_disks:
        pytest.skip(why_no_disks)
    return tmp_path
