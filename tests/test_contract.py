"""Every store keeps the contract, and the contract notices stores that do not."""

from __future__ import annotations

import asyncio
import fnmatch
import inspect
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobStore,
    CheckpointData,
    CheckpointId,
    CheckpointMeta,
    CheckpointRecord,
    CheckpointStore,
    InvalidIdError,
    SessionId,
)
from aiocheckpoint.testing import (
    BlobStoreContract,
    CheckpointStoreContract,
    LargeValue,
    MemoryStore,
)
from aiocheckpoint.testing.shelf import Session
from tests.conftest import MakeWriter

Store = CheckpointStore[CheckpointData]


class TestWriter(CheckpointStoreContract):
    """The writer, with each durability."""

    @pytest.fixture(name="store", params=["journal", "file", "none"])
    def _store(self, make_writer: MakeWriter, request: pytest.FixtureRequest) -> Store:
        writer: AsyncCheckpointWriter[CheckpointData] = make_writer(durability=request.param)
        return writer


class TestWriterOfBlobs(BlobStoreContract):
    """The writer, with each durability, storing blobs."""

    @pytest.fixture(name="blob_store", params=["journal", "file", "none"])
    def _blob_store(
        self, make_writer: MakeWriter, request: pytest.FixtureRequest
    ) -> BlobStore[LargeValue]:
        writer: AsyncCheckpointWriter[LargeValue] = make_writer(
            durability=request.param, record_type=LargeValue
        )
        return writer


class TestMemoryStoreOfBlobs(BlobStoreContract):
    """The store in memory, storing blobs."""

    @pytest.fixture(name="blob_store")
    def _blob_store(self) -> BlobStore[LargeValue]:
        return MemoryStore(LargeValue)


class TestMemoryStore(CheckpointStoreContract):
    """The store in memory."""

    @pytest.fixture(name="store")
    def _store(self) -> Store:
        return MemoryStore()

    async def test_stores_records_of_the_applications_own(self) -> None:
        """A MemoryStore of another record type gives that type back."""

        class Level(CheckpointRecord):
            number: int

        store = MemoryStore(Level)
        await store.save(Level(session_id="game", number=3))
        loaded = await store.load("game")
        assert type(loaded) is Level
        assert loaded.number == 3

    async def test_an_id_of_another_type_is_refused(self) -> None:
        """A MemoryStore refuses an id that is not a str, as the writer does."""
        store = MemoryStore()
        number: Any = 7
        with pytest.raises(InvalidIdError):
            await store.load(number)


class Aliasing(MemoryStore[CheckpointData]):
    """Hands out the object it was given."""

    def __init__(self) -> None:
        super().__init__()
        self._objects: dict[CheckpointId, CheckpointData] = {}

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        self._objects[data.checkpoint_id] = data
        return await super().save(data, **terms)

    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> CheckpointData | None:
        loaded = await super().load(session_id, checkpoint_id)
        return None if loaded is None else self._objects[loaded.checkpoint_id]


class EncodesLate(MemoryStore[CheckpointData]):
    """Looks at the record only after others had a turn, in which they may change it."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        await asyncio.sleep(0)
        return await super().save(data, **terms)


class OrdersByTime(MemoryStore[CheckpointData]):
    """Takes the records' own times for the order of saving."""

    async def list(self, session_id: SessionId, **which: Any) -> tuple[CheckpointMeta, ...]:
        found = await super().list(session_id, **which)
        return tuple(sorted(found, key=lambda meta: meta.created_at, reverse=True))


class BelievesTheirTimes(MemoryStore[CheckpointData]):
    """Takes the records' own times for those of saving."""

    async def list(self, session_id: SessionId, **which: Any) -> tuple[CheckpointMeta, ...]:
        found = await super().list(session_id, **which)
        return tuple(msgspec.structs.replace(meta, saved_at=meta.created_at) for meta in found)


class OldestFirst(MemoryStore[CheckpointData]):
    """Loads the first checkpoint instead of the last."""

    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> CheckpointData | None:
        found = await self.list(session_id)
        if checkpoint_id is None and found:
            checkpoint_id = found[-1].checkpoint_id
        return await super().load(session_id, checkpoint_id)


