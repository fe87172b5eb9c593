"""Reading, deciding and writing as one step."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiocheckpoint.errors import (
    CheckpointEncodeError,
    CheckpointError,
    InvalidArgumentError,
    NestedCallError,
    UnsupportedOperationError,
    WriterClosedError,
)
from aiocheckpoint.models import CheckpointData
from aiocheckpoint.testing.contract.records import (
    REFUSED_VALUES,
    Store,
    checkpoint,
    listed_ids,
    refusal,
    sessions_of,
)
from aiocheckpoint.testing.contract.work import (
    Session,
    StopError,
    count_one,
    owned,
    taken_item,
)


class UpdateContract:
    """
    What `update` does; for a `CheckpointStore` of `CheckpointData`.

    The subclass gives a fixture `store`: an empty store.
    """

    async def test_it_reads_decides_and_writes(self, store: Store) -> None:
        """Work reads the session, what it staged is stored, and what it returns is returned."""
        for number, key in enumerate("abc"):
            await store.save(checkpoint("s", number, checkpoint_id=key))

        async def work(session: Session) -> str:
            newest, by_id = await session.load(), await session.load("a")
            assert newest is not None
            assert by_id is not None
            assert session.session_id == "s"
            assert (newest.checkpoint_id, by_id.iteration) == ("c", 0)
            assert len(await session.load_many(["a", "b", "x"])) == 2
            assert await session.ids(prefix="b") == ("b",)
            assert [meta.checkpoint_id for meta in await session.list(limit=2)] == ["c", "b"]
            session.delete("a", "unknown")
            saved_id = session.save(newest.next(checkpoint_id="d", iteration=9))
            session.save(checkpoint("s", 10, checkpoint_id="b"))
            return saved_id

        assert await store.update("s", work) == "d"
        assert await listed_ids(store, "s") == ["b", "d", "c"]
        loaded = await store.load_many("s", [*"cdb"])
        assert [record.iteration for record in loaded] == [2, 9, 10]

    async def test_work_that_raises_changes_nothing(self, store: Store) -> None:
        """Its error passes as it is, and nothing of what it staged is stored."""
        data = checkpoint("s", checkpoint_id="a")
        await store.save(data)

        async def work(session: Session) -> None:
            session.save(checkpoint("s", 1, checkpoint_id="b"))
            session.delete("a")
            raise StopError

        stopped = False
        try:
            await store.update("s", work)
        except StopError:
            stopped = True
        assert stopped
        assert await listed_ids(store, "s") == ["a"]
        assert await store.load("s") == data
        assert await store.update("s", count_one) == 1

    async def test_what_is_staged_is_not_read(self, store: Store) -> None:
        """Reads see the session as it was before, however much is staged."""
        await store.save(checkpoint("s", 0, checkpoint_id="a"))

        async def work(session: Session) -> None:
            session.save(checkpoint("s", 1, checkpoint_id="b"))
            session.delete("a")
            newest = await session.load()
            assert newest is not None
            assert newest.checkpoint_id == "a"
            assert await session.ids() == ("a",)

        await store.update("s", work)
        assert await listed_ids(store, "s") == ["b"]

    async def test_the_last_word_counts(self, store: Store) -> None:
        """What is staged takes effect in its order: of an id as of the session."""
        for key in "ab":
            await store.save(checkpoint("s", 0, checkpoint_id=key))

        async def twice(session: Session) -> None:
            session.save(checkpoint("s", 1, checkpoint_id="c"))
            session.save(checkpoint("s", 2, checkpoint_id="c"))
            session.save(checkpoint("s", 3, checkpoint_id="d"))
            session.delete("d", "a")
            session.save(checkpoint("s", 4, checkpoint_id="a"))

        async def anew(session: Session) -> None:
            session.save(checkpoint("s", 5, checkpoint_id="e"))
            session.delete_session()
            session.save(checkpoint("s", 6, checkpoint_id="b"))

        await store.update("s", twice)
        assert await listed_ids(store, "s") == ["a", "c", "b"]
        assert [meta.iteration for meta in await store.list("s")] == [4, 2, 0]
        await store.update("s", anew)
        assert [meta.iteration for meta in await store.list("s")] == [6]

    async def test_nothing_staged_changes_nothing(self, store: Store) -> None:
        """An update that only reads is a read; of a session that is not there, too."""

        async def work(session: Session) -> bool:
            return await session.load() is None

        assert await store.update("s", work)
        assert await store.list("s") == ()

    async def test_of_updates_none_is_lost(self, store: Store) -> None:
        """Updates that are called together take effect one after the other, in that order."""
        answers = await asyncio.gather(*(store.update("s", count_one) for _ in range(20)))
        assert answers == [*range(1, 21)]
        assert await store.ids("s", limit=1) == ("0020",)
        assert len(await store.list("s")) == 20

    async def test_an_item_is_taken_once(self, store: Store) -> None:
        """Of callers that take the first item of a list, each gets another one."""
        await store.save(checkpoint("s", checkpoint_id="list", messages=["a", "b", "c"]))
        taken = await asyncio.gather(*(store.update("s", taken_item) for _ in range(4)))
        assert taken == ["a", "b", "c", None]

    async def test_other_changes_wait_for_it(self, store: Store) -> None:
        """Saves, deletes, updates and copies that are called meanwhile come afterwards."""
        await store.save(checkpoint("s", 0, checkpoint_id="a"))
        entered, going_on = asyncio.Event(), asyncio.Event()

        async def work(session: Session) -> None:
            entered.set()
            await going_on.wait()
            session.save(checkpoint("s", 1, checkpoint_id="b"))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(store.update("s", work))
            await entered.wait()
            await store.save(checkpoint("other", 7, checkpoint_id="copied"))
            later = [
                tasks.create_task(store.save(checkpoint("s", 2, checkpoint_id="c"))),
                tasks.create_task(store.update("s", count_one)),
                tasks.create_task(store.copy_session("other", "s")),
                tasks.create_task(store.delete_many("s", ["a", "unknown"])),
            ]
            newest = await store.load("s")
            assert newest is not None
            assert newest.checkpoint_id == "a"
            for _ in range(3):  # what does not wait would be there by then
                await store.save(checkpoint("another"))
            assert not any(task.done() for task in later)
            assert await listed_ids(store, "s") == ["a"]
            going_on.set()
        assert later[-1].result() == 1
        order = (await listed_ids(store, "s"))[::-1]
        assert [key for key in order if key != "copied"] == ["b", "c", "0003"]
        assert "copied" in order[1:]

    async def test_a_change_beside_the_transaction_is_refused(self, store: Store) -> None:
        """Changes that could wait for the update are refused by name, from its tasks as well."""
        refused: list[type[CheckpointError] | None] = []

        async def work(session: Session) -> None:
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: store.save(checkpoint("s")),
                lambda: store.delete("s", "a"),
                lambda: store.delete_session("s"),
                lambda: store.update("s", count_one),
                lambda: store.save(checkpoint("t")),
                lambda: store.update("t", count_one),
                lambda: owned(store, "s"),
                lambda: owned(store, "t"),
                store.aclose,
            ]
            for call in calls:
                refused.append(await refusal(call()))
                refused.append(await asyncio.create_task(refusal(call())))
            assert await store.load("t") is None
            session.save(checkpoint("s", 1))

        async with asyncio.timeout(30):
            await store.update("s", work)
        assert {*refused} == {NestedCallError}
        assert len(await store.list("s")) == 1
        assert await store.list("t") == ()

    async def test_its_session_is_read_by_the_transaction_alone(self, store: Store) -> None:
        """A read by the store would not be part of the step; other sessions may be read."""
        for session_id in "st":
            await store.save(checkpoint(session_id, checkpoint_id="a"))
        refused: list[type[CheckpointError] | None] = []

        async def work(session: Session) -> None:
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: store.load("s"),
                lambda: store.load("s", "a"),
                lambda: store.load_many("s", ["a"]),
                lambda: store.list("s"),
                lambda: store.ids("s"),
                lambda: store.verify("s", "a"),
                lambda: store.load_newest(["t", "s"]),
                lambda: store.read("s", lambda session: session.load()),
            ]
            for call in calls:
                refused.append(await refusal(call()))
                refused.append(await asyncio.create_task(refusal(call())))
            assert await store.load("t") is not None
            assert len(await store.load_newest(["t"])) == 1
            assert await sessions_of(store) == ["s", "t"]
            session.save(checkpoint("s", 1, checkpoint_id="b"))

        await store.update("s", work)
        assert {*refused} == {NestedCallError}
        assert await listed_ids(store, "s") == ["b", "a"]

    async def test_a_thread_that_work_waits_for_is_a_part_of_it(self, store: Store) -> None:
        """What it calls by `asyncio.to_thread` is refused as what it calls itself."""
        refused: list[type[CheckpointError] | None] = []

        def in_thread(call: Callable[[], Awaitable[object]]) -> type[CheckpointError] | None:
            return asyncio.run(refusal(call()))

        async def work(session: Session) -> None:
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: store.save(checkpoint("s")),
                lambda: store.update("s", count_one),
                lambda: store.load("s"),
                lambda: owned(store, "t"),
            ]
            refused.extend([await asyncio.to_thread(in_thread, call) for call in calls])
            session.save(checkpoint("s", 1, checkpoint_id="b"))

        async with asyncio.timeout(30):
            await store.update("s", work)
        assert {*refused} == {NestedCallError}
        assert await listed_ids(store, "s") == ["b"]

    async def test_closing_waits_for_what_goes_on(self, store: Store) -> None:
        """An update that has begun is committed by `aclose`; what is called later is refused."""
        entered, going_on = asyncio.Event(), asyncio.Event()

        async def work(session: Session) -> str:
            entered.set()
            await going_on.wait()
            session.save(checkpoint("s", checkpoint_id="a"))
            return "done"

        async with asyncio.timeout(30):
            update = asyncio.create_task(store.update("s", work))
            await entered.wait()
            closing = asyncio.create_task(store.aclose())
            await asyncio.sleep(0)
            going_on.set()
            assert await update == "done"
            await closing
        assert await refusal(store.save(checkpoint("s"))) is WriterClosedError

    async def test_work_that_is_not_async_is_refused(self, store: Store) -> None:
        """By name; what it has staged is not stored."""

        def staging(session: Session) -> None:
            session.save(checkpoint("s"))

        def staging_many(sessions: Mapping[str, Session]) -> None:
            staging(sessions["s"])

        wrong: Any
        of_many: Any
        for wrong, of_many in (staging, staging_many), (None, None), ("work", "work"):
            assert await refusal(store.update("s", wrong)) is InvalidArgumentError
            told = await refusal(store.update_many(["s"], of_many))
            assert told in (InvalidArgumentError, UnsupportedOperationError)
            async with store.own("s") as owner:
                assert await refusal(owner.update(wrong)) is InvalidArgumentError
        assert await store.list("s") == ()
        assert await store.update("s", count_one) == 1

    async def test_what_work_leaves_behind_may_call(self, store: Store) -> None:
        """A task that outlives the update that started it is a caller like any other."""
        left: list[asyncio.Task[str]] = []
        over = asyncio.Event()

        async def later() -> str:
            await over.wait()
            return await store.save(checkpoint("s", 2, checkpoint_id="b"))

        async def work(session: Session) -> None:
            left.append(asyncio.create_task(later()))
            session.save(checkpoint("s", 1, checkpoint_id="a"))

        await store.update("s", work)
        over.set()
        assert await left[0] == "b"
        assert await listed_ids(store, "s") == ["b", "a"]

    async def test_what_cannot_be_saved_is_refused_where_it_is_staged(self, store: Store) -> None:
        """So is a record of another session; and a transaction that is over takes nothing."""
        await store.save(checkpoint("s", checkpoint_id="a"))
        kept: list[Session] = []

        async def work(session: Session) -> list[type[CheckpointError] | None]:
            kept.append(session)

            async def staged(data: CheckpointData) -> None:
                session.save(data)

            bad = checkpoint("s", messages=[REFUSED_VALUES[0]])
            return [await refusal(staged(checkpoint("t"))), await refusal(staged(bad))]

        answers = await store.update("s", work)
        assert answers == [InvalidArgumentError, CheckpointEncodeError]

        async def too_late() -> None:
            kept[0].save(checkpoint("s", checkpoint_id="late"))

        assert await refusal(too_late()) is WriterClosedError
        assert await listed_ids(store, "s") == ["a"]
        assert await store.list("t") == ()

    async def test_a_transaction_that_is_over_reads_nothing(self, store: Store) -> None:
        """It would tell what is not a part of any step."""
        await store.save(checkpoint("s", checkpoint_id="a"))
        kept: list[Session] = []

        async def work(session: Session) -> None:
            kept.append(session)

        await store.update("s", work)
        over = kept[0]
        reads: list[Callable[[], Awaitable[object]]] = [
            over.load,
            lambda: over.load("a"),
            lambda: over.load_many(["a"]),
            over.list,
            over.ids,
            over.saved_ids,
        ]
        for read in reads:
            assert await refusal(read()) is WriterClosedError

    async def test_the_caller_owns_what_it_staged(self, store: Store) -> None:
        """A change that is made after `save` was called is not stored."""
        data = checkpoint("s", messages=[["as it was"]])

        async def work(session: Session) -> None:
            session.save(data)
            data.messages[0].append("later")

        await store.update("s", work)
        loaded = await store.load("s")
        assert loaded is not None
        assert loaded.messages == [["as it was"]]

    async def test_a_cancelled_update_is_all_or_nothing(self, store: Store) -> None:
        """Cancelled within `work` it changes nothing; those that wait for it go on."""
        entered = asyncio.Event()

        async def work(session: Session) -> None:
            session.save(checkpoint("s", 1, checkpoint_id="a"))
            entered.set()
            await asyncio.Event().wait()

        update = asyncio.create_task(store.update("s", work))
        await entered.wait()
        waiting = [asyncio.create_task(store.update("s", count_one)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        update.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await update
        assert update.cancelled()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert answers[1:] == [1, 2]
        assert await listed_ids(store, "s") == ["0002", "0001"]
