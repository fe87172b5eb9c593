"""For tests: the contract of a `CheckpointStore`, a store in memory, and a disk that fails.

```python
import pytest
from aiocheckpoint.testing import CheckpointStoreContract, MemoryStore


class TestMyStore(CheckpointStoreContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()
```
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from os import PathLike
from pathlib import Path
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar, overload

from aiocheckpoint._arguments import checkpoint_ids_of, digests_of, require_query
from aiocheckpoint._disk.files import LocalFiles
from aiocheckpoint._engine.store import Precondition
from aiocheckpoint._format.codec import (
    RecordCodec,
    RecordT,
    blob_digest,
    parse_meta,
    require_digest,
    require_digests,
    seal,
    verified,
)
from aiocheckpoint._format.names import encode_id
from aiocheckpoint.errors import (
    CheckpointEncodeError,
    CheckpointError,
    InvalidIdError,
    MissingBlobError,
    SessionChangedError,
    StorageError,
)
from aiocheckpoint.models import (
    BlobRecord,
    CheckpointData,
    CheckpointId,
    CheckpointMeta,
    JsonValue,
    SessionId,
)
from aiocheckpoint.writer import NO_BLOBS, CheckpointStore

__all__ = (
    "BlobStoreContract",
    "Call",
    "CheckpointStoreContract",
    "Fault",
    "FaultyFiles",
    "LargeValue",
    "MemoryStore",
)

P = ParamSpec("P")
ResultT = TypeVar("ResultT")

_OPENING = frozenset({"create", "open", "open directory"})
_CLOSING = frozenset({"close", "close directory"})


class MemoryStore(Generic[RecordT]):
    """
    A `CheckpointStore` that forgets everything when the process ends.

    It keeps the bytes that a file would hold, so it refuses what the writer refuses and never
    hands out an object twice. For unit tests of an application, and as the model of a store.

    Args:
        record_type: the Struct to store, extending `CheckpointRecord`.
    """

    @overload
    def __init__(self: MemoryStore[CheckpointData]) -> None: ...

    @overload
    def __init__(self, record_type: type[RecordT]) -> None: ...

    def __init__(self, record_type: type[Any] = CheckpointData) -> None:
        self._codec: RecordCodec[RecordT] = RecordCodec(record_type)
        self._sessions: dict[SessionId, dict[CheckpointId, bytes]] = {}
        self._blobs: dict[SessionId, dict[str, bytes]] = {}
        self._digests: dict[tuple[SessionId, CheckpointId], tuple[str, ...]] = {}

    async def save(
        self,
        data: RecordT,
        /,
        *,
        blobs: Mapping[str, bytes] = NO_BLOBS,
        precondition: Precondition | None = None,
    ) -> CheckpointId:
        """Store a checkpoint and its new blobs, replacing one of its id, and return its id."""
        draft = self._codec.draft(data)
        _path(draft.session_id, draft.checkpoint_id)
        session = self._sessions.setdefault(draft.session_id, {})
        newest_id = max(session, default=None)
        if precondition is not None and not precondition(newest_id):
            raise SessionChangedError(draft.session_id, newest_id)
        digests = data.blob_digests if isinstance(data, BlobRecord) else ()
        self._store_blobs(draft.session_id, digests, blobs)
        session.pop(draft.checkpoint_id, None)  # a dict keeps the place of a key that it has
        session[draft.checkpoint_id] = seal(draft).body
        self._digests[draft.session_id, draft.checkpoint_id] = digests
        self._collect(draft.session_id)
        return draft.checkpoint_id

    def _store_blobs(
        self, session_id: SessionId, digests: tuple[str, ...], given: Mapping[str, bytes]
    ) -> None:
        require_digests(digests)
        stored = self._blobs.setdefault(session_id, {})
        new = {digest: given[digest] for digest in digests if digest in given}
        for digest, data in new.items():
            require_digest(digest, data)
        for digest in digests:
            if digest not in new and digest not in stored:
                raise MissingBlobError(str(_path(session_id, digest)), digest)
        stored.update(new)

    def _collect(self, session_id: SessionId) -> None:
        used = {
            digest
            for (owner, _), digests in self._digests.items()
            if owner == session_id
            for digest in digests
        }
        blobs = self._blobs.get(session_id, {})
        self._blobs[session_id] = {key: data for key, data in blobs.items() if key in used}

    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> RecordT | None:
        """Return a checkpoint, the one saved last by default; None when there is none."""
        path = _path(session_id, checkpoint_id or "")
        session = self._sessions.get(session_id, {})
        if checkpoint_id is None:
            checkpoint_id = next(reversed(session), None)
        body = None if checkpoint_id is None else session.get(checkpoint_id)
        if body is None:
            return None
        return self._codec.decode(verified(body, str(path)), str(path))

    async def list(self, session_id: SessionId) -> tuple[CheckpointMeta, ...]:
        """Return what there is of a session, saved last first."""
        session = self._sessions.get(session_id, {})
        metas = [parse_meta(body, _path(session_id, key)) for key, body in session.items()]
        return tuple(meta for meta in reversed(metas) if meta is not None)

    async def delete(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        """Remove a checkpoint; False when there is none."""
        return bool(await self.delete_many(session_id, (checkpoint_id,)))

    async def verify(self, path: str | PathLike[str], /) -> bool:
        """Tell whether a path is one of those `list` gives; they name no file."""
        return any(
            Path(path) == _path(session_id, checkpoint_id)
            for session_id, session in self._sessions.items()
            for checkpoint_id in session
        )

    async def ids(
        self,
        session_id: SessionId,
        *,
        prefix: str = "",
        before: CheckpointId | None = None,
        limit: int | None = None,
    ) -> tuple[CheckpointId, ...]:
        """Return ids of a session, the greatest first."""
        _path(session_id, "")
        require_query(prefix, before, limit)
        found = [
            key
            for key in sorted(self._sessions.get(session_id, {}), reverse=True)
            if key.startswith(prefix) and (before is None or key < before)
        ]
        return tuple(found[:limit])

    async def load_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> tuple[RecordT, ...]:
        """Return those of the checkpoints that are there, the one saved first first."""
        _path(session_id, "")
        wanted = {*checkpoint_ids_of(checkpoint_ids)}
        records = [
            await self.load(session_id, key)
            for key in self._sessions.get(session_id, {})
            if key in wanted
        ]
        return tuple(record for record in records if record is not None)

    async def delete_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> int:
        """Remove checkpoints, all or none, and return how many there were."""
        _path(session_id, "")
        doomed = {*checkpoint_ids_of(checkpoint_ids)}
        session = self._sessions.get(session_id, {})
        found = doomed & session.keys()
        for checkpoint_id in found:
            del session[checkpoint_id]
            del self._digests[session_id, checkpoint_id]
        self._collect(session_id)
        return len(found)

    async def load_blobs(
        self, session_id: SessionId, digests: Iterable[str], /
    ) -> dict[str, bytes]:
        """Return blobs of a session by their digests."""
        wanted = tuple(dict.fromkeys(digests_of(digests)))
        stored = self._blobs.get(session_id, {})
        for digest in wanted:
            if digest not in stored:
                raise MissingBlobError(str(_path(session_id, digest)), digest)
        return {digest: stored[digest] for digest in wanted}


def _path(session_id: SessionId, checkpoint_id: CheckpointId) -> Path:
    session_name = encode_id(session_id, "session id")
    return Path("memory", session_name, encode_id(checkpoint_id, "checkpoint id"))


_START = datetime(2026, 11, 23, 10, 15, tzinfo=UTC)

ODD_IDS = (
    "",
    ".",
    "..",
    "../x",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "*",
    "[a]",
    "a*",
    "ann@example.org",
    "a b ",
    "a.",
    "CON",
    "-rf",
    "\n",
    "\0",
    "latest.json",
    ".aiocheckpoint",
    "дерево",
    "🪵",
    "x" * 5000,
)
"""Ids that a store has to tell apart, and that must not lead out of it."""

EXACT_VALUES: tuple[JsonValue, ...] = (
    None,
    True,
    False,
    0,
    -(2**63),
    2**63 - 1,
    2**64 - 1,
    0.1,
    -0.0,
    1e16,
    1e-5,
    5e-324,
    1.7976931348623157e308,
    "",
    '"\\\b\f\n\r\t\0\x7f\u2028',
    "naïve 日本語 🪵",
    [],
    {},
    [[], {}, [None]],
    {"": {"a b": [1, 2.5, "3"]}},
)
"""JSON values that have to come back as they are, type and sign included."""

REFUSED_VALUES: tuple[object, ...] = (
    math.nan,
    math.inf,
    b"x",
    {1, 2},
    2**64,
    "\ud800",
    {1: "x"},
    object(),
)
"""Values that JSON, or another reader of the format, would not give back."""


def _checkpoint(session_id: SessionId, iteration: int = 0, **fields: Any) -> CheckpointData:
    """Return a checkpoint whose times run against the order of its iterations."""
    created_at = _START - timedelta(minutes=iteration)
    return CheckpointData(
        session_id=session_id, iteration=iteration, created_at=created_at, **fields
    )


class CheckpointStoreContract:
    """
    What every `CheckpointStore` of `CheckpointData` must do; subclass it in a test module.

    The subclass gives a fixture `store`: an empty store, new for each test. The tests are
    coroutines: set `asyncio_mode = "auto"` of pytest-asyncio, or mark the subclass with
    `pytest.mark.asyncio`. `pytest.register_assert_rewrite("aiocheckpoint.testing")` in a
    `conftest.py` shows the values of a failed assertion.
    """

    async def test_load_gives_back_what_was_saved(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """Save returns the id, and load returns an equal record, by id and as the newest."""
        saved = _checkpoint(
            "s",
            7,
            trigger="tool_result",
            messages=[{"role": "user", "content": "hello"}],
            tool_calls_pending=[{"id": "call-1"}],
            tool_results={"call-0": "done"},
            tokens_used=2**40,
            cost_estimate=0.25,
            resume_hint="ask again",
        )
        assert await store.save(saved) == saved.checkpoint_id
        assert await store.load("s") == saved
        assert await store.load("s", saved.checkpoint_id) == saved

    async def test_what_is_not_there_is_none_and_no_error(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """Unknown sessions and ids give None, an empty tuple or False."""
        assert await store.load("s") is None
        assert await store.load("s", "unknown") is None
        assert await store.list("s") == ()
        assert not await store.delete("s", "unknown")
        await store.save(_checkpoint("s"))
        assert await store.load("s", "unknown") is None
        assert not await store.delete("s", "unknown")

    async def test_every_json_value_comes_back_the_same(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """Each JSON value comes back with its type, its digits and its sign."""
        values = list(EXACT_VALUES)
        await store.save(_checkpoint("s", messages=values, tool_results={"values": values}))
        loaded = await store.load("s")
        assert loaded is not None
        assert repr(loaded.messages) == repr(values)
        assert repr(loaded.tool_results) == repr({"values": values})

    async def test_what_cannot_come_back_is_refused(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """A value that would come back changed is refused by its path, and nothing changes."""
        first = _checkpoint("s", 1)
        await store.save(first)
        for value in REFUSED_VALUES:
            error = None
            try:
                await store.save(_checkpoint("s", 2, messages=["fine", {"content": value}]))
            except CheckpointEncodeError as refusal:
                error = refusal
            assert error is not None, value
            assert error.path.startswith("messages[1]"), value
        assert await store.load("s") == first
        assert len(await store.list("s")) == 1

    async def test_the_caller_owns_what_it_gave(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """A change made after save was called, even while it runs, is not stored."""
        data = _checkpoint("s", messages=[{"content": ["as it was"]}])
        saving = asyncio.create_task(store.save(data))
        await asyncio.sleep(0)
        data.messages[0]["content"].append("later")
        await saving
        data.messages.append("later still")
        loaded = await store.load("s")
        assert loaded is not None
        assert loaded.messages == [{"content": ["as it was"]}]

    async def test_the_caller_owns_what_it_got(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """A change of a loaded record does not show in the next load."""
        await store.save(_checkpoint("s", messages=[{"content": ["as it was"]}]))
        first = await store.load("s")
        assert first is not None
        first.messages[0]["content"].append("mine")
        second = await store.load("s")
        assert second is not None
        assert second.messages == [{"content": ["as it was"]}]

    async def test_the_newest_is_the_one_saved_last(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """Load and list go by the order of saving, whatever the records' own times say."""
        saved = [_checkpoint("s", iteration) for iteration in range(5)]
        for data in saved:
            await store.save(data)
        metas = await store.list("s")
        assert await store.load("s") == saved[-1]
        assert [meta.iteration for meta in metas] == [4, 3, 2, 1, 0]

    async def test_list_tells_what_was_saved(self, store: CheckpointStore[CheckpointData]) -> None:
        """A listing entry has the record's ids, time, trigger and iteration, and a checksum."""
        data = _checkpoint("s", 3, trigger="tool_result")
        await store.save(data)
        (meta,) = await store.list("s")
        assert (meta.session_id, meta.checkpoint_id) == ("s", data.checkpoint_id)
        assert (meta.created_at, meta.trigger, meta.iteration) == (
            data.created_at,
            "tool_result",
            3,
        )
        assert len(bytes.fromhex(meta.checksum)) == 32

    async def test_saving_an_id_again_replaces_it(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """The second save of an id is the newest checkpoint, and the first is gone."""
        for checkpoint_id, iteration in (("a", 1), ("b", 2), ("a", 3)):
            await store.save(_checkpoint("s", iteration, checkpoint_id=checkpoint_id))
        newest, by_id = await store.load("s"), await store.load("s", "a")
        assert newest is not None
        assert newest == by_id
        assert newest.iteration == 3
        assert [meta.checkpoint_id for meta in await store.list("s")] == ["a", "b"]
        assert await store.delete("s", "a")
        assert await store.load("s", "a") is None

    async def test_delete_removes_that_one_alone(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """Deleting the newest makes the one before it the newest; a second delete finds none."""
        saved = [_checkpoint("s", i, checkpoint_id=name) for i, name in enumerate(("a", "ab", "b"))]
        for data in saved:
            await store.save(data)
        assert not await store.delete("s", "*")
        assert await store.delete("s", "b")
        assert not await store.delete("s", "b")
        assert await store.load("s", "b") is None
        assert await store.load("s") == saved[1]
        assert await store.delete("s", "a")
        assert [meta.checkpoint_id for meta in await store.list("s")] == ["ab"]

    async def test_sessions_do_not_touch_one_another(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """The same id in two sessions names two checkpoints."""
        one, two = (_checkpoint(session, checkpoint_id="same") for session in ("one", "two"))
        await store.save(one)
        await store.save(two)
        assert await store.load("one", "same") == one
        assert await store.delete("one", "same")
        assert await store.load("two") == two
        assert await store.list("one") == ()

    async def test_any_text_is_an_id(self, store: CheckpointStore[CheckpointData]) -> None:
        """Every id names its own session and its own checkpoint, paths and wildcards included."""
        # Of checkpoints also two that differ in case; sessions of such ids share a directory on
        # a disk that ignores case.
        for number, session_id in enumerate(ODD_IDS):
            await store.save(_checkpoint(session_id, number))
        for number, checkpoint_id in enumerate((*ODD_IDS, "A", "a")):
            await store.save(_checkpoint("s", number, checkpoint_id=checkpoint_id))
        for number, session_id in enumerate(ODD_IDS):
            loaded = await store.load(session_id)
            assert loaded is not None, session_id
            assert (loaded.session_id, loaded.iteration) == (session_id, number)
        for number, checkpoint_id in enumerate((*ODD_IDS, "A", "a")):
            loaded = await store.load("s", checkpoint_id)
            assert loaded is not None, checkpoint_id
            assert (loaded.checkpoint_id, loaded.iteration) == (checkpoint_id, number)
        assert await store.delete("s", "*")
        assert len(await store.list("s")) == len(ODD_IDS) + 1

    async def test_an_id_that_is_no_text_is_refused(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """A lone surrogate, which no JSON body can hold, is refused by name everywhere."""
        bad = "a\ud800"
        calls: list[Callable[[], Any]] = [
            lambda: store.save(_checkpoint(bad)),
            lambda: store.save(_checkpoint("s", checkpoint_id=bad)),
            lambda: store.load(bad),
            lambda: store.load("s", bad),
            lambda: store.delete("s", bad),
        ]
        for call in calls:
            refused = False
            try:
                await call()
            except (InvalidIdError, CheckpointEncodeError):
                refused = True
            assert refused
        assert await store.list("s") == ()

    async def test_saves_of_a_session_keep_their_order(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """Saves started together take effect in the order of the calls, and none is lost."""
        saves = [store.save(_checkpoint("s", iteration)) for iteration in range(50)]
        ids = await asyncio.gather(*saves)
        metas = await store.list("s")
        assert [meta.checkpoint_id for meta in metas] == ids[::-1]

    async def test_sessions_save_side_by_side(self, store: CheckpointStore[CheckpointData]) -> None:
        """Tasks that save, load and delete in their own sessions see only their own work."""

        async def live(session_id: SessionId) -> None:
            for iteration in range(5):
                data = _checkpoint(session_id, iteration)
                await store.save(data)
                assert await store.load(session_id) == data
                if iteration % 2:
                    assert await store.delete(session_id, data.checkpoint_id)
            assert [meta.iteration for meta in await store.list(session_id)] == [4, 2, 0]

        await asyncio.gather(*(live(f"session-{number}") for number in range(16)))

    async def test_a_cancelled_save_is_all_or_nothing(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """After a cancelled save the newest is the old or the new one, and saving goes on."""
        first, second, third = (_checkpoint("s", iteration) for iteration in range(3))
        await store.save(first)
        saving = asyncio.create_task(store.save(second))
        await asyncio.sleep(0)
        saving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await saving
        assert await store.load("s") in (first, second)
        await store.save(third)
        assert await store.load("s") == third

    async def test_ids_come_greatest_first(self, store: CheckpointStore[CheckpointData]) -> None:
        """Ids are told by prefix, bound and limit, whatever the order of saving."""
        for checkpoint_id in ("b2", "a", "b1", "b", "b3", "c", "x" * 300, "b/"):
            await store.save(_checkpoint("s", checkpoint_id=checkpoint_id))
        await store.save(_checkpoint("s", 1, checkpoint_id="b1"))
        assert await store.ids("s") == ("x" * 300, "c", "b3", "b2", "b1", "b/", "b", "a")
        assert await store.ids("s", prefix="b") == ("b3", "b2", "b1", "b/", "b")
        assert await store.ids("s", prefix="b", before="b3", limit=2) == ("b2", "b1")
        assert await store.ids("s", prefix="xx", before="xy") == ("x" * 300,)
        assert await store.ids("s", prefix="d") == ()
        assert await store.ids("t") == ()
        await store.delete("s", "b3")
        assert await store.ids("s", prefix="b", limit=1) == ("b2",)

    async def test_many_are_loaded_in_the_order_of_saving(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """Load_many gives what is there of what was asked for, saved first first."""
        saved = [_checkpoint("s", number, checkpoint_id=key) for number, key in enumerate("cab")]
        for data in saved:
            await store.save(data)
        assert await store.load_many("s", ["a", "b", "c", "d", "a"]) == tuple(saved)
        assert await store.load_many("t", ["a"]) == ()

    async def test_many_are_deleted_at_once(self, store: CheckpointStore[CheckpointData]) -> None:
        """Delete_many removes those and no others, and tells how many there were."""
        for checkpoint_id in ("a", "b", "c", "d"):
            await store.save(_checkpoint("s", checkpoint_id=checkpoint_id))
        assert await store.delete_many("s", ["d", "b", "unknown"]) == 2
        assert await store.ids("s") == ("c", "a")
        assert await store.delete_many("s", ["d", "b"]) == 0
        assert await store.delete_many("t", ["a"]) == 0

    async def test_a_precondition_decides_under_the_lock(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """Of saves that race for an empty session, each on condition that it is, one succeeds."""

        def is_none(newest_id: CheckpointId | None) -> bool:
            return newest_id is None

        saves = [
            store.save(_checkpoint("s", checkpoint_id=key), precondition=is_none) for key in "abc"
        ]
        answers = await asyncio.gather(*saves, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, SessionChangedError)]
        (stored,) = await store.ids("s")
        assert answers.count(stored) == 1
        assert len(refused) == 2
        assert refused[0].newest_id == stored
        await store.save(_checkpoint("s"), precondition=lambda newest_id: newest_id == stored)

    async def test_verify_knows_what_is_stored(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """Verify is true for a listed path, and false once the checkpoint is deleted."""
        checkpoint_id = await store.save(_checkpoint("s"))
        await store.save(_checkpoint("s", 1))
        *_, oldest = await store.list("s")
        assert await store.verify(oldest.path)
        assert await store.verify(str(oldest.path))
        await store.delete("s", checkpoint_id)
        assert not await store.verify(oldest.path)


class LargeValue(BlobRecord):
    """
    The record of the contract of blobs.

    Attributes:
        note: some text.
    """

    note: str = ""


def _large(checkpoint_id: str, *blobs: bytes, session_id: str = "s") -> LargeValue:
    digests = tuple(map(blob_digest, blobs))
    return LargeValue(session_id=session_id, checkpoint_id=checkpoint_id, blob_digests=digests)


def _by_digest(*blobs: bytes) -> dict[str, bytes]:
    return {blob_digest(blob): blob for blob in blobs}


async def _refusal(call: Awaitable[object]) -> type[CheckpointError] | None:
    try:
        await call
    except CheckpointError as error:
        return type(error)
    return None


class BlobStoreContract:
    """
    What every `CheckpointStore` must do about blobs; subclass it beside the other contract.

    The subclass gives a fixture `blob_store`: an empty store of `LargeValue`.
    """

    async def test_blobs_come_back(self, blob_store: CheckpointStore[LargeValue]) -> None:
        """A record and its blobs come back byte for byte, an empty blob too."""
        blobs = (b"", b"\0\xff" * 5000, b"x")
        data = _large("a", *blobs)
        await blob_store.save(data, blobs=_by_digest(*blobs))
        assert await blob_store.load("s") == data
        loaded = await blob_store.load_blobs("s", data.blob_digests)
        assert loaded == _by_digest(*blobs)

    async def test_what_is_stored_need_not_be_given(
        self, blob_store: CheckpointStore[LargeValue]
    ) -> None:
        """A later record may name a blob of an earlier one; of another session it may not."""
        await blob_store.save(_large("a", b"one"), blobs=_by_digest(b"one"))
        second = _large("b", b"one", b"two")
        await blob_store.save(second, blobs=_by_digest(b"two"))
        assert len(await blob_store.load_blobs("s", second.blob_digests)) == 2
        other = _large("b", b"one", session_id="t")
        assert await _refusal(blob_store.save(other)) is MissingBlobError

    async def test_a_record_without_its_blobs_is_refused(
        self, blob_store: CheckpointStore[LargeValue]
    ) -> None:
        """A save that names a blob nobody has changes nothing, nor does one of a false name."""
        await blob_store.save(_large("a", b"one"), blobs=_by_digest(b"one"))
        data = _large("a", b"one", b"two")
        assert await _refusal(blob_store.save(data)) is MissingBlobError
        false = {blob_digest(b"two"): b"three"}
        assert await _refusal(blob_store.save(data, blobs=false)) is CheckpointEncodeError
        twice = _large("a", b"one", b"one")
        assert await _refusal(blob_store.save(twice)) is CheckpointEncodeError
        assert await blob_store.load("s") == _large_like(await blob_store.load("s"), b"one")
        assert await _refusal(blob_store.load_blobs("s", false)) is MissingBlobError

    async def test_blobs_go_with_the_last_record_that_names_them(
        self, blob_store: CheckpointStore[LargeValue]
    ) -> None:
        """Delete and replacement remove the blobs that nothing names any more, no others."""
        await blob_store.save(_large("a", b"1", b"2"), blobs=_by_digest(b"1", b"2"))
        await blob_store.save(_large("b", b"2", b"3"), blobs=_by_digest(b"3"))
        await blob_store.delete("s", "a")
        assert await _refusal(blob_store.load_blobs("s", _by_digest(b"1"))) is MissingBlobError
        assert len(await blob_store.load_blobs("s", _by_digest(b"2", b"3"))) == 2
        await blob_store.save(_large("b", b"3"))
        assert await _refusal(blob_store.load_blobs("s", _by_digest(b"2"))) is MissingBlobError
        assert await blob_store.delete_many("s", ["b"]) == 1
        assert await _refusal(blob_store.load_blobs("s", _by_digest(b"3"))) is MissingBlobError
        await blob_store.save(_large("a", b"1", b"3"), blobs=_by_digest(b"1", b"3"))
        assert len(await blob_store.load_blobs("s", _by_digest(b"1", b"3"))) == 2

    async def test_saves_that_share_blobs_run_side_by_side(
        self, blob_store: CheckpointStore[LargeValue]
    ) -> None:
        """Concurrent saves and deletes never leave a record without its blobs."""

        async def live(task: int) -> None:
            for step in range(6):
                blobs = [f"{step // 2}".encode(), f"{step % 3}".encode() * 3]
                data = _large(f"{task}-{step}", *blobs)
                await blob_store.save(data, blobs=_by_digest(*blobs))
                assert len(await blob_store.load_blobs("s", data.blob_digests)) == 2
                if step % 2:
                    await blob_store.delete("s", data.checkpoint_id)

        await asyncio.gather(*(live(task) for task in range(8)))
        for record in await blob_store.load_many("s", await blob_store.ids("s")):
            assert len(await blob_store.load_blobs("s", record.blob_digests)) == 2


def _large_like(record: LargeValue | None, *blobs: bytes) -> LargeValue:
    assert record is not None
    data = _large(record.checkpoint_id, *blobs)
    data.created_at = record.created_at
    return data


class Call(NamedTuple):
    """
    One system call that was asked for.

    Attributes:
        operation: as in the errors, `"sync file"`.
        path: of the file or directory.
        thread: the identity of the thread that made it.
    """

    operation: str
    path: str
    thread: int


class Fault(NamedTuple):
    """
    Which system calls fail, and how.

    Attributes:
        error_number: the `errno`.
        operation: which kind of call, as in `StorageError.operation`; None for any.
        nth: which of them, 0 being the first after arming.
        after_effect: whether the call has its effect and then fails.
        for_ever: whether all later ones fail too.
    """

    error_number: int
    operation: str | None = None
    nth: int = 0
    after_effect: bool = False
    for_ever: bool = False


class FaultyFiles(LocalFiles):
    """
    A disk that remembers every call and fails where told; for `files` of the writer.

    ```python
    disk = FaultyFiles(Fault(errno.ENOSPC, "write"))
    writer = AsyncCheckpointWriter("state/", files=disk)
    ```

    Args:
        fault: the first fault; None for a sound disk.

    Attributes:
        calls: all calls so far.
        failed: those that were made to fail.
        largest_transfer_bytes: what one read or write moves at most; None for no limit.
    """

    def __init__(self, fault: Fault | None = None) -> None:
        self.calls: list[Call] = []
        self.failed: list[Call] = []
        self.largest_transfer_bytes: int | None = None
        self._fault = fault
        self._matches = 0
        self._actions: dict[str, Callable[[], None]] = {}
        self._mutex = threading.Lock()

    def arm(self, fault: Fault | None) -> None:
        """Put a fault in the place of the present one; None heals the disk."""
        with self._mutex:
            self._fault, self._matches = fault, 0
            self.failed.clear()

    def forget_calls(self) -> None:
        """Begin to remember anew."""
        self.calls.clear()

    def count(self, operation: str) -> int:
        """Return how many calls of a kind there were."""
        return sum(call.operation == operation for call in self.calls)

    def at(self, moment: str, action: Callable[[], None]) -> None:
        """Run `action` before every call of an operation, or at a failpoint, of that name."""
        self._actions[moment] = action

    def reached(self, failpoint: str) -> None:
        """Run the action of a failpoint."""
        self._act(failpoint)

    def call(
        self,
        operation: str,
        path: str,
        function: Callable[P, ResultT],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ResultT:
        """Make one system call, or fail."""
        self._act(operation)
        call = Call(operation, path, threading.get_ident())
        fault = self._fault_of(call)

        def attempt() -> ResultT:
            if fault is None:
                limited: Any = self._limited(operation, args)
                return function(*limited, **kwargs)
            # A close frees its descriptor whatever it answers.
            if fault.after_effect or operation in _CLOSING:
                _undo_open(call, function(*args, **kwargs))
            name = errno.errorcode.get(fault.error_number, "fault")
            raise OSError(fault.error_number, f"{name}, injected")

        return super().call(operation, path, attempt)

    def _act(self, moment: str) -> None:
        action = self._actions.get(moment)
        if action is not None:
            action()

    def _fault_of(self, call: Call) -> Fault | None:
        with self._mutex:
            self.calls.append(call)
            fault = self._fault
            if fault is None or fault.operation not in (None, call.operation):
                return None
            at, self._matches = self._matches, self._matches + 1
            if at == fault.nth or (fault.for_ever and at > fault.nth):
                self.failed.append(call)
                return fault
            return None

    def _limited(self, operation: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        limit = self.largest_transfer_bytes
        match operation, args:
            case "write", (descriptor, data, *offset) if limit is not None:
                return (descriptor, data[:limit], *offset)
            case "read", (descriptor, size) if limit is not None:
                return (descriptor, min(size, limit))
            case _:
                return args


def _undo_open(call: Call, result: object) -> None:
    """Close what an open brought: an open that fails leaves no descriptor."""
    if call.operation in _OPENING and isinstance(result, int):
        with contextlib.suppress(StorageError):
            LocalFiles().close(result, call.path)