class KeepsPlace(MemoryStore[CheckpointData]):
    """Replaces an id without making it the newest."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        before = self._shelf.session(data.session_id).checkpoints
        await super().save(data, **terms)
        after = self._shelf.session(data.session_id).checkpoints
        kept = Session({key: after[key] for key in {**before, **after}})
        self._shelf.sessions[data.session_id] = kept
        return data.checkpoint_id


class MixesSessions(MemoryStore[CheckpointData]):
    """Finds a checkpoint by its id in whatever session."""

    async def delete(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        gone = 0
        for other_id in [*self._shelf.sessions]:
            gone += await super().delete(other_id, checkpoint_id)
        return bool(gone)


class Globs(MemoryStore[CheckpointData]):
    """Looks ids up as patterns."""

    async def delete(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        for found in fnmatch.filter(await self.ids(session_id), checkpoint_id):
            return await super().delete(session_id, found)
        return False


class DeletesWhatIsNot(MemoryStore[CheckpointData]):
    """Says that it deleted what was never there."""

    async def delete(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        await super().delete(session_id, checkpoint_id)
        return True


class VerifiesAnything(MemoryStore[CheckpointData]):
    """Calls everything intact."""

    async def verify(self, session_id: SessionId, checkpoint_id: CheckpointId, /) -> bool:
        return True


class SwallowsRefusals(MemoryStore[CheckpointData]):
    """Drops what it cannot store without saying so."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        try:
            return await super().save(data, **terms)
        except ValueError:
            return data.checkpoint_id


class LosesWhenBusy(MemoryStore[CheckpointData]):
    """Forgets what other saves stored while its own waited."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        before = self._shelf.session(data.session_id)
        await asyncio.sleep(0)
        self._shelf.sessions[data.session_id] = before
        return await super().save(data, **terms)


class RoundsNumbers(MemoryStore[CheckpointData]):
    """Gives the sign of zero away."""

    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> CheckpointData | None:
        loaded = await super().load(session_id, checkpoint_id)
        if loaded is not None:
            loaded.messages = [0.0 if value == 0.0 else value for value in loaded.messages]
        return loaded


class NamesEmptySessions(MemoryStore[CheckpointData]):
    """Remembers sessions that have nothing left."""

    async def sessions(self, *, prefix: str = "") -> AsyncIterator[SessionId]:
        for session_id in self._shelf.sessions:
            if session_id.startswith(prefix):
                yield session_id


class LeavesTheNewest(MemoryStore[CheckpointData]):
    """Deletes of a session all but what was saved last."""

    async def delete_session(self, session_id: SessionId) -> bool:
        older = (await self.list(session_id))[1:]
        return bool(await self.delete_many(session_id, [meta.checkpoint_id for meta in older]))


class CopiesNewestFirst(MemoryStore[CheckpointData]):
    """Copies a session in the order of `list`."""

    async def copy_session(self, source_id: SessionId, target_id: SessionId) -> int:
        copied = await super().copy_session(source_id, target_id)
        for meta in await self.list(source_id):
            record = await self.load(target_id, meta.checkpoint_id)
            assert record is not None
            await self.save(record)
        return copied


class StaysOpen(MemoryStore[CheckpointData]):
    """Goes on after it was closed."""

    async def aclose(self) -> None:
        pass


BROKEN: dict[type[MemoryStore[CheckpointData]], str] = {
    Aliasing: "test_the_caller_owns_what_it_got",
    EncodesLate: "test_the_caller_owns_what_it_gave",
    OrdersByTime: "test_the_newest_is_the_one_saved_last",
    BelievesTheirTimes: "test_saved_at_is_of_the_store",
    OldestFirst: "test_the_newest_is_the_one_saved_last",
    KeepsPlace: "test_saving_an_id_again_replaces_it",
    MixesSessions: "test_sessions_do_not_touch_one_another",
    Globs: "test_delete_removes_that_one_alone",
    DeletesWhatIsNot: "test_what_is_not_there_is_none_and_no_error",
    VerifiesAnything: "test_verify_knows_what_is_stored",
    SwallowsRefusals: "test_what_cannot_come_back_is_refused",
    LosesWhenBusy: "test_saves_of_a_session_keep_their_order",
    RoundsNumbers: "test_every_json_value_comes_back_the_same",
    NamesEmptySessions: "test_sessions_are_named",
    LeavesTheNewest: "test_a_session_is_deleted_as_a_whole",
    CopiesNewestFirst: "test_a_copied_session_has_all_in_order",
    StaysOpen: "test_a_closed_store_refuses",
}


@pytest.mark.parametrize(("broken", "test_name"), BROKEN.items(), ids=str)
async def test_the_contract_notices_a_broken_store(
    broken: type[MemoryStore[CheckpointData]], test_name: str
) -> None:
    """A store with one fault fails the test that is named for the promise it breaks."""
    test = getattr(CheckpointStoreContract(), test_name)
    with pytest.raises(AssertionError):
        await test(broken())


def test_every_promise_of_the_contract_is_one_sentence() -> None:
    """Each test of the contract says in one sentence what is promised."""
    tests = inspect.getmembers(CheckpointStoreContract, inspect.isfunction)
    promises = {name: inspect.getdoc(test) or "" for name, test in tests if name.startswith("test")}
    assert len(promises) >= 12
    assert [name for name, text in promises.items() if not text.endswith(".")] == []
