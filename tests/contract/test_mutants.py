"""The contract notices stores that break it: each of them by a test that says so."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import inspect
import re
import threading
import time
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import msgspec
import pytest
from blockbuster import BlockingError, blockbuster_ctx
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from aiocheckpoint import (
    ANY_NEWEST,
    CheckpointCorruptError,
    CheckpointData,
    CheckpointDecodeError,
    CheckpointError,
    CheckpointId,
    CheckpointMeta,
    CheckpointStore,
    InvalidArgumentError,
    InvalidIdError,
    NestedCallError,
    RecoveryReport,
    SessionChangedError,
    SessionId,
    StoreBusyError,
    testing,
)
from aiocheckpoint.kit import StagedSave, check_checkpoint_id, require_query
from aiocheckpoint.testing import LargeValue, MemoryStore
from aiocheckpoint.testing.machine import StoreMachine
from aiocheckpoint.testing.shelf import Session, Shelf
from aiocheckpoint.testing.shelf_reads import ShelfReads

AnswerT = TypeVar("AnswerT")


class Aliasing(MemoryStore[CheckpointData]):
    """Hands out the object it was given."""

    def __init__(self, record_type: type[Any] = CheckpointData, **options: Any) -> None:
        super().__init__(record_type, **options)
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


class LikesIds(MemoryStore[CheckpointData]):
    """Looks for ids by what LIKE makes of a prefix."""

    async def ids(
        self, session_id: SessionId, *, prefix: str = "", limit: int | None = None, **which: Any
    ) -> tuple[CheckpointId, ...]:
        require_query(prefix, limit=limit)
        found = await super().ids(session_id, **which)
        return tuple(filter(_like(prefix), found))[:limit]


class LikesSessions(MemoryStore[CheckpointData]):
    """Looks for sessions by what LIKE makes of a prefix."""

    async def sessions(self, *, prefix: str = "") -> AsyncIterator[SessionId]:
        require_query(prefix)
        is_like = _like(prefix)
        async for session_id in super().sessions():
            if is_like(session_id):
                yield session_id


def _like(prefix: str) -> Callable[[str], object]:
    parts = {"_": ".", "%": ".*"}
    pattern = "".join(parts.get(each) or re.escape(each) for each in prefix)
    return re.compile(pattern, re.IGNORECASE | re.DOTALL).match


class GlobsPrefixes(MemoryStore[CheckpointData]):
    """Looks for sessions by what GLOB makes of a prefix."""

    async def sessions(self, *, prefix: str = "") -> AsyncIterator[SessionId]:
        require_query(prefix)
        async for session_id in super().sessions():
            if fnmatch.fnmatchcase(session_id, prefix + "*"):
                yield session_id


class IgnoresCase(MemoryStore[CheckpointData]):
    """Looks for sessions without regard to case."""

    async def sessions(self, *, prefix: str = "") -> AsyncIterator[SessionId]:
        require_query(prefix)
        async for session_id in super().sessions():
            if session_id.lower().startswith(prefix.lower()):
                yield session_id


class NormalisesIds(MemoryStore[CheckpointData]):
    """Takes ids that look alike for one."""

    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> CheckpointData | None:
        return await super().load(unicodedata.normalize("NFC", session_id), checkpoint_id)


class ListsAThousand(MemoryStore[CheckpointData]):
    """Lists what one query gives."""

    async def list(self, session_id: SessionId, **which: Any) -> tuple[CheckpointMeta, ...]:
        return (await super().list(session_id, **which))[:1000]


class LoadsAThousand(MemoryStore[CheckpointData]):
    """Loads as many as a query may name."""

    async def load_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> tuple[CheckpointData, ...]:
        return (await super().load_many(session_id, checkpoint_ids))[:999]


class ReadsAThousand(MemoryStore[CheckpointData]):
    """Gives a read what one query gives."""

    async def read(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        async def reading(session: Any) -> Any:
            session.saved_ids = partial(session.saved_ids, limit=1000)
            return await work(session)

        return await super().read(session_id, reading)


class TellsFiveHundredIds(MemoryStore[CheckpointData]):
    """Tells the ids that one query gives."""

    async def ids(self, session_id: SessionId, **which: Any) -> tuple[CheckpointId, ...]:
        return (await super().ids(session_id, **which))[:500]


class DeletesAThousand(MemoryStore[CheckpointData]):
    """Deletes as many as a query may name."""

    async def delete_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> int:
        wanted = [checkpoint_ids] if isinstance(checkpoint_ids, str) else [*checkpoint_ids]
        return await super().delete_many(session_id, wanted[:999])


class CopiesFiveHundred(MemoryStore[CheckpointData]):
    """Copies what one query gives."""

    async def copy_session(self, source_id: SessionId, target_id: SessionId) -> int:
        copied = await super().copy_session(source_id, target_id)
        await self.delete_many(target_id, (await self.ids(target_id))[500:])
        return min(copied, 500)


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


class ListsAll(MemoryStore[CheckpointData]):
    """Does not look at what part of a listing is asked for."""

    async def list(self, session_id: SessionId, **which: Any) -> tuple[CheckpointMeta, ...]:
        return await super().list(session_id)


class IsNowhere(MemoryStore[CheckpointData]):
    """Names one place for all."""

    async def list(self, session_id: SessionId, **which: Any) -> tuple[CheckpointMeta, ...]:
        found = await super().list(session_id, **which)
        return tuple(msgspec.structs.replace(meta, location="here") for meta in found)


class TakesAnything(MemoryStore[CheckpointData]):
    """Takes one id for a list of ids of one letter."""

    async def delete_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> int:
        return await super().delete_many(session_id, [*checkpoint_ids])


class TakesAnyTriggers(MemoryStore[CheckpointData]):
    """Takes one trigger for a list of triggers of one letter."""

    async def unfinished(self, **which: Any) -> AsyncIterator[CheckpointMeta]:
        which["final_triggers"] = [*which["final_triggers"]]
        async for meta in super().unfinished(**which):
            yield meta


class RecoversAnyId(MemoryStore[CheckpointData]):
    """Finds nothing to mend in a session that cannot be."""

    async def recover(self, session_id: SessionId) -> RecoveryReport:
        with contextlib.suppress(InvalidIdError):
            return await super().recover(session_id)
        return RecoveryReport(session_id=session_id, newest_valid_id=None, quarantined=())


class ReadsAnyList(MemoryStore[CheckpointData]):
    """Looks at lists where the store is asked, and not where a session is."""

    async def read(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        async def loading(session: Any) -> Any:
            load_many = session.load_many
            session.load_many = lambda ids: load_many([*ids])
            return await work(session)

        return await super().read(session_id, loading)


class WaitsForAnything(MemoryStore[CheckpointData]):
    """Takes any answer for one that says whether to wait."""

    def own(self, session_id: SessionId, *, wait: bool = True) -> Any:
        return super().own(session_id, wait=bool(wait))


class EncodesPrefixes(MemoryStore[CheckpointData]):
    """Takes a prefix for an id."""

    async def ids(self, session_id: SessionId, **which: Any) -> tuple[CheckpointId, ...]:
        check_checkpoint_id(which.get("prefix", ""))
        return await super().ids(session_id, **which)


class ClosesFirst(MemoryStore[CheckpointData]):
    """Asks whether it is closed before it looks at what it was given."""

    async def recover(self, session_id: SessionId) -> RecoveryReport:
        self._require_open()
        return await super().recover(session_id)


class NestsFirst(MemoryStore[CheckpointData]):
    """Asks who calls before it looks at what it was given."""

    async def recover(self, session_id: SessionId) -> RecoveryReport:
        self._turns.require_no_update(session_id, "recover")
        return await super().recover(session_id)


class CutsAtNul(MemoryStore[CheckpointData]):
    """Has ids end where a NUL is."""

    async def ids(self, session_id: SessionId, **which: Any) -> tuple[CheckpointId, ...]:
        return tuple([key.split("\0")[0] for key in await super().ids(session_id, **which)])


class RecoversWithin(MemoryStore[CheckpointData]):
    """Lets the work of an update recover its session."""

    async def recover(self, session_id: SessionId) -> RecoveryReport:
        with contextlib.suppress(NestedCallError):
            return await super().recover(session_id)
        return RecoveryReport(session_id=session_id, newest_valid_id=None, quarantined=())


class NestsBeforeItCloses(MemoryStore[CheckpointData]):
    """Asks who calls before it asks whether it is closed."""

    async def load_newest(self, session_ids: Iterable[SessionId], /) -> dict[str, CheckpointData]:
        wanted = [*session_ids]
        for session_id in wanted:
            self._turns.require_outside(session_id, "load_newest")
        return await super().load_newest(wanted)


class OwnsOn(MemoryStore[CheckpointData]):
    """Lets an owner write after the store was closed."""

    async def _save(self, data: Any, blobs: Any, expected: Any, owner: Any = None) -> str:
        was_closed, self._is_closed = self._is_closed, False
        try:
            return await super()._save(data, blobs, expected, owner)
        finally:
            self._is_closed = was_closed


class TakesAnyDigest(MemoryStore[LargeValue]):
    """Finds no blob where it is asked for what is none."""

    async def load_blobs(
        self, session_id: SessionId, digests: Iterable[str], /
    ) -> dict[str, bytes]:
        return await super().load_blobs(session_id, [key for key in digests if len(key) == 64])


class MendsWhatIsWhole(MemoryStore[CheckpointData]):
    """Puts the newest aside, damaged or not."""

    async def recover(self, session_id: SessionId) -> RecoveryReport:
        newest = await self.ids(session_id, limit=1)
        moved = self._shelf.put_aside(session_id, newest)
        return msgspec.structs.replace(await super().recover(session_id), quarantined=moved)


# Blobs


class KeepsBlobs(MemoryStore[LargeValue]):
    """Never removes a blob."""

    async def save(self, data: LargeValue, /, **terms: Any) -> CheckpointId:
        self.__dict__.setdefault("kept", {}).update(terms.get("blobs", {}))
        return await super().save(data, **terms)

    async def load_blobs(
        self, session_id: SessionId, digests: Iterable[str], /
    ) -> dict[str, bytes]:
        kept = self.__dict__["kept"]
        with contextlib.suppress(CheckpointError):
            return await super().load_blobs(session_id, digests)
        return {digest: kept[digest] for digest in digests}


class DropsSharedBlobs(MemoryStore[LargeValue]):
    """Removes all blobs of a record that is deleted."""

    async def delete(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        doomed = await self.load(session_id, checkpoint_id)
        answer = await super().delete(session_id, checkpoint_id)
        session = self._shelf.session(session_id)
        dropped = doomed.blob_digests if doomed else ()
        left = {key: data for key, data in session.blobs.items() if key not in dropped}
        self._shelf.sessions[session_id] = Session(session.checkpoints, left)
        return answer


class CopiesNoBlobs(MemoryStore[LargeValue]):
    """Loses the blobs of a copied session."""

    async def copy_session(self, source_id: SessionId, target_id: SessionId) -> int:
        copied = await super().copy_session(source_id, target_id)
        session = self._shelf.session(target_id)
        self._shelf.sessions[target_id] = Session(session.checkpoints, {})
        return copied


class TrustsBlobs(MemoryStore[LargeValue]):
    """Hands out a blob without looking at it."""

    async def load_blobs(
        self, session_id: SessionId, digests: Iterable[str], /
    ) -> dict[str, bytes]:
        blobs = self._shelf.session(session_id).blobs
        return {digest: blobs[digest] for digest in digests}


class ForgetsBlobs(MemoryStore[LargeValue]):
    """Keeps blobs in the process alone."""

    def __init__(self, record_type: type[Any] = LargeValue, **options: Any) -> None:
        super().__init__(record_type, **options)
        for session_id, session in self._shelf.sessions.items():
            self._shelf.sessions[session_id] = Session(session.checkpoints, {})


class StagesNoBlobs(MemoryStore[LargeValue]):
    """Commits the records of an update one by one."""

    async def update(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        return await _committed_one_by_one(self, session_id, work, super().update)


async def _committed_one_by_one(
    store: MemoryStore[Any],
    session_id: SessionId,
    work: Callable[..., Awaitable[Any]],
    update: Callable[..., Awaitable[Any]],
) -> Any:
    staged: list[Any] = []

    async def stage(session: Any) -> Any:
        result = await work(session)
        staged.extend(session.end())
        session.end = tuple
        return result

    result = await update(session_id, stage)
    for change in staged:
        store._shelf.commit({session_id: [change]})
    return result


class LoadsTwoHundredBlobs(MemoryStore[LargeValue]):
    """Loads the blobs that one query gives."""

    async def load_blobs(
        self, session_id: SessionId, digests: Iterable[str], /
    ) -> dict[str, bytes]:
        found = await super().load_blobs(session_id, digests)
        return dict([*found.items()][:200])


# Durability and sharing


class Forgets(MemoryStore[CheckpointData]):
    """Keeps all in the process alone."""

    def __init__(self, record_type: type[Any] = CheckpointData, **options: Any) -> None:
        super().__init__(record_type, **options)
        self._shelf = Shelf()


class ForgetsDeletes(MemoryStore[CheckpointData]):
    """Remembers in the process alone what was deleted."""

    def __init__(self, record_type: type[Any] = CheckpointData, **options: Any) -> None:
        super().__init__(record_type, **options)
        graves = self._shelf.__dict__.setdefault("graves", {})
        for session_id, session in graves.items():
            left = {**session, **self._shelf.session(session_id).checkpoints}
            self._shelf.sessions[session_id] = Session(left)

    async def delete_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> int:
        graves = self._shelf.__dict__["graves"].setdefault(session_id, {})
        session = self._shelf.session(session_id).checkpoints
        graves.update({key: session[key] for key in checkpoint_ids if key in session})
        return await super().delete_many(session_id, checkpoint_ids)


class SortsAnew(MemoryStore[CheckpointData]):
    """Takes the order of ids for that of saving when it is opened."""

    def __init__(self, record_type: type[Any] = CheckpointData, **options: Any) -> None:
        super().__init__(record_type, **options)
        for session_id, session in self._shelf.sessions.items():
            self._shelf.sessions[session_id] = Session(dict(sorted(session.checkpoints.items())))


class NamesDirectories(MemoryStore[CheckpointData]):
    """Tells names of sessions as they are on a disk that folds case."""

    def __init__(self, record_type: type[Any] = CheckpointData, **options: Any) -> None:
        super().__init__(record_type, **options)
        folded = {key.lower(): session for key, session in self._shelf.sessions.items()}
        self._shelf.sessions = folded


class CachesReads(MemoryStore[CheckpointData]):
    """Answers from what it has read before."""

    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> CheckpointData | None:
        cache = self.__dict__.setdefault("cache", {})
        if (session_id, checkpoint_id) not in cache:
            cache[session_id, checkpoint_id] = await super().load(session_id, checkpoint_id)
        found: CheckpointData | None = cache[session_id, checkpoint_id]
        return found


class ExpectsItsOwn(MemoryStore[CheckpointData]):
    """Checks a condition against what it saved itself."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        newest = self.__dict__.setdefault("newest", {})
        if "expected" in terms and terms.pop("expected") != newest.get(data.session_id):
            raise SessionChangedError(data.session_id, newest.get(data.session_id))
        newest[data.session_id] = data.checkpoint_id
        return await super().save(data, **terms)


