"""The contract of a store, as tests that every implementation inherits."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from aiocheckpoint._format.blobs import BlobNode, blob_digest, blob_links
from aiocheckpoint.errors import (
    CheckpointEncodeError,
    CheckpointError,
    InvalidArgumentError,
    InvalidIdError,
    MissingBlobError,
    SessionChangedError,
    WriterClosedError,
)
from aiocheckpoint.models import BlobRecord, CheckpointData, JsonValue, SessionId
from aiocheckpoint.store import BlobStore, CheckpointStore

_CLOCK_DIFFERENCE = timedelta(minutes=5)
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
    (1, 2),
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


async def _error_of(call: Awaitable[object]) -> CheckpointError | None:
    try:
        await call
    except CheckpointError as error:
        return error
    return None


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

    async def test_a_listing_may_be_read_in_parts(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """List tells those saved before one, and no more than asked for."""
        for checkpoint_id in ("b", "d", "a", "c", "b"):
            await store.save(_checkpoint("s", checkpoint_id=checkpoint_id))

        async def listed(**which: Any) -> str:
            return "".join(meta.checkpoint_id for meta in await store.list("s", **which))

        assert await listed() == "bcad"
        assert await listed(limit=2) == "bc"
        assert await listed(limit=0) == ""
        assert await listed(before="c") == "ad"
        assert await listed(before="b", limit=1) == "c"
        assert await listed(before="d") == ""
        assert await listed(before="unknown") == ""
        await store.delete("s", "c")
        assert await listed(before="c") == ""
        assert await listed(before="b", limit=5) == "ad"

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

    async def test_saved_at_is_of_the_store(self, store: CheckpointStore[CheckpointData]) -> None:
        """It is when a checkpoint was stored, whatever the record's own time says."""
        before = datetime.now(UTC) - _CLOCK_DIFFERENCE
        first = _checkpoint("s", 1, checkpoint_id="first")
        await store.save(first)
        for iteration in (2, 3):
            await store.save(_checkpoint("s", iteration))
        await store.save(first)
        await store.copy_session("s", "t")
        after = datetime.now(UTC) + _CLOCK_DIFFERENCE
        for session_id in ("s", "t"):
            metas = await store.list(session_id)
            times = [meta.saved_at for meta in metas]
            assert [meta.iteration for meta in metas] == [1, 3, 2]
            assert times == sorted(set(times), reverse=True)
            assert before < times[-1]
            assert times[0] < after

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

    async def test_of_racing_saves_that_expect_the_same_one_succeeds(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """Of saves that race for an empty session, each expecting it empty, one succeeds."""
        saves = [store.save(_checkpoint("s", checkpoint_id=key), expected=None) for key in "abc"]
        answers = await asyncio.gather(*saves, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, SessionChangedError)]
        (stored,) = await store.ids("s")
        assert answers.count(stored) == 1
        assert [error.newest_id for error in refused] == [stored, stored]

    async def test_a_save_may_expect_the_newest(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """With `expected` it is stored only after that checkpoint, the one saved last."""
        await store.save(_checkpoint("s", 1, checkpoint_id="z"), expected=None)
        await store.save(_checkpoint("s", 2, checkpoint_id="a"), expected="z")
        for expected in (None, "z", "b"):
            refused = _checkpoint("s", 3, checkpoint_id="c")
            told = await _error_of(store.save(refused, expected=expected))
            assert isinstance(told, SessionChangedError)
            assert (told.session_id, told.newest_id) == ("s", "a")
        assert [meta.checkpoint_id for meta in await store.list("s")] == ["a", "z"]

    async def test_verify_knows_what_is_stored(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """Verify is true for what is stored, and false once it is deleted."""
        checkpoint_id = await store.save(_checkpoint("s"))
        await store.save(_checkpoint("s", 1))
        assert await store.verify("s", checkpoint_id)
        assert not await store.verify("s", "unknown")
        assert not await store.verify("t", checkpoint_id)
        await store.delete("s", checkpoint_id)
        assert not await store.verify("s", checkpoint_id)

    async def test_sessions_are_named(self, store: CheckpointStore[CheckpointData]) -> None:
        """Every session that has a checkpoint is named once, those of a prefix alone if asked."""
        assert await _sessions_of(store) == []
        for session_id in ODD_IDS:
            await store.save(_checkpoint(session_id))
            await store.save(_checkpoint(session_id, 1))
        checkpoint_id = await store.save(_checkpoint("user-1"))
        await store.save(_checkpoint("user-2"))
        assert await _sessions_of(store) == sorted([*ODD_IDS, "user-1", "user-2"])
        assert await _sessions_of(store, "user-") == ["user-1", "user-2"]
        await store.delete("user-1", checkpoint_id)
        assert await _sessions_of(store, "user-") == ["user-2"]

    async def test_a_session_is_deleted_as_a_whole(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """Nothing is left of it, others stay, and it may begin anew."""
        for session_id in ("one", "one", "two"):
            await store.save(_checkpoint(session_id))
        assert await store.delete_session("one")
        assert not await store.delete_session("one")
        assert await store.list("one") == ()
        assert await store.load("one") is None
        assert await _sessions_of(store) == ["two"]
        data = _checkpoint("one", 7)
        await store.save(data, expected=None)
        assert await store.load("one") == data

    async def test_a_copied_session_has_all_in_order(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """A copy has ids, times and order of its source, which stays; what it had stays too."""
        for checkpoint_id, iteration in (("b", 1), ("a", 2)):
            await store.save(_checkpoint("one", iteration, checkpoint_id=checkpoint_id))
        await store.save(_checkpoint("two", 0, checkpoint_id="z"))
        assert await store.copy_session("one", "two") == 2
        assert await store.copy_session("nobody", "two") == 0
        assert [meta.checkpoint_id for meta in await store.list("two")] == ["a", "b", "z"]
        copy, source = await store.load("two", "b"), await store.load("one", "b")
        assert copy is not None
        assert source is not None
        assert (copy.session_id, copy.iteration, copy.created_at) == ("two", 1, source.created_at)

    async def test_a_closed_store_refuses(self, store: CheckpointStore[CheckpointData]) -> None:
        """After `aclose`, or the end of `async with`, every call is refused but `aclose`."""
        async with store as entered:
            assert entered is store
            await store.save(_checkpoint("s"))
        await store.aclose()
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.save(_checkpoint("s")),
            lambda: store.load("s"),
            lambda: store.list("s"),
            lambda: store.ids("s"),
            lambda: store.delete("s", "a"),
            lambda: store.delete_session("s"),
            lambda: store.copy_session("s", "t"),
            lambda: _sessions_of(store),
            store.__aenter__,
        ]
        for call in calls:
            assert await _refusal(call()) is WriterClosedError


async def _sessions_of(store: CheckpointStore[CheckpointData], prefix: str = "") -> list[SessionId]:
    return sorted([session_id async for session_id in store.sessions(prefix=prefix)])


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


_BRANCH = BlobNode([blob_digest(b"1"), blob_digest(b"2"), blob_digest(b"1")], b"branch")
_IN_BRANCH = (_BRANCH, b"1", b"2")
_TREE = BlobNode([blob_digest(_BRANCH), blob_digest(b"3")], b"tree")
_IN_TREE = (_TREE, *_IN_BRANCH, b"3")


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

    async def test_blobs_come_back(self, blob_store: BlobStore[LargeValue]) -> None:
        """A record and its blobs come back byte for byte, an empty blob too."""
        blobs = (b"", b"\0\xff" * 5000, b"x")
        data = _large("a", *blobs)
        await blob_store.save(data, blobs=_by_digest(*blobs))
        assert await blob_store.load("s") == data
        loaded = await blob_store.load_blobs("s", data.blob_digests)
        assert loaded == _by_digest(*blobs)

    async def test_what_is_stored_need_not_be_given(
        self, blob_store: BlobStore[LargeValue]
    ) -> None:
        """A later record may name a blob of an earlier one; of another session it may not."""
        await blob_store.save(_large("a", b"one"), blobs=_by_digest(b"one"))
        second = _large("b", b"one", b"two")
        await blob_store.save(second, blobs=_by_digest(b"two"))
        assert len(await blob_store.load_blobs("s", second.blob_digests)) == 2
        other = _large("b", b"one", session_id="t")
        assert await _refusal(blob_store.save(other)) is MissingBlobError

    async def test_a_record_without_its_blobs_is_refused(
        self, blob_store: BlobStore[LargeValue]
    ) -> None:
        """A save that names a blob nobody has changes nothing, nor does one of a false name.

        One that nothing names would be lost, and is refused as well.
        """
        await blob_store.save(_large("a", b"one"), blobs=_by_digest(b"one"))
        data = _large("a", b"one", b"two")
        assert await _refusal(blob_store.save(data)) is MissingBlobError
        false = {blob_digest(b"two"): b"three"}
        assert await _refusal(blob_store.save(data, blobs=false)) is CheckpointEncodeError
        unnamed = _by_digest(b"one", b"three")
        assert await _refusal(blob_store.save(_large("a", b"one"), blobs=unnamed)) is (
            InvalidArgumentError
        )
        twice = _large("a", b"one", b"one")
        assert await _refusal(blob_store.save(twice)) is CheckpointEncodeError
        assert await blob_store.load("s") == _large_like(await blob_store.load("s"), b"one")
        assert await _refusal(blob_store.load_blobs("s", false)) is MissingBlobError

    async def test_blobs_go_with_the_last_record_that_names_them(
        self, blob_store: BlobStore[LargeValue]
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

    async def test_blobs_go_and_are_copied_with_their_session(
        self, blob_store: BlobStore[LargeValue]
    ) -> None:
        """A copied session has blobs of its own; they stay when the source is deleted."""
        await blob_store.save(_large("a", b"1", b"2"), blobs=_by_digest(b"1", b"2"))
        assert await blob_store.copy_session("s", "t") == 1
        assert await blob_store.delete_session("s")
        assert await _refusal(blob_store.load_blobs("s", _by_digest(b"1"))) is MissingBlobError
        assert len(await blob_store.load_blobs("t", _by_digest(b"1", b"2"))) == 2

    async def test_what_a_record_leads_to_comes_back(
        self, blob_store: BlobStore[LargeValue]
    ) -> None:
        """A node comes back as a node; what it names need not be named by the record."""
        await blob_store.save(_large("a", _TREE), blobs=_by_digest(*_IN_TREE))
        (found,) = (await blob_store.load_blobs("s", [blob_digest(_TREE)])).values()
        assert isinstance(found, BlobNode)
        assert (found, blob_links(found)) == (_TREE, _TREE.links)
        assert await blob_store.load_blobs("s", _by_digest(*_IN_TREE)) == _by_digest(*_IN_TREE)
        assert await blob_store.check() == ()

    async def test_a_record_that_leads_to_a_missing_blob_is_refused(
        self, blob_store: BlobStore[LargeValue]
    ) -> None:
        """However far below, given or stored counts; so do bytes that only look like a node."""
        await blob_store.save(_large("other", b"1"), blobs=_by_digest(b"1"))
        given = _by_digest(*_IN_TREE[:-1])
        assert await _refusal(blob_store.save(_large("a", _TREE), blobs=given)) is MissingBlobError
        false = {blob_digest(_TREE): bytes(_TREE)} | _by_digest(*_IN_TREE[1:])
        refusal = await _refusal(blob_store.save(_large("a", _TREE), blobs=false))
        assert refusal is CheckpointEncodeError
        more = _by_digest(*_IN_TREE, b"nobody names this")
        refusal = await _refusal(blob_store.save(_large("a", _TREE), blobs=more))
        assert refusal is InvalidArgumentError
        assert await blob_store.ids("s") == ("other",)
        await blob_store.save(_large("a", _TREE), blobs=given | _by_digest(_IN_TREE[-1]))
        await blob_store.save(_large("b", _BRANCH))
        assert len(await blob_store.load_blobs("s", _by_digest(*_IN_TREE))) == len(_IN_TREE)

    async def test_blobs_stay_while_a_record_leads_to_them(
        self, blob_store: BlobStore[LargeValue]
    ) -> None:
        """And go with the last one that does, in a copied session by itself."""
        await blob_store.save(_large("a", _TREE), blobs=_by_digest(*_IN_TREE))
        above = BlobNode([blob_digest(_BRANCH)], b"above")
        await blob_store.save(_large("b", above), blobs=_by_digest(above))
        await blob_store.delete("s", "a")
        assert len(await blob_store.load_blobs("s", _by_digest(above, *_IN_BRANCH))) == 4
        for gone in (_TREE, _IN_TREE[-1]):
            assert await _refusal(blob_store.load_blobs("s", _by_digest(gone))) is MissingBlobError
        assert await blob_store.copy_session("s", "t") == 1
        assert await blob_store.delete("s", "b")
        for gone in (above, *_IN_BRANCH):
            assert await _refusal(blob_store.load_blobs("s", _by_digest(gone))) is MissingBlobError
        assert len(await blob_store.load_blobs("t", _by_digest(above, *_IN_BRANCH))) == 4
        assert await blob_store.check() == ()

    async def test_saves_that_share_blobs_run_side_by_side(
        self, blob_store: BlobStore[LargeValue]
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
