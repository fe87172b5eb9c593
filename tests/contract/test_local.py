"""The writer keeps the whole contract, with each durability."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import settings

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointData,
    Durability,
)
from aiocheckpoint.testing import (
    LargeValue,
)
from aiocheckpoint.testing.machine import StoreMachine
from tests.contract.whole import Damage, Reopen, Store, WholeContract
from tests.on_disk import path_of
from tests.some_cases import examples

Open = Callable[..., AsyncCheckpointWriter[Any]]

_MEMORY = Path("/dev/shm")  # what a disk does is tested elsewhere
_place = str(_MEMORY) if _MEMORY.is_dir() else None


def flip_a_byte(path: Path) -> None:
    """Change a byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture(name="directory")
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=_place) as path:
        yield Path(path) / "state"


class _EachPart(WholeContract):
    """All parts of the contract, on a directory for each test."""

    checkpoints_of_a_page = sessions_of_a_page = blobs_of_a_page = 256

    @pytest.fixture(name="opened")
    async def _opened(self, directory: Path, durability: Durability) -> AsyncIterator[Open]:
        made: list[AsyncCheckpointWriter[Any]] = []

        def opened(
            record_type: type[Any] = CheckpointData, **options: Any
        ) -> AsyncCheckpointWriter[Any]:
            options |= {"durability": durability, "record_type": record_type}
            made.append(AsyncCheckpointWriter(directory, **options))
            return made[-1]

        yield opened
        for writer in made:
            await writer.aclose()

    @pytest.fixture(name="reopen")
    def _reopen(self, opened: Open, request: pytest.FixtureRequest) -> Reopen:
        record_type = LargeValue if "blob_store" in request.fixturenames else CheckpointData

        async def reopen(store: AsyncCheckpointWriter[Any]) -> AsyncCheckpointWriter[Any]:
            await store.aclose()
            return opened(record_type)

        return reopen

    @pytest.fixture(name="damage")
    def _damage(self, store: AsyncCheckpointWriter[CheckpointData]) -> Damage:
        async def damage(session_id: str, checkpoint_id: str) -> None:
            await store.flush()
            for meta in await store.list(session_id):
                if meta.checkpoint_id == checkpoint_id:
                    await asyncio.to_thread(flip_a_byte, path_of(meta))

        return damage

    @pytest.fixture(name="damage_blob")
    def _damage_blob(
        self, blob_store: AsyncCheckpointWriter[LargeValue], directory: Path
    ) -> Damage:
        async def damage(session_id: str, digest: str) -> None:
            await blob_store.flush()
            await asyncio.to_thread(flip_a_byte, directory / session_id / "blobs" / digest)

        return damage


@pytest.mark.parametrize("durability", ["journal"])
class TestWriter(_EachPart):
    """By default."""


@pytest.mark.some(80)
@pytest.mark.parametrize("durability", ["file", "none"])
@pytest.mark.few(20)
class TestWriterOfOtherDurability(_EachPart):
    """The same, of which the order of writing and syncing alone is another."""


class WriterMachine(StoreMachine):
    """The writer, against the model."""

    durability: ClassVar[Durability] = "journal"

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(dir=_place)
        super().__init__()

    async def connect(self) -> Store:
        return AsyncCheckpointWriter(self._directory.name, durability=self.durability)

    async def erase(self) -> None:
        await asyncio.to_thread(self._directory.cleanup)


class FileMachine(WriterMachine):
    """The same, with files that are synced on their own."""

    durability = "file"


class NoneMachine(WriterMachine):
    """The same, without a sync."""

    durability = "none"


_settings = settings(max_examples=examples(4, 8), stateful_step_count=20)
TestMachine = WriterMachine.TestCase
TestFileMachine = FileMachine.TestCase
TestNoneMachine = NoneMachine.TestCase
TestMachine.settings = TestFileMachine.settings = TestNoneMachine.settings = _settings