class ChecksThenSaves(MemoryStore[CheckpointData]):
    """Lets others in between the look at the newest and the save."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        if "expected" in terms:
            newest = self._shelf.session(data.session_id).newest_id
            if terms.pop("expected") != newest:
                raise SessionChangedError(data.session_id, newest)
            await asyncio.sleep(0)
        return await super().save(data, **terms)


class ClosesForAll(MemoryStore[CheckpointData]):
    """Takes away from others what it closes."""

    async def aclose(self) -> None:
        self._shelf.sessions.clear()
        await super().aclose()


# Damage


class FallsBack(MemoryStore[CheckpointData]):
    """Loads something older where the newest is damaged."""

    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> CheckpointData | None:
        try:
            return await super().load(session_id, checkpoint_id)
        except CheckpointCorruptError as error:
            return await super().load(session_id, error.newest_valid_id or "none")


class HidesDamage(MemoryStore[CheckpointData]):
    """Leaves out of a list what does not load."""

    async def list(self, session_id: SessionId, **which: Any) -> tuple[CheckpointMeta, ...]:
        found = await super().list(session_id, **which)
        return tuple([m for m in found if await self.verify(session_id, m.checkpoint_id)])


class StopsAtDamage(MemoryStore[CheckpointData]):
    """Reads the newest before each save."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        await self.load(data.session_id)
        return await super().save(data, **terms)


