"""What every store does with the checkpoints of sessions."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeAlias

from aiocheckpoint.errors import (
    CheckpointEncodeError,
    SessionChangedError,
)
from aiocheckpoint.models import CheckpointData, CheckpointId, SessionId
from aiocheckpoint.store import SessionReader, Transaction
from aiocheckpoint.testing.contract.records import (
    EXACT_VALUES,
    IDS_BY_PREFIX,
    ODD_IDS,
    REFUSED_VALUES,
    Store,
    checkpoint,
    error_of,
    sessions_of,
)
from aiocheckpoint.testing.contract.work import saved_at_once

Reader: TypeAlias = SessionReader[CheckpointData]
_CLOCK_DIFFERENCE = timedelta(minutes=5)


class CheckpointStoreContract:
    """
    What every `CheckpointStore` of `CheckpointData` must do; subclass it in a test module.

    The subclass gives a fixture `store`: an empty store, new for each test. The tests are
    coroutines: set `asyncio_mode = "auto"` of pytest-asyncio, or mark the subclass with
    `pytest.mark.asyncio`. `pytest.register_assert_rewrite("aiocheckpoint.testing")` in a
    `conftest.py` shows the values of a failed assertion.

    No part tries whether a store blocks the event loop: run them with `blockbuster` for that.
    One whose queries give fewer checkpoints at once than a thousand says so by
    `checkpoints_of_a_page`, for tests that are the quicker for it.
    """

    checkpoints_of_a_page: ClassVar[int] = 1000

    async def test_load_gives_back_what_was_saved(self, store: Store) -> None:
        """Save returns the id, and load returns an equal record, by id and as the newest."""
        saved = checkpoint(
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

    async def test_what_is_not_there_is_none_and_no_error(self, store: Store) -> None:
        """Unknown sessions and ids give None, an empty tuple or False."""
        assert await store.load("s") is None
        assert await store.load("s", "unknown") is None
        assert await store.list("s") == ()
        assert not await store.delete("s", "unknown")
        await store.save(checkpoint("s"))
        assert await store.load("s", "unknown") is None
        assert not await store.delete("s", "unknown")

    async def test_every_json_value_comes_back_the_same(self, store: Store) -> None:
        """Each JSON value comes back with its type, its digits and its sign."""
        values = list(EXACT_VALUES)
        await store.save(checkpoint("s", messages=values, tool_results={"values": values}))
        loaded = await store.load("s")
        assert loaded is not None
        assert repr(loaded.messages) == repr(values)
        assert repr(loaded.tool_results) == repr({"values": values})

    async def test_what_cannot_come_back_is_refused(self, store: Store) -> None:
        """A value that would come back changed is refused by its path, and nothing changes."""
        first = checkpoint("s", 1)
        await store.save(first)
        for value in REFUSED_VALUES:
            error = None
            try:
                await store.save(checkpoint("s", 2, messages=["fine", {"content": value}]))
            except CheckpointEncodeError as refusal:
                error = refusal
            assert error is not None, value
            assert error.path.startswith("messages[1]"), value
        assert await store.load("s") == first
        assert len(await store.list("s")) == 1

    async def test_the_caller_owns_what_it_gave(self, store: Store) -> None:
        """A change made after save was called, even while it runs, is not stored."""
        data = checkpoint("s", messages=[{"content": ["as it was"]}])
        saving = asyncio.create_task(store.save(data))
        await asyncio.sleep(0)
        data.messages[0]["content"].append("later")
        await saving
        data.messages.append("later still")
        loaded = await store.load("s")
        assert loaded is not None
        assert loaded.messages == [{"content": ["as it was"]}]

    async def test_the_caller_owns_what_it_got(self, store: Store) -> None:
        """A change of a loaded record does not show in the next load."""
        await store.save(checkpoint("s", messages=[{"content": ["as it was"]}]))
        first = await store.load("s")
        assert first is not None
        first.messages[0]["content"].append("mine")
        second = await store.load("s")
        assert second is not None
        assert second.messages == [{"content": ["as it was"]}]

    async def test_the_newest_is_the_one_saved_last(self, store: Store) -> None:
        """Load and list go by the order of saving, whatever the records' own times say."""
        saved = [checkpoint("s", iteration) for iteration in range(5)]
        for data in saved:
            await store.save(data)
        metas = await store.list("s")
        assert await store.load("s") == saved[-1]
        assert [meta.iteration for meta in metas] == [4, 3, 2, 1, 0]

    async def test_a_listing_may_be_read_in_parts(self, store: Store) -> None:
        """List tells those saved before one, and no more than asked for."""
        for checkpoint_id in ("b", "d", "a", "c", "b"):
            await store.save(checkpoint("s", checkpoint_id=checkpoint_id))

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

    async def test_list_tells_what_was_saved(self, store: Store) -> None:
        """A listing entry has the record's ids, time, trigger and iteration, and a checksum."""
        data = checkpoint("s", 3, trigger="tool_result")
        await store.save(data)
        (meta,) = await store.list("s")
        assert (meta.session_id, meta.checkpoint_id) == ("s", data.checkpoint_id)
        assert (meta.created_at, meta.trigger, meta.iteration) == (
            data.created_at,
            "tool_result",
            3,
        )
        assert len(bytes.fromhex(meta.checksum)) == 32

    async def test_saved_at_is_of_the_store(self, store: Store) -> None:
        """It is when a checkpoint was stored, whatever the record's own time says."""
        before = datetime.now(UTC) - _CLOCK_DIFFERENCE
        first = checkpoint("s", 1, checkpoint_id="first")
        await store.save(first)
        for iteration in (2, 3):
            await store.save(checkpoint("s", iteration))
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

    async def test_saving_an_id_again_replaces_it(self, store: Store) -> None:
        """The second save of an id is the newest checkpoint, and the first is gone."""
        for checkpoint_id, iteration in (("a", 1), ("b", 2), ("a", 3)):
            await store.save(checkpoint("s", iteration, checkpoint_id=checkpoint_id))
        newest, by_id = await store.load("s"), await store.load("s", "a")
        assert newest is not None
        assert newest == by_id
        assert newest.iteration == 3
        assert [meta.checkpoint_id for meta in await store.list("s")] == ["a", "b"]
        assert await store.delete("s", "a")
        assert await store.load("s", "a") is None

    async def test_delete_removes_that_one_alone(self, store: Store) -> None:
        """Deleting the newest makes the one before it the newest; a second delete finds none."""
        saved = [checkpoint("s", i, checkpoint_id=name) for i, name in enumerate(("a", "ab", "b"))]
        for data in saved:
            await store.save(data)
        assert not await store.delete("s", "*")
        assert await store.delete("s", "b")
        assert not await store.delete("s", "b")
        assert await store.load("s", "b") is None
        assert await store.load("s") == saved[1]
        assert await store.delete("s", "a")
        assert [meta.checkpoint_id for meta in await store.list("s")] == ["ab"]

    async def test_sessions_do_not_touch_one_another(self, store: Store) -> None:
        """The same id in two sessions names two checkpoints."""
        one, two = (checkpoint(session, checkpoint_id="same") for session in ("one", "two"))
        await store.save(one)
        await store.save(two)
        assert await store.load("one", "same") == one
        assert await store.delete("one", "same")
        assert await store.load("two") == two
        assert await store.list("one") == ()

    async def test_any_text_is_an_id(self, store: Store) -> None:
        """Every id names its own session and its own checkpoint, paths and wildcards included."""
        # Of checkpoints also two that differ in case; sessions of such ids share a directory on
        # a disk that ignores case.
        for number, session_id in enumerate(ODD_IDS):
            await store.save(checkpoint(session_id, number))
        for number, checkpoint_id in enumerate((*ODD_IDS, "A", "a")):
            await store.save(checkpoint("s", number, checkpoint_id=checkpoint_id))
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

    async def test_saves_of_a_session_keep_their_order(self, store: Store) -> None:
        """Saves started together take effect in the order of the calls, and none is lost."""
        saves = [store.save(checkpoint("s", iteration)) for iteration in range(50)]
        ids = await asyncio.gather(*saves)
        metas = await store.list("s")
        assert [meta.checkpoint_id for meta in metas] == ids[::-1]

    async def test_sessions_save_side_by_side(self, store: Store) -> None:
        """Tasks that save, load and delete in their own sessions see only their own work."""

        async def live(session_id: SessionId) -> None:
            for iteration in range(5):
                data = checkpoint(session_id, iteration)
                await store.save(data)
                assert await store.load(session_id) == data
                if iteration % 2:
                    assert await store.delete(session_id, data.checkpoint_id)
            assert [meta.iteration for meta in await store.list(session_id)] == [4, 2, 0]

        await asyncio.gather(*(live(f"session-{number}") for number in range(16)))

    async def test_ids_come_greatest_first(self, store: Store) -> None:
        """Ids are told by prefix, bound and limit, whatever the order of saving."""
        for checkpoint_id in ("b2", "a", "b1", "b", "b3", "c", "x" * 300, "b/"):
            await store.save(checkpoint("s", checkpoint_id=checkpoint_id))
        await store.save(checkpoint("s", 1, checkpoint_id="b1"))
        assert await store.ids("s") == ("x" * 300, "c", "b3", "b2", "b1", "b/", "b", "a")
        assert await store.ids("s", prefix="b") == ("b3", "b2", "b1", "b/", "b")
        assert await store.ids("s", prefix="b", before="b3", limit=2) == ("b2", "b1")
        assert await store.ids("s", prefix="xx", before="xy") == ("x" * 300,)
        assert await store.ids("s", prefix="d") == ()
        assert await store.ids("t") == ()
        await store.delete("s", "b3")
        assert await store.ids("s", prefix="b", limit=1) == ("b2",)

    async def test_a_nul_is_a_character_like_any_other(self, store: Store) -> None:
        """No id, prefix or bound is cut at one, be it of a session or of a checkpoint."""
        names = ["s", "s\0", "s\0t"]
        for session_id in names:
            for checkpoint_id in ("a", "a\0", "a\0b", "\0", f"of {session_id}"):
                await store.save(checkpoint(session_id, checkpoint_id=checkpoint_id))

        async def seen(session: Reader) -> list[tuple[CheckpointId, ...]]:
            return [
                await session.ids(),
                await session.saved_ids(),
                await session.ids(prefix="a\0"),
                await session.saved_ids(prefix="a\0"),
                await session.ids(prefix="a", before="a\0b"),
                tuple([meta.checkpoint_id for meta in await session.list(before="a\0b")]),
            ]

        for session_id in names:
            own = f"of {session_id}"
            expected = [
                (own, "a\0b", "a\0", "a", "\0"),
                (own, "\0", "a\0b", "a\0", "a"),
                ("a\0b", "a\0"),
                ("a\0b", "a\0"),
                ("a\0", "a"),
                ("a\0", "a"),
            ]
            assert await store.ids(session_id) == expected[0]
            assert await store.read(session_id, seen) == expected
            assert await store.update(session_id, seen) == expected
        assert await sessions_of(store) == names
        assert await sessions_of(store, "s\0") == names[1:]
        assert await store.delete("s", "a\0")
        assert await store.ids("s", prefix="a") == ("a\0b", "a")
        assert await store.delete_session("s\0")
        assert await sessions_of(store) == ["s", "s\0t"]

    async def test_many_are_loaded_in_the_order_of_saving(self, store: Store) -> None:
        """Load_many gives what is there of what was asked for, saved first first."""
        saved = [checkpoint("s", number, checkpoint_id=key) for number, key in enumerate("cab")]
        for data in saved:
            await store.save(data)
        assert await store.load_many("s", ["a", "b", "c", "d", "a"]) == tuple(saved)
        assert await store.load_many("t", ["a"]) == ()

    async def test_many_are_deleted_at_once(self, store: Store) -> None:
        """Delete_many removes those and no others, and tells how many there were."""
        for checkpoint_id in ("a", "b", "c", "d"):
            await store.save(checkpoint("s", checkpoint_id=checkpoint_id))
        assert await store.delete_many("s", ["d", "b", "unknown"]) == 2
        assert await store.ids("s") == ("c", "a")
        assert await store.delete_many("s", ["d", "b"]) == 0
        assert await store.delete_many("t", ["a"]) == 0

    async def test_no_page_of_a_session_is_left_out(self, store: Store) -> None:
        """However many checkpoints it has, more than a query gives at once, each is read."""
        ids = await saved_at_once(store, "s", self.checkpoints_of_a_page + 2)

        async def read(session: Reader) -> list[int]:
            found = [await session.ids(), await session.saved_ids(), await session.list()]
            return [len(each) for each in found]

        assert await store.ids("s") == tuple(ids[::-1])
        assert [meta.checkpoint_id for meta in await store.list("s")] == ids[::-1]
        assert [data.checkpoint_id for data in await store.load_many("s", ids)] == ids
        assert await store.read("s", read) == [len(ids)] * 3
        assert await store.update("s", read) == [len(ids)] * 3

    async def test_no_page_of_a_session_is_left_behind(self, store: Store) -> None:
        """However many there are, each is copied; and each is deleted that was named."""
        ids = await saved_at_once(store, "s", self.checkpoints_of_a_page + 2)
        assert await store.copy_session("s", "t") == len(ids)
        assert await store.ids("t") == tuple(ids[::-1])
        assert await store.delete_many("s", ids[1:]) == len(ids) - 1
        assert await store.ids("s") == (ids[0],)
        assert await store.delete_session("t")
        assert await store.ids("t") == ()

    async def test_of_racing_saves_that_expect_the_same_one_succeeds(self, store: Store) -> None:
        """Of saves that race for an empty session, each expecting it empty, one succeeds."""
        saves = [store.save(checkpoint("s", checkpoint_id=key), expected=None) for key in "abc"]
        answers = await asyncio.gather(*saves, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, SessionChangedError)]
        stored, *others = await store.ids("s")
        assert others == []
        assert answers.count(stored) == 1
        assert [error.newest_id for error in refused] == [stored, stored]

    async def test_a_save_may_expect_the_newest(self, store: Store) -> None:
        """With `expected` it is stored only after that checkpoint, the one saved last."""
        await store.save(checkpoint("s", 1, checkpoint_id="z"), expected=None)
        await store.save(checkpoint("s", 2, checkpoint_id="a"), expected="z")
        for expected in (None, "z", "b"):
            refused = checkpoint("s", 3, checkpoint_id="c")
            told = await error_of(store.save(refused, expected=expected))
            assert isinstance(told, SessionChangedError)
            assert (told.session_id, told.newest_id) == ("s", "a")
        assert [meta.checkpoint_id for meta in await store.list("s")] == ["a", "z"]

    async def test_verify_knows_what_is_stored(self, store: Store) -> None:
        """Verify is true for what is stored, and false once it is deleted."""
        checkpoint_id = await store.save(checkpoint("s"))
        await store.save(checkpoint("s", 1))
        assert await store.verify("s", checkpoint_id)
        assert not await store.verify("s", "unknown")
        assert not await store.verify("t", checkpoint_id)
        await store.delete("s", checkpoint_id)
        assert not await store.verify("s", checkpoint_id)

    async def test_sessions_are_named(self, store: Store) -> None:
        """Every session that has a checkpoint is named once, those of a prefix alone if asked."""
        assert await sessions_of(store) == []
        for session_id in ODD_IDS:
            await store.save(checkpoint(session_id))
            await store.save(checkpoint(session_id, 1))
        checkpoint_id = await store.save(checkpoint("user-1"))
        await store.save(checkpoint("user-2"))
        assert await sessions_of(store) == sorted([*ODD_IDS, "user-1", "user-2"])
        assert await sessions_of(store, "user-") == ["user-1", "user-2"]
        await store.delete("user-1", checkpoint_id)
        assert await sessions_of(store, "user-") == ["user-2"]

    async def test_a_prefix_is_no_pattern(self, store: Store) -> None:
        """No character of it stands for others, and upper case is not lower case."""
        names = ("A_1", *IDS_BY_PREFIX["a"])
        for name in names:
            await store.save(checkpoint(name, checkpoint_id="ab1"))
            await store.save(checkpoint("ab1", checkpoint_id=name))
        for prefix, found in IDS_BY_PREFIX.items():
            assert await store.ids("ab1", prefix=prefix) == found
            assert await sessions_of(store, prefix) == sorted(found)

    async def test_a_session_is_deleted_as_a_whole(self, store: Store) -> None:
        """Nothing is left of it, others stay, and it may begin anew."""
        for session_id in ("one", "one", "two"):
            await store.save(checkpoint(session_id))
        assert await store.delete_session("one")
        assert not await store.delete_session("one")
        assert await store.list("one") == ()
        assert await store.load("one") is None
        assert await sessions_of(store) == ["two"]
        data = checkpoint("one", 7)
        await store.save(data, expected=None)
        assert await store.load("one") == data

    async def test_a_copied_session_has_all_in_order(self, store: Store) -> None:
        """A copy has ids, times and order of its source, which stays; what it had stays too."""
        for checkpoint_id, iteration in (("b", 1), ("a", 2)):
            await store.save(checkpoint("one", iteration, checkpoint_id=checkpoint_id))
        await store.save(checkpoint("two", 0, checkpoint_id="z"))
        assert await store.copy_session("one", "two") == 2
        assert await store.copy_session("nobody", "two") == 0
        assert [meta.checkpoint_id for meta in await store.list("two")] == ["a", "b", "z"]
        copy, source = await store.load("two", "b"), await store.load("one", "b")
        assert copy is not None
        assert source is not None
        assert (copy.session_id, copy.iteration, copy.created_at) == ("two", 1, source.created_at)

    async def test_looking_makes_no_store(self, store: Store) -> None:
        """Where none is, reads and `recover` find what an empty one has, and there is none then."""
        before = await store.exists()
        assert await store.load("s") is None
        assert await store.read("s", lambda session: session.load()) is None
        assert (await store.list("s"), await store.ids("s"), await store.check()) == ((), (), ())
        assert await sessions_of(store) == []
        report = await store.recover("s")
        assert (report.newest_valid_id, report.quarantined) == (None, ())
        assert await store.exists() is before

    async def test_changing_nothing_makes_no_store(self, store: Store) -> None:
        """Where none is, changes find nothing to change, and there is none then either."""

        async def look_and_delete(session: Transaction[CheckpointData]) -> object:
            session.delete("x")
            session.delete_session()
            return await session.load()

        before = await store.exists()
        assert await store.delete("s", "x") is False
        assert await store.delete_many("s", ["x", "y"]) == 0
        assert await store.delete_session("s") is False
        assert await store.copy_session("s", "t") == 0
        assert await store.update("s", look_and_delete) is None
        assert await store.exists() is before

    async def test_the_first_changes_keep_their_order(self, store: Store) -> None:
        """Where none is, a delete that is called behind a save removes it, and not before it."""
        saved, deleted = await asyncio.gather(
            store.save(checkpoint("s", checkpoint_id="x")), store.delete("s", "x")
        )
        assert (saved, deleted) == ("x", True)
        assert await store.load("s", "x") is None

    async def test_a_store_is_there_from_its_first_save(self, store: Store) -> None:
        """It is told by `exists`, and so is one whose sessions are all deleted."""
        await store.save(checkpoint("s"))
        assert await store.exists() is True
        await store.delete_session("s")
        assert await sessions_of(store) == []
        assert await store.exists() is True

    async def test_a_healthy_store_has_nothing_to_mend(self, store: Store) -> None:
        """Check finds nothing, and recover names the newest checkpoint and moves nothing."""
        assert await store.check() == ()
        await store.save(checkpoint("s", checkpoint_id="z"))
        await store.save(checkpoint("s", checkpoint_id="a"))
        assert await store.check() == ()
        for session_id, newest_id in (("s", "a"), ("t", None)):
            report = await store.recover(session_id)
            assert (report.session_id, report.newest_valid_id) == (session_id, newest_id)
            assert report.quarantined == ()
        assert await store.ids("s") == ("z", "a")

    async def test_each_checkpoint_has_a_location(self, store: Store) -> None:
        """A listing entry says where the checkpoint is, by a URL of its own."""
        for session_id in ("s", "a b/\U0001fab5"):
            for number in range(2):
                await store.save(checkpoint(session_id, number, checkpoint_id=f"c {number}"))
        metas = [*await store.list("s"), *await store.list("a b/\U0001fab5")]
        locations = {meta.location for meta in metas}
        assert len(locations) == 4
        assert all("://" in location and location.isascii() for location in locations)
        assert not any(" " in location for location in locations)