class RecoversTheNewest(MemoryStore[CheckpointData]):
    """Puts aside one damaged checkpoint and leaves the others."""

    async def recover(self, session_id: SessionId) -> RecoveryReport:
        newest_id = self._shelf.session(session_id).newest_id
        moved = self._shelf.put_aside(session_id, [newest_id] if newest_id else [])
        report = await super().recover(session_id) if not newest_id else None
        left = self._shelf.session(session_id).newest_id
        return report or RecoveryReport(
            session_id=session_id, newest_valid_id=left, quarantined=moved
        )


class RecoversByDigest(MemoryStore[LargeValue]):
    """Takes a damaged blob away wherever one of its digest is."""

    async def recover(self, session_id: SessionId) -> RecoveryReport:
        report = await super().recover(session_id)
        if report.quarantined:
            for other_id, session in self._shelf.sessions.items():
                self._shelf.sessions[other_id] = Session(session.checkpoints, {})
        return report


class TakesBlobsAlong(MemoryStore[LargeValue]):
    """Puts a record aside with all of its blobs, whoever else needs them."""

    async def recover(self, session_id: SessionId) -> RecoveryReport:
        newest = await self.load(session_id)
        assert newest is not None
        report = await super().recover(session_id)
        session = self._shelf.session(session_id)
        left = {key: b for key, b in session.blobs.items() if key not in newest.blob_digests}
        self._shelf.sessions[session_id] = Session(session.checkpoints, left)
        return report


class CopiesDamage(MemoryStore[CheckpointData]):
    """Copies what it can."""

    async def copy_session(self, source_id: SessionId, target_id: SessionId) -> int:
        with contextlib.suppress(CheckpointCorruptError):
            return await super().copy_session(source_id, target_id)
        return 0


class CopiesDamagedBlobs(MemoryStore[LargeValue]):
    """Copies the bytes of blobs as they are."""

    async def copy_session(self, source_id: SessionId, target_id: SessionId) -> int:
        source = self._shelf.session(source_id)
        self._shelf.sessions[target_id] = source
        return len(source.checkpoints)


class RecoversTheNewestFifty(MemoryStore[CheckpointData]):
    """Looks for damage in a part of a session."""

    async def recover(self, session_id: SessionId) -> RecoveryReport:
        session = self._shelf.session(session_id).checkpoints
        older = dict([*session.items()][:-50])
        self._shelf.sessions[session_id] = Session(dict([*session.items()][-50:]))
        report = await super().recover(session_id)
        left = older | {**self._shelf.session(session_id).checkpoints}
        self._shelf.sessions[session_id] = Session(left)
        return report


class ChecksAHundred(MemoryStore[CheckpointData]):
    """Looks for damage in as many sessions as one query gives."""

    async def check(self) -> tuple[Any, ...]:
        looked_at = sorted([session_id async for session_id in self.sessions()])[:100]
        return tuple([each for each in await super().check() if each.session_id in looked_at])


# Cancellation


class SavesLater(MemoryStore[CheckpointData]):
    """Goes on with a save whose caller has been told that it is cancelled."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        saving = super().save

        async def save() -> CheckpointId:
            for _ in range(9):
                await asyncio.sleep(0)
            return await saving(data, **terms)

        task = asyncio.create_task(save())
        self.__dict__.setdefault("tasks", []).append(task)
        return await asyncio.shield(task)


class EndsAtTheSecond(MemoryStore[CheckpointData]):
    """Waits for the end of what it has begun until it is cancelled once more."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        return await _ended_at_the_second(super().save(data, **terms))

    async def delete_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> int:
        deleting = super().delete_many(session_id, checkpoint_ids)
        return await _ended_at_the_second(deleting)


class LosesPatienceWithLargeOnes(MemoryStore[CheckpointData]):
    """Waits for what it has begun, but only for as long as most take."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        saving = super().save
        record = self._kit.encode(data)

        async def later() -> CheckpointId:
            for _ in range(len(record.body) // 10_000):
                await asyncio.sleep(0)
            return await saving(data, **terms)

        task = asyncio.ensure_future(later())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            for _ in range(20):
                await asyncio.sleep(0)
            raise


class UpdatesAnyway(MemoryStore[CheckpointData]):
    """The same, of the commit of an update."""

    async def update(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        return await _ended_at_the_second(super().update(session_id, work))


async def _ended_at_the_second(call: Awaitable[AnswerT]) -> AnswerT:
    async def later() -> AnswerT:
        for _ in range(9):
            await asyncio.sleep(0)
        return await call

    task = asyncio.ensure_future(later())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])  # which a second one ends
        raise


class ReplacesInTwoSteps(MemoryStore[CheckpointData]):
    """Deletes an id before it saves it again."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        await self.delete(data.session_id, data.checkpoint_id)
        await asyncio.sleep(0)
        return await super().save(data, **terms)


class DeletesOneByOne(MemoryStore[CheckpointData]):
    """Makes a commit for each checkpoint that is deleted."""

    async def delete_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> int:
        gone = 0
        for checkpoint_id in checkpoint_ids:
            gone += await super().delete_many(session_id, [checkpoint_id])
            await asyncio.sleep(0)
        return gone


class DeletesSessionsOneByOne(MemoryStore[CheckpointData]):
    """Makes a commit for each checkpoint of a session that is deleted, and takes long for each."""

    async def delete_session(self, session_id: SessionId, /) -> bool:
        is_there = False
        for meta in await self.list(session_id):
            await _many_turns()
            is_there |= await self.delete(session_id, meta.checkpoint_id)
        return is_there or await super().delete_session(session_id)


async def _many_turns() -> None:
    """Wait once, for longer than a few turns of the loop."""

    async def turns() -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    await asyncio.create_task(turns())


class CancelsOthers(MemoryStore[CheckpointData]):
    """Lets one cancelled save of a batch end all of it."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        batch = self.__dict__.setdefault("batch", [])
        batch.append(asyncio.current_task())
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            for task in batch:
                task.cancel()
            raise
        finally:
            batch.remove(asyncio.current_task())
        return await super().save(data, **terms)


# Updates


class OverlooksOthers(MemoryStore[CheckpointData]):
    """Commits an update whatever another client has changed since its reads."""

    async def update(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        async def slow(session: Any) -> Any:
            result = await work(session)
            await asyncio.sleep(0)
            return result

        return await super().update(session_id, slow)

    def _commit(self, *what: Any, seen: Shelf | None = None) -> Any:
        return super()._commit(*what)


class MissesDeletes(MemoryStore[CheckpointData]):
    """Knows of changes by a number that saves count up, and deletes do not."""

    def _commit(
        self, staged: Any, owner: Any, expected: Any = ANY_NEWEST, seen: Shelf | None = None
    ) -> Any:
        if seen is not None:
            for session_id, before in [*seen.sessions.items()]:
                now = self._shelf.session(session_id)
                left = {key: before.checkpoints.get(key) for key in now.checkpoints}
                if left == now.checkpoints and session_id in self._shelf.sessions:
                    seen.sessions[session_id] = self._shelf.sessions[session_id]
        return super()._commit(staged, owner, expected, seen)


class ComparesForSavesAlone(MemoryStore[CheckpointData]):
    """Deletes whatever has changed since it was decided."""

    def _commit(
        self, staged: Any, owner: Any, expected: Any = ANY_NEWEST, seen: Shelf | None = None
    ) -> Any:
        is_saving = any(isinstance(each, StagedSave) for each in chain(*staged.values()))
        return super()._commit(staged, owner, expected, seen if is_saving else None)


class ComparesTheFirstSession(MemoryStore[CheckpointData]):
    """Commits over several sessions whatever has changed in all but one."""

    def _commit(
        self, staged: Any, owner: Any, expected: Any = ANY_NEWEST, seen: Shelf | None = None
    ) -> Any:
        if seen is not None:
            kept = {key: self._shelf.session(key) for key in self._shelf.sessions}
            seen.sessions = kept | dict([*seen.sessions.items()][:1])
        return super()._commit(staged, owner, expected, seen)


class ComparesWhatItWrites(MemoryStore[CheckpointData]):
    """Does not compare the sessions that an update has only read."""

    def _commit(
        self, staged: Any, owner: Any, expected: Any = ANY_NEWEST, seen: Shelf | None = None
    ) -> Any:
        written = {key: changes for key, changes in staged.items() if changes}
        return super()._commit(written, owner, expected, seen)


class UpdatesWithoutTurns(MemoryStore[CheckpointData]):
    """Lets others in between the reads and the commit of an update."""

    async def update(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        return await OverlooksOthers(beside=self).update(session_id, work)


def _unlocked(store: MemoryStore[Any]) -> MemoryStore[Any]:
    """Return a store that keeps what another keeps, and has turns of its own."""
    return MemoryStore(store.record_type, beside=store)


class HoldsOthersUp(MemoryStore[CheckpointData]):
    """Takes what work asks of another client for a call of its own."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        if self._shelf.__dict__.get("is_updating"):
            raise NestedCallError(data.session_id, "save")
        return await super().save(data, **terms)

    async def update(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        self._shelf.__dict__["is_updating"] = True
        try:
            return await super().update(session_id, work)
        finally:
            self._shelf.__dict__["is_updating"] = False


class ReadsAsItGoes(MemoryStore[CheckpointData]):
    """Lets each read of an update see what is there by then."""

    async def update(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        async def going(session: Any) -> Any:
            beside = MemoryStore(beside=self)
            session.saved_ids = lambda: beside.read(session_id, lambda now: now.saved_ids())
            return await work(session)

        return await super().update(session_id, going)


class CountsTheWholeLine(MemoryStore[CheckpointData]):
    """Gives up a call whose line moves on, but not to its end in time."""

    async def update(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        seconds = self._lock_timeout_seconds
        entered = asyncio.Event()

        async def begun(session: Any) -> Any:
            entered.set()
            return await work(session)

        updating = asyncio.ensure_future(super().update(session_id, begun))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(entered.wait(), seconds)
            return await updating
        updating.cancel()
        raise StoreBusyError(session_id, seconds)


class CommitsInSpiteOfErrors(MemoryStore[CheckpointData]):
    """Stores what work has staged before it raised."""

    async def update(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        async def stage(session: Any) -> Any:
            try:
                return await work(session)
            finally:
                self._shelf.commit({session_id: session.end()})

        return await super().update(session_id, stage)


class WritesAtOnce(MemoryStore[CheckpointData]):
    """Stores what is staged at once, where reads of the update find it."""

    async def update(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        async def stage(session: Any) -> Any:
            def saved(data: CheckpointData) -> CheckpointId:
                record = self._kit.encode(data)
                self._shelf.commit({session_id: [StagedSave(record)]})
                return data.checkpoint_id

            session.save = saved
            return await work(session)

        return await super().update(session_id, stage)


class DeletesLast(MemoryStore[CheckpointData]):
    """Makes the staged deletes after the staged saves."""

    async def update(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        async def stage(session: Any) -> Any:
            result = await work(session)
            staged = session.end()
            session.end = lambda: staged[::-1]
            return result

        return await super().update(session_id, stage)


class SortsSavedIds(MemoryStore[CheckpointData]):
    """Tells saved ids in the order of the ids."""

    async def read(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        async def sorting(session: Any) -> Any:
            saved_ids = session.saved_ids

            async def by_id(**which: Any) -> Any:
                return tuple(sorted(await saved_ids(**which), reverse=True))

            session.saved_ids = by_id
            return await work(session)

        return await super().read(session_id, sorting)


class ReadsWhatItKnew(MemoryStore[CheckpointData]):
    """Reads what it knows since its first read."""

    async def read(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        known = self.__dict__.setdefault("known", {})
        known.setdefault(session_id, self._shelf.session(session_id))
        frozen = Shelf()
        frozen.sessions = known
        reads, self._reads = self._reads, ShelfReads(frozen, self._kit)
        try:
            return await super().read(session_id, work)
        finally:
            self._reads = reads


class SwallowsWhatWorkRaises(MemoryStore[CheckpointData]):
    """Takes what work raises for nothing found."""

    async def read(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        with contextlib.suppress(Exception):
            return await super().read(session_id, work)
        return None


class LetsSavesPass(MemoryStore[CheckpointData]):
    """Saves while an update goes on."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        return await _unlocked(self).save(data, **terms)


class NestsSilently(MemoryStore[CheckpointData]):
    """Does what work asks the store for within its own update."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        try:
            return await super().save(data, **terms)
        except NestedCallError:
            return await _unlocked(self).save(data, **terms)


class UpdatesForEver(MemoryStore[CheckpointData]):
    """Takes a task that an update has left behind for a part of it."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        if asyncio.current_task() in self.__dict__.get("left", ()):
            raise NestedCallError(data.session_id, "save")
        return await super().save(data, **terms)

    async def update(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        before = asyncio.all_tasks()
        result = await super().update(session_id, work)
        self.__dict__["left"] = asyncio.all_tasks() - before
        return result


class StagesObjects(MemoryStore[CheckpointData]):
    """Encodes what is staged when it commits."""

    async def update(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        async def stage(session: Any) -> Any:
            kept: list[CheckpointData] = []
            session.save = kept.append
            result = await work(session)
            for data in kept:
                type(session).save(session, data)
            return result

        return await super().update(session_id, stage)


class TakesTheLateOnes(MemoryStore[CheckpointData]):
    """Takes what is staged after the end, and loses it."""

    async def update(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        async def stage(session: Any) -> Any:
            session.require_running = lambda: None
            return await work(session)

        return await super().update(session_id, stage)


class CancelsThoseThatWait(MemoryStore[CheckpointData]):
    """Ends with a cancelled update those that wait for it."""

    async def update(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        tasks = self.__dict__.setdefault("tasks", [])
        tasks.append(asyncio.current_task())
        try:
            return await super().update(session_id, work)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            raise


class ReadsWithin(MemoryStore[CheckpointData]):
    """Lets work read its session beside the transaction."""

    async def verify(self, session_id: SessionId, checkpoint_id: CheckpointId, /) -> bool:
        return await MemoryStore(beside=self).verify(session_id, checkpoint_id)


class LooksAtTasksAlone(MemoryStore[CheckpointData]):
    """Takes what a thread calls for a call of somebody else's."""

    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> CheckpointData | None:
        if threading.current_thread() is threading.main_thread():
            return await super().load(session_id, checkpoint_id)
        return await _unlocked(self).load(session_id, checkpoint_id)


class AwaitsNothing(MemoryStore[CheckpointData]):
    """Takes work that is not async for work that returns nothing."""

    async def update(self, session_id: SessionId, work: Callable[..., Any], /) -> Any:
        async def called(session: Any) -> Any:
            answer = work(session)
            return await answer if inspect.isawaitable(answer) else answer

        return await super().update(session_id, called)


class ReadsOn(MemoryStore[CheckpointData]):
    """Lets a transaction that is over read."""

    async def update(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        async def kept(session: Any) -> Any:
            session.ids = partial(self.ids, session_id)
            return await work(session)

        return await super().update(session_id, kept)


class LosesPatience(MemoryStore[CheckpointData]):
    """Says that it has saved what it has given up."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        try:
            return await super().save(data, **terms)
        except StoreBusyError:
            return data.checkpoint_id


class UpdatesFromThreads(MemoryStore[CheckpointData]):
    """Lets threads update a session side by side."""

    async def update(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        if threading.current_thread() is threading.main_thread():
            return await super().update(session_id, work)
        return await _unlocked(self).update(session_id, work)


class CollectsAtOnce(MemoryStore[LargeValue]):
    """Collects blobs after each change of an update."""

    async def update(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        return await _committed_one_by_one(self, session_id, work, super().update)


class ForgetsWhatWasReplaced(MemoryStore[LargeValue]):
    """Loses the blobs of a save that was not the last word."""

    async def update(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        async def stage(session: Any) -> Any:
            stage_save = session.save

            def saved(data: LargeValue, **terms: Any) -> CheckpointId:
                session._staging._blobs.clear()
                return str(stage_save(data, **terms))

            session.save = saved
            return await work(session)

        return await super().update(session_id, stage)


# Owners


class WaitsForItself(MemoryStore[CheckpointData]):
    """Lets a task wait for what it owns."""

    def own(self, session_id: SessionId, *, wait: bool = True) -> Any:
        return MemoryStore(beside=self, lock_timeout_seconds=0.1).own(session_id, wait=wait)


class AsksTooSoon(MemoryStore[CheckpointData]):
    """Refuses before the block is entered."""

    def own(self, session_id: SessionId, *, wait: bool = True) -> Any:
        if not isinstance(wait, bool):
            raise InvalidArgumentError("wait", wait, "a bool")
        return super().own(session_id, wait=wait)


class FencesReads(MemoryStore[CheckpointData]):
    """Asks who owns the session where nothing is to be written."""

    async def _update_one(self, session_id: SessionId, work: Any, owner: Any = None) -> Any:
        self._commit({session_id: ()}, owner)
        return await super()._update_one(session_id, work, owner)


class OwnsForAll(MemoryStore[CheckpointData]):
    """Lets everybody own everything."""

    def own(self, session_id: SessionId, **terms: Any) -> Any:
        self._shelf.disown(session_id)
        return _unlocked(self).own(session_id, **terms)


class OwnsTheLastFirst(MemoryStore[CheckpointData]):
    """Gives a session to whoever came last."""

    @contextlib.asynccontextmanager
    async def _taken(self, session_id: SessionId, wait: bool) -> AsyncIterator[Any]:
        waiting = self.__dict__.setdefault("waiting", [])
        me = object()
        waiting.append(me)
        try:
            while wait and (waiting[-1] is not me or session_id in self._shelf.owned):
                await asyncio.sleep(0)
            async with super().own(session_id, wait=wait) as owner:
                yield owner
        finally:
            waiting.remove(me)

    def own(self, session_id: SessionId, *, wait: bool = True) -> Any:
        return self._taken(session_id, wait)


class DisownsWhatItDeletes(MemoryStore[CheckpointData]):
    """Deletes with a session who owns it."""

    async def delete_session(self, session_id: SessionId) -> bool:
        self._shelf.disown(session_id)
        return await super().delete_session(session_id)


class WaitsAnyway(MemoryStore[CheckpointData]):
    """Waits where it was not to, and gives the session away."""

    def own(self, session_id: SessionId, *, wait: bool = True) -> Any:
        if not wait:
            self._shelf.disown(session_id)
        return super().own(session_id) if wait else _unlocked(self).own(session_id)


class LetsFormerOwnersWrite(MemoryStore[CheckpointData]):
    """Does not ask who owns the session."""

    async def _save(self, data: Any, blobs: Any, expected: Any, owner: Any = None) -> str:
        return await super()._save(data, blobs, expected)


class RefusesOthers(MemoryStore[CheckpointData]):
    """Refuses saves beside the owner."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        assert data.session_id not in self._shelf.owned
        return await super().save(data, **terms)


class OwnsPastErrors(MemoryStore[CheckpointData]):
    """Keeps a session whose owner has failed."""

    @contextlib.asynccontextmanager
    async def _taken(self, session_id: SessionId, wait: bool) -> AsyncIterator[Any]:
        if self.__dict__.get("is_stuck"):
            msg = "it would wait for ever"
            raise AssertionError(msg)
        try:
            async with super().own(session_id, wait=wait) as owner:
                yield owner
        except Exception:
            self.__dict__["is_stuck"] = True
            raise

    def own(self, session_id: SessionId, *, wait: bool = True) -> Any:
        return self._taken(session_id, wait)


class KeepsWhatItsCancelledOwnersHad(MemoryStore[CheckpointData]):
    """Gives back what an owner had, unless that was cancelled."""

    @contextlib.asynccontextmanager
    async def _taken(self, session_id: SessionId, wait: bool) -> AsyncIterator[Any]:
        try:
            async with super().own(session_id, wait=wait) as owner:
                yield owner
        except asyncio.CancelledError:
            self._shelf.own(session_id)
            raise

    def own(self, session_id: SessionId, *, wait: bool = True) -> Any:
        return self._taken(session_id, wait)


class OwnsBeforeItIsAsked(MemoryStore[CheckpointData]):
    """Keeps what it got for an owner that was cancelled meanwhile."""

    @contextlib.asynccontextmanager
    async def _taken(self, session_id: SessionId, wait: bool) -> AsyncIterator[Any]:
        if wait:
            self._shelf.own(session_id)
            await asyncio.sleep(0)
            self._shelf.disown(session_id)
        async with super().own(session_id, wait=wait) as owner:
            yield owner

    def own(self, session_id: SessionId, *, wait: bool = True) -> Any:
        return self._taken(session_id, wait)


# Places


class MakesAStoreToRecover(MemoryStore[CheckpointData]):
    """Begins a session that is not there by looking for damage in it."""

    async def recover(self, session_id: SessionId) -> RecoveryReport:
        self._shelf.tokens.setdefault(session_id, 0)
        return await super().recover(session_id)


class MakesAStoreToDelete(MemoryStore[CheckpointData]):
    """Begins a session that is not there by deleting it."""

    async def delete_session(self, session_id: SessionId) -> bool:
        self._shelf.tokens.setdefault(session_id, 0)
        return await super().delete_session(session_id)


class DeletesNothingFromNowhere(MemoryStore[CheckpointData]):
    """Looks whether there is anything to delete before the saves that were called earlier."""

    async def delete(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        if not self._shelf.was_changed:
            return False
        return await super().delete(session_id, checkpoint_id)

    async def save(self, data: CheckpointData, /, **options: Any) -> CheckpointId:
        await asyncio.sleep(0)
        return await super().save(data, **options)


class IsGoneWhenEmpty(MemoryStore[CheckpointData]):
    """Takes a store without sessions for none."""

    async def exists(self) -> bool:
        return [session async for session in self.sessions()] != []


# Across sessions


class ListsOnePage(MemoryStore[CheckpointData]):
    """Does not ask for the rest of what a query gives in parts."""

    async def sessions(self, *, prefix: str = "") -> AsyncIterator[SessionId]:
        count = 0
        async for session_id in super().sessions(prefix=prefix):
            count += 1
            if count <= 500:
                yield session_id


class LocksEachAsNamed(MemoryStore[CheckpointData]):
    """Waits for a session that it has locked already."""

    async def update_many(
        self, session_ids: Iterable[SessionId], work: Callable[..., Awaitable[Any]], /
    ) -> Any:
        wanted = [*session_ids]
        assert len(wanted) == len({*wanted}), "it would wait for ever"
        return await super().update_many(wanted, work)


class SortsSessions(MemoryStore[CheckpointData]):
    """Answers in an order of its own."""

    async def load_newest(self, session_ids: Iterable[SessionId], /) -> dict[str, CheckpointData]:
        return dict(sorted((await super().load_newest(session_ids)).items()))


class LooksAtAny(MemoryStore[CheckpointData]):
    """Takes a session for finished where any checkpoint is final."""

    async def unfinished(self, **which: Any) -> AsyncIterator[CheckpointMeta]:
        async for meta in super().unfinished(**which):
            found = await self.list(meta.session_id)
            if not any(one.trigger in which["final_triggers"] for one in found):
                yield meta


class SkipsDamage(MemoryStore[CheckpointData]):
    """Leaves out sessions whose newest is damaged."""

    async def load_newest(self, session_ids: Iterable[SessionId], /) -> dict[str, CheckpointData]:
        whole = []
        for session_id in session_ids:
            with contextlib.suppress(CheckpointCorruptError):
                await self.load(session_id)
                whole.append(session_id)
        return await super().load_newest(whole)


class _OneByOne(MemoryStore[Any]):
    """Makes a commit for each session of one update."""

    async def update_many(
        self, session_ids: Iterable[SessionId], work: Callable[..., Awaitable[Any]], /
    ) -> Any:
        async def stage(sessions: Mapping[str, Any]) -> Any:
            try:
                return await work(sessions)
            finally:
                for session_id, session in sessions.items():
                    self._shelf.commit({session_id: session.end()})

        return await super().update_many(session_ids, stage)


class CommitsSessionsOneByOne(_OneByOne):
    """What it has committed stays when the work raises."""


class CommitsBlobsOneByOne(_OneByOne):
    """What it has committed stays when a blob of the next session is missing."""


class CountsInSmallNumbers(MemoryStore[CheckpointData]):
    """Hands limits to something that has 64 bits for them."""

    async def list(self, session_id: SessionId, **which: Any) -> tuple[CheckpointMeta, ...]:
        assert (which.get("limit") or 0) < 2**63
        return await super().list(session_id, **which)


class ClosesAtOnce(MemoryStore[CheckpointData]):
    """Refuses to commit what had begun before it was closed."""

    def _commit(self, *changes: Any, **terms: Any) -> Any:
        self._require_open()
        return super()._commit(*changes, **terms)


class NeedsSessions(MemoryStore[CheckpointData]):
    """Has nothing to do for no session."""

    async def update_many(
        self, session_ids: Iterable[SessionId], work: Callable[..., Awaitable[Any]], /
    ) -> Any:
        wanted = [*session_ids]
        return await super().update_many(wanted, work) if wanted else None


class LocksAsAsked(MemoryStore[CheckpointData]):
    """Locks sessions in the order in which they are named."""

    async def update_many(
        self, session_ids: Iterable[SessionId], work: Callable[..., Awaitable[Any]], /
    ) -> Any:
        held: list[SessionId] = []
        try:
            for session_id in session_ids:
                if session_id in self.__dict__.setdefault("locked", set()):
                    msg = "it would wait for ever"
                    raise AssertionError(msg)
                self.__dict__["locked"].add(session_id)
                held.append(session_id)
                await asyncio.sleep(0)
            return await super().update_many(held, work)
        finally:
            self.__dict__["locked"].difference_update(held)


# Retention


class KeepsTheGreatestIds(MemoryStore[CheckpointData]):
    """Takes the greatest ids for the newest."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        unbounded = MemoryStore(beside=self)
        await unbounded.save(data, **terms)
        await unbounded.delete_many(data.session_id, (await self.ids(data.session_id))[3:])
        return data.checkpoint_id


class CallsLargeOnesFine(MemoryStore[CheckpointData]):
    """Lists what it may not read without saying so."""

    async def list(self, session_id: SessionId, **which: Any) -> tuple[CheckpointMeta, ...]:
        found = await super().list(session_id, **which)
        return tuple(msgspec.structs.replace(meta, problem=None) for meta in found)


class LeavesOutLargeOnes(MemoryStore[CheckpointData]):
    """Passes over what it may not read where nobody asks for it by its id."""

    async def list(self, session_id: SessionId, **which: Any) -> tuple[CheckpointMeta, ...]:
        found = await super().list(session_id, **which)
        return tuple(meta for meta in found if meta.problem is None)


class LeavesOutOtherTypes(MemoryStore[Any]):
    """Passes over what is no record of its type."""

    async def list(self, session_id: SessionId, **which: Any) -> tuple[CheckpointMeta, ...]:
        found: list[CheckpointMeta] = []
        for meta in await super().list(session_id, **which):
            with contextlib.suppress(CheckpointDecodeError):
                await self.load(session_id, meta.checkpoint_id)
                found.append(meta)
        return (*found,)


class CallsOtherTypesDamaged(MemoryStore[Any]):
    """Takes what is no record of its type for what somebody has changed."""

    async def load(self, session_id: SessionId, checkpoint_id: CheckpointId | None = None) -> Any:
        try:
            return await super().load(session_id, checkpoint_id)
        except CheckpointDecodeError as error:
            raise CheckpointCorruptError(error.path, error.reason) from error


class ReadsWhatItDeletes(MemoryStore[CheckpointData]):
    """Loads a checkpoint to see that it is the one to delete."""

    async def delete(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        await self.load(session_id, checkpoint_id)
        return await super().delete(session_id, checkpoint_id)


class CountsReplacements(MemoryStore[CheckpointData]):
    """Makes room for an id that is there already."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        oldest = (await self.list(data.session_id))[2:]
        await self.delete_many(data.session_id, [meta.checkpoint_id for meta in oldest])
        return await super().save(data, **terms)


class KeepsBlobsOfTheOldest(KeepsBlobs):
    """The same, of what goes because there is too much."""


class BoundsWhatOthersSave(MemoryStore[LargeValue]):
    """Makes room whatever it changes."""

    async def delete(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        answer = await super().delete(session_id, checkpoint_id)
        oldest = (await self.list(session_id))[3:]
        await self.delete_many(session_id, [meta.checkpoint_id for meta in oldest])
        return answer


class KeepsAllOfAnUpdate(MemoryStore[CheckpointData]):
    """Forgets the bound when it updates."""

    async def update(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        return await MemoryStore(beside=self).update(session_id, work)


class BoundsEachSave(MemoryStore[CheckpointData]):
    """Makes room for each save of an update, whatever else it does."""

    async def update(self, session_id: SessionId, work: Callable[..., Awaitable[Any]], /) -> Any:
        async def stage(session: Any) -> Any:
            stage_save = session.save

            def saved(data: CheckpointData, **terms: Any) -> CheckpointId:
                there = [*self._shelf.session(session_id).checkpoints]
                if data.checkpoint_id not in there:
                    session.delete(*there[: len(there) - 2])
                return str(stage_save(data, **terms))

            session.save = saved
            return await work(session)

        return await super().update(session_id, stage)


BROKEN: dict[type[MemoryStore[Any]], str] = {
    MakesAStoreToRecover: "test_looking_makes_no_store",
    MakesAStoreToDelete: "test_changing_nothing_makes_no_store",
    DeletesNothingFromNowhere: "test_the_first_changes_keep_their_order",
    IsGoneWhenEmpty: "test_a_store_is_there_from_its_first_save",
    Aliasing: "test_the_caller_owns_what_it_got",
    EncodesLate: "test_the_caller_owns_what_it_gave",
    OrdersByTime: "test_the_newest_is_the_one_saved_last",
    BelievesTheirTimes: "test_saved_at_is_of_the_store",
    OldestFirst: "test_the_newest_is_the_one_saved_last",
    KeepsPlace: "test_saving_an_id_again_replaces_it",
    MixesSessions: "test_sessions_do_not_touch_one_another",
    Globs: "test_delete_removes_that_one_alone",
    LikesIds: "test_a_prefix_is_no_pattern",
    LikesSessions: "test_a_prefix_is_no_pattern",
    GlobsPrefixes: "test_a_prefix_is_no_pattern",
    IgnoresCase: "test_a_prefix_is_no_pattern",
    NormalisesIds: "test_any_text_is_an_id",
    ListsAThousand: "test_no_page_of_a_session_is_left_out",
    TellsFiveHundredIds: "test_no_page_of_a_session_is_left_out",
    LoadsAThousand: "test_no_page_of_a_session_is_left_out",
    ReadsAThousand: "test_no_page_of_a_session_is_left_out",
    DeletesAThousand: "test_no_page_of_a_session_is_left_behind",
    CopiesFiveHundred: "test_no_page_of_a_session_is_left_behind",
    LoadsTwoHundredBlobs: "test_no_page_of_blobs_is_left_out",
    CopiesDamagedBlobs: "test_a_damaged_blob_is_not_copied",
    RecoversTheNewestFifty: "test_no_page_with_damage_is_left_out",
    ChecksAHundred: "test_no_page_of_sessions_is_left_unchecked",
    MissesDeletes: "test_an_update_notices_whatever_another_changed",
    ComparesForSavesAlone: "test_an_update_notices_whatever_another_changed",
    ComparesTheFirstSession: "test_an_update_of_several_notices_a_change_of_any",
    ComparesWhatItWrites: "test_an_update_of_several_notices_a_change_of_any",
    DisownsWhatItDeletes: "test_an_owner_outlives_what_it_owned",
    DeletesWhatIsNot: "test_what_is_not_there_is_none_and_no_error",
    VerifiesAnything: "test_verify_knows_what_is_stored",
    SwallowsRefusals: "test_what_cannot_come_back_is_refused",
    LosesWhenBusy: "test_saves_of_a_session_keep_their_order",
    RoundsNumbers: "test_every_json_value_comes_back_the_same",
    NamesEmptySessions: "test_sessions_are_named",
    LeavesTheNewest: "test_a_session_is_deleted_as_a_whole",
    CopiesNewestFirst: "test_a_copied_session_has_all_in_order",
    StaysOpen: "test_a_closed_store_refuses",
    ListsAll: "test_a_listing_may_be_read_in_parts",
    IsNowhere: "test_each_checkpoint_has_a_location",
    TakesAnything: "test_one_str_is_no_list",
    TakesAnyTriggers: "test_one_str_is_no_list",
    RecoversAnyId: "test_an_id_that_is_no_text_is_refused_by_all_calls",
    ReadsAnyList: "test_within_a_session_one_str_is_no_list",
    WaitsForAnything: "test_what_is_wrong_is_refused_by_name",
    EncodesPrefixes: "test_what_no_id_can_begin_with_finds_nothing",
    ClosesFirst: "test_a_closed_store_still_looks_at_arguments",
    NestsFirst: "test_within_an_update_arguments_come_first",
    RecoversWithin: "test_an_update_calls_what_is_about_all_sessions_alone",
    NestsBeforeItCloses: "test_that_it_is_closed_comes_before_that_it_is_nested",
    OwnsOn: "test_an_owner_of_a_closed_store_is_refused",
    CutsAtNul: "test_a_nul_is_a_character_like_any_other",
    RecoversByDigest: "test_the_same_blob_of_another_session_stays",
    TakesBlobsAlong: "test_a_blob_that_something_intact_leads_to_stays",
    LosesPatienceWithLargeOnes: "test_what_takes_long_is_waited_for_all_the_same",
    ReadsAsItGoes: "test_what_an_update_reads_was_there_at_one_moment",
    KeepsWhatItsCancelledOwnersHad: "test_what_a_cancelled_owner_had_is_free",
    OwnsBeforeItIsAsked: "test_who_is_cancelled_on_entry_owns_nothing",
    ListsOnePage: "test_no_page_of_sessions_is_left_out",
    LocksEachAsNamed: "test_sessions_may_be_named_again",
    KeepsBlobsOfTheOldest: "test_blobs_go_with_what_is_not_kept",
    BoundsWhatOthersSave: "test_what_only_others_save_to_is_left_alone",
    TakesAnyDigest: "test_one_str_is_no_list_of_digests",
    MendsWhatIsWhole: "test_a_healthy_store_has_nothing_to_mend",
    KeepsBlobs: "test_blobs_go_with_the_last_record_that_names_them",
    DropsSharedBlobs: "test_blobs_go_with_the_last_record_that_names_them",
    CopiesNoBlobs: "test_blobs_go_and_are_copied_with_their_session",
    TrustsBlobs: "test_a_damaged_blob_raises",
    ForgetsBlobs: "test_blobs_are_there_again",
    StagesNoBlobs: "test_a_record_without_its_blobs_spoils_all",
    Forgets: "test_what_was_saved_is_there_again",
    ForgetsDeletes: "test_what_was_deleted_stays_so",
    SortsAnew: "test_the_order_goes_on",
    NamesDirectories: "test_any_text_is_an_id_again",
    CachesReads: "test_what_was_saved_is_seen_at_once",
    ExpectsItsOwn: "test_a_condition_is_about_what_all_have_saved",
    ChecksThenSaves: "test_of_racing_clients_one_begins_the_session",
    ClosesForAll: "test_one_client_closes_and_the_other_goes_on",
    FallsBack: "test_damage_raises_and_nothing_older_comes_instead",
    HidesDamage: "test_damage_is_told",
    StopsAtDamage: "test_a_session_goes_on_after_damage",
    RecoversTheNewest: "test_recover_goes_back_knowingly",
    CopiesDamage: "test_damage_is_not_copied",
    SavesLater: "test_a_cancelled_save_is_all_or_nothing",
    ReplacesInTwoSteps: "test_a_cancelled_replacement_leaves_one_of_both",
    DeletesOneByOne: "test_a_cancelled_delete_is_all_or_nothing",
    DeletesSessionsOneByOne: ("test_a_call_is_all_or_nothing_whichever_of_its_waits_is_cancelled"),
    CancelsOthers: "test_others_are_not_touched",
    EndsAtTheSecond: "test_a_call_that_is_cancelled_again_has_ended_all_the_same",
    UpdatesAnyway: "test_an_update_that_is_cancelled_again_has_ended_all_the_same",
    UpdatesWithoutTurns: "test_of_updates_none_is_lost",
    OverlooksOthers: "test_of_updates_of_two_clients_none_is_lost",
    HoldsOthersUp: "test_work_may_ask_another_client",
    CountsTheWholeLine: "test_a_line_that_moves_on_is_waited_for",
    NeedsSessions: "test_an_update_of_no_session_calls_its_work",
    CommitsInSpiteOfErrors: "test_work_that_raises_changes_nothing",
    WritesAtOnce: "test_what_is_staged_is_not_read",
    DeletesLast: "test_the_last_word_counts",
    SortsSavedIds: "test_saved_ids_are_in_the_order_of_saving",
    ReadsWhatItKnew: "test_a_read_begins_with_what_others_have_stored",
    SwallowsWhatWorkRaises: "test_what_work_of_a_read_raises_passes",
    LetsSavesPass: "test_other_changes_wait_for_it",
    NestsSilently: "test_a_change_beside_the_transaction_is_refused",
    UpdatesForEver: "test_what_work_leaves_behind_may_call",
    StagesObjects: "test_the_caller_owns_what_it_staged",
    TakesTheLateOnes: "test_what_cannot_be_saved_is_refused_where_it_is_staged",
    CancelsThoseThatWait: "test_a_cancelled_update_is_all_or_nothing",
    ReadsWithin: "test_its_session_is_read_by_the_transaction_alone",
    LooksAtTasksAlone: "test_a_thread_that_work_waits_for_is_a_part_of_it",
    AwaitsNothing: "test_work_that_is_not_async_is_refused",
    ReadsOn: "test_a_transaction_that_is_over_reads_nothing",
    LosesPatience: "test_a_call_waits_no_longer_than_it_is_told",
    UpdatesFromThreads: "test_work_that_waits_for_a_plain_thread_goes_on",
    CollectsAtOnce: "test_a_blob_of_what_goes_may_be_named_again",
    ForgetsWhatWasReplaced: "test_a_blob_is_given_once_for_all_of_an_update",
    WaitsForItself: "test_an_owner_does_not_wait_for_itself",
    AsksTooSoon: "test_a_wait_that_is_no_bool_is_refused",
    FencesReads: "test_an_owner_that_stages_nothing_writes_nothing",
    OwnsForAll: "test_a_session_has_one_owner_of_all",
    OwnsTheLastFirst: "test_one_owns_at_a_time_in_the_order_of_the_calls",
    WaitsAnyway: "test_a_second_one_may_be_told_at_once",
    LetsFormerOwnersWrite: "test_who_is_no_owner_any_more_is_refused",
    RefusesOthers: "test_writes_beside_the_owner_are_not_refused",
    OwnsPastErrors: "test_it_is_given_up_however_the_block_ends",
    KeepsTheGreatestIds: "test_the_newest_are_kept",
    CountsReplacements: "test_what_is_replaced_or_deleted_makes_room",
    BoundsEachSave: "test_an_update_is_bounded_when_all_is_staged",
    KeepsAllOfAnUpdate: "test_one_update_keeps_the_bound",
    CallsLargeOnesFine: "test_what_is_too_large_is_listed_as_such",
    LeavesOutLargeOnes: "test_what_is_too_large_is_named_by_all",
    LeavesOutOtherTypes: "test_what_is_of_another_type_is_listed",
    CallsOtherTypesDamaged: "test_what_is_of_another_type_is_no_damage",
    ReadsWhatItDeletes: "test_what_is_too_large_can_be_deleted",
    SortsSessions: "test_the_newest_of_many_come_in_one_call",
    LooksAtAny: "test_sessions_that_are_not_final_are_told",
    SkipsDamage: "test_damage_is_not_left_out",
    CommitsBlobsOneByOne: "test_a_missing_blob_spoils_all_sessions",
    CountsInSmallNumbers: "test_a_limit_may_be_any_whole_number",
    ClosesAtOnce: "test_closing_waits_for_what_goes_on",
    CommitsSessionsOneByOne: "test_several_sessions_change_in_one_commit_or_it_is_refused",
    LocksAsAsked: "test_commits_over_sessions_do_not_wait_for_each_other_for_ever",
}

_UNTIL_FOUND = settings(max_examples=100, phases=[Phase.generate])
PARTS = [
    part for name, part in vars(testing).items() if name.endswith("Contract")
]  # fmt: skip


def promises() -> dict[str, Callable[..., Awaitable[None]]]:
    """Return the tests of all parts by their names."""
    return {
        name: getattr(part(), name)
        for part in PARTS
        for name, _ in inspect.getmembers(part, inspect.isfunction)
        if name.startswith("test")
    }


def fixtures(kind: type[MemoryStore[Any]]) -> dict[str, Any]:
    """Return what the tests of the contract ask for, of one kind of store."""
    store, blob_store = kind(CheckpointData), kind(LargeValue)

    async def reopen(last: MemoryStore[Any]) -> MemoryStore[Any]:
        return kind(last.record_type, beside=last)

    async def damage(session_id: SessionId, checkpoint_id: CheckpointId) -> None:
        store.damage(session_id, checkpoint_id)

    async def damage_blob(session_id: SessionId, digest: str) -> None:
        blob_store.damage(session_id, digest)

    return {
        "store": store,
        "other": kind(CheckpointData, beside=store),
        "foreign_store": kind(LargeValue, beside=store),
        "narrow_store": kind(CheckpointData, beside=store, max_bytes=10_000),
        "bounded_store": kind(CheckpointData, max_checkpoints=3),
        "hasty_store": kind(CheckpointData, lock_timeout_seconds=0.5),
        "blob_store": blob_store,
        "bounded_blob_store": kind(LargeValue, beside=blob_store, max_checkpoints=3),
        "other_blob_store": kind(LargeValue, beside=blob_store),
        "reopen": reopen,
        "damage": damage,
        "damage_blob": damage_blob,
    }


@pytest.mark.parametrize(("broken", "test_name"), BROKEN.items(), ids=str)
async def test_the_contract_notices_a_broken_store(
    broken: type[MemoryStore[Any]], test_name: str
) -> None:
    """A store with one fault fails the test that is named for the promise it breaks."""
    test, given = promises()[test_name], fixtures(broken)
    wanted = {name: given[name] for name in inspect.signature(test).parameters}
    with pytest.raises((AssertionError, CheckpointError)):
        await test(**wanted)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


class BlocksTheLoop(MemoryStore[CheckpointData]):
    """Does not let others go on while it saves."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        time.sleep(0)
        return await super().save(data, **terms)


@pytest.mark.blocking  # or the guard of this project's own tests would be there, too
async def test_blocking_is_found_as_the_docs_say() -> None:
    """The contract alone takes a store that blocks the loop; with blockbuster it is found."""
    test = promises()["test_load_gives_back_what_was_saved"]
    await test(store=BlocksTheLoop())
    with blockbuster_ctx(), pytest.raises(BlockingError):
        await test(store=BlocksTheLoop())


@pytest.mark.blocking
@pytest.mark.parametrize("broken", [KeepsPlace, Globs, CommitsInSpiteOfErrors, SortsAnew])
@pytest.mark.few(2)
def test_the_machine_notices_a_broken_store(broken: type[MemoryStore[CheckpointData]]) -> None:
    """Any calls in any order find what is wrong with a store."""

    class Machine(StoreMachine):
        _last: MemoryStore[CheckpointData] | None = None

        async def connect(self) -> CheckpointStore[CheckpointData]:
            self._last = broken(CheckpointData, beside=self._last)
            return self._last

    with pytest.raises(AssertionError):
        run_state_machine_as_test(Machine, settings=_UNTIL_FOUND)


def test_every_promise_of_the_contract_is_one_sentence() -> None:
    """Each test of the contract says in one sentence what is promised."""
    texts = {name: inspect.getdoc(test) or "" for name, test in promises().items()}
    assert len(texts) >= 80
    assert [name for name, text in texts.items() if not text.endswith(".")] == []


def test_no_two_promises_have_one_name() -> None:
    """All parts may be inherited together."""
    names = [
        name
        for part in PARTS
        for name, _ in inspect.getmembers(part, inspect.isfunction)
        if name.startswith("test")
    ]
    assert len(names) == len(set(names))
