"""Reading, deciding and writing as one step, and owning a session."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from aiocheckpoint.errors import (
    CheckpointEncodeError,
    CheckpointError,
    InvalidArgumentError,
    MissingBlobError,
    NestedCallError,
    OwnershipLostError,
    SessionChangedError,
    SessionOwnedError,
    UnsupportedOperationError,
    WriterClosedError,
)
from aiocheckpoint.models import CheckpointData
from aiocheckpoint.store import Transaction
from aiocheckpoint.testing.contract.records import (
    REFUSED_VALUES,
    Blobs,
    LargeValue,
    Store,
    by_digest,
    checkpoint,
    error_of,
    large,
    listed_ids,
    refusal,
    sessions_of,
)

Session: TypeAlias = Transaction[CheckpointData]


async def count_one(session: Session) -> int:
    """Count one up, in a new checkpoint: an update as callers have it."""
    newest = await session.load()
    count = 0 if newest is None else newest.iteration
    session.save(checkpoint(session.session_id, count + 1, checkpoint_id=f"{count + 1:04}"))
    return count + 1


async def taken_item(session: Session) -> object:
    """Take the first message of the one checkpoint; None when there is none."""
    newest = await session.load()
    if newest is None or not newest.messages:
        return None
    item = newest.messages.pop(0)
    session.save(newest)
    return item


async def owned(store: Store, session_id: str) -> None:
    """Own a session for a moment."""
    async with store.own(session_id):
        pass


class _StopError(Exception):
    """What `work` raises of its own."""


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
            raise _StopError

        stopped = False
        try:
            await store.update("s", work)
        except _StopError:
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
        """A save, a delete and an update that are called meanwhile come afterwards, in order."""
        await store.save(checkpoint("s", 0, checkpoint_id="a"))
        entered, going_on = asyncio.Event(), asyncio.Event()

        async def work(session: Session) -> None:
            entered.set()
            await going_on.wait()
            session.save(checkpoint("s", 1, checkpoint_id="b"))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(store.update("s", work))
            await entered.wait()
            later = [
                tasks.create_task(store.save(checkpoint("s", 2, checkpoint_id="c"))),
                tasks.create_task(store.update("s", count_one)),
            ]
            await store.save(checkpoint("other", 7))
            newest = await store.load("s")
            assert newest is not None
            assert newest.checkpoint_id == "a"
            assert not any(task.done() for task in later)
            going_on.set()
        assert (await listed_ids(store, "s"))[::-1] == ["a", "b", "c", "0003"]

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
            lambda: over.load_blobs([]),
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


class SharedUpdateContract:
    """
    What `update` does beside a second client; for `CheckpointStore`s of `CheckpointData`.

    The subclass gives `store` and `other`, as `SharingContract` says.
    """

    async def test_of_updates_of_two_clients_none_is_lost(self, store: Store, other: Store) -> None:
        """Each counts from what was there when it committed."""
        answers = await asyncio.gather(
            *(client.update("s", count_one) for _ in range(8) for client in (store, other))
        )
        assert sorted(answers) == [*range(1, 17)]
        assert len(await store.list("s")) == 16

    async def test_what_another_saved_meanwhile_is_seen(self, store: Store, other: Store) -> None:
        """Nothing is written that was decided on what is not so any more."""
        outside = contextvars.copy_context()

        async def work(session: Session) -> int:
            newest = await session.load()
            if not kept:  # a store may hold it up, so that nobody interferes
                save = other.save(checkpoint("s", 41, checkpoint_id="x"))
                kept.append(asyncio.create_task(save, context=outside))
                await asyncio.wait(kept, timeout=0.1)
            count = 0 if newest is None else newest.iteration
            session.save(checkpoint("s", count + 1, checkpoint_id="y"))
            return count + 1

        kept: list[asyncio.Task[str]] = []
        answer = await store.update("s", work)
        await kept[0]
        order = await listed_ids(store, "s")
        assert (answer, order) in ((42, ["y", "x"]), (1, ["x", "y"]))

    async def test_work_may_ask_another_client(self, store: Store, other: Store) -> None:
        """What it asks of a store that is opened beside is no call of its own, and not refused."""
        await store.save(checkpoint("s", 1, checkpoint_id="a"))

        async def work(session: Session) -> int:
            seen = await other.load("s")
            async with other.own("t") as owner:
                await owner.save(checkpoint("t", 1))
            session.save(checkpoint("s", 2, checkpoint_id="b"))
            await other.save(checkpoint("t", 2))
            return 0 if seen is None else seen.iteration

        assert await store.update("s", work) == 1
        assert await listed_ids(other, "s") == ["b", "a"]
        assert len(await store.list("t")) == 2


class OwnershipContract:
    """
    What `own` does; for a `CheckpointStore` of `CheckpointData`.

    The subclass gives a fixture `store`: an empty store.
    """

    async def test_an_owner_writes_its_session_alone(self, store: Store) -> None:
        """A record of another session is refused by name, and not saved."""
        async with store.own("s") as owner:
            assert await refusal(owner.save(checkpoint("t"))) is InvalidArgumentError
        assert await store.list("t") == ()

    async def test_an_owner_writes(self, store: Store) -> None:
        """Saves, deletes and updates through the owner are those of the store."""
        async with store.own("s") as owner:
            assert owner.session_id == "s"
            await owner.save(checkpoint("s", 1, checkpoint_id="a"), expected=None)
            refused = owner.save(checkpoint("s", 2), expected="b")
            assert await refusal(refused) is SessionChangedError
            assert await owner.update(count_one) == 2
            assert await owner.delete_many(["a", "unknown"]) == 1
            assert await listed_ids(store, "s") == ["0002"]
        assert await listed_ids(store, "s") == ["0002"]

    async def test_one_owns_at_a_time_in_the_order_of_the_calls(self, store: Store) -> None:
        """Tasks that want a session have it one after the other, first come, first served."""
        order: list[int] = []
        tokens: list[int] = []
        inside = 0

        async def live(number: int) -> None:
            nonlocal inside
            async with store.own("s") as owner:
                inside += 1
                assert inside == 1
                order.append(number)
                tokens.append(owner.token)
                await owner.save(checkpoint("s", number))
                inside -= 1

        async with store.own("s"):
            waiting = [asyncio.create_task(live(number)) for number in range(8)]
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        assert order == [*range(8)]
        assert tokens == sorted(set(tokens))

    async def test_a_second_one_may_be_told_at_once(self, store: Store) -> None:
        """Without waiting it is told that the session is owned; another session is free."""
        async with store.own("s"):
            told = await error_of(_entered(store, "s"))
            assert isinstance(told, SessionOwnedError)
            assert told.session_id == "s"
            assert await error_of(_entered(store, "t")) is None
        assert await error_of(_entered(store, "s")) is None

    async def test_a_wait_that_is_no_bool_is_refused(self, store: Store) -> None:
        """Any text, "no" among them, would count as True, and wait."""
        wrong: Any = "no"
        block = store.own("s", wait=wrong)  # it is told where the rest is, on entry

        async def enter() -> None:
            async with block:
                pass

        assert isinstance(await error_of(enter()), InvalidArgumentError)

    async def test_who_is_no_owner_any_more_is_refused(self, store: Store) -> None:
        """Writes through an owner after its block are refused by name, and change nothing."""
        async with store.own("s") as former:
            await former.save(checkpoint("s", checkpoint_id="a"))

        async def check() -> None:
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: former.save(checkpoint("s", checkpoint_id="b")),
                lambda: former.delete_many(["a"]),
                lambda: former.update(count_one),
            ]
            for call in calls:
                told = await error_of(call())
                assert isinstance(told, OwnershipLostError)
                assert (told.session_id, told.token) == ("s", former.token)

        await check()
        async with store.own("s") as owner:
            assert owner.token > former.token
            await check()
        assert await listed_ids(store, "s") == ["a"]

    async def test_an_owner_that_stages_nothing_writes_nothing(self, store: Store) -> None:
        """So it is not refused, whoever owns the session."""
        await store.save(checkpoint("s", 7))
        async with store.own("s") as former:
            pass

        async def work(session: Session) -> int:
            newest = await session.load()
            return 0 if newest is None else newest.iteration

        assert await former.update(work) == 7

    async def test_an_owner_does_not_wait_for_itself(self, store: Store) -> None:
        """A task that wants to own what it owns is told at once; another session it may own."""
        async with asyncio.timeout(30), store.own("s"):
            assert await refusal(owned(store, "s")) is NestedCallError
            assert isinstance(await error_of(_entered(store, "s")), SessionOwnedError)
            await owned(store, "t")
        await owned(store, "s")

    async def test_writes_beside_the_owner_are_not_refused(self, store: Store) -> None:
        """Ownership binds those who ask for it."""
        async with store.own("s") as owner:
            await store.save(checkpoint("s", checkpoint_id="a"))
            await owner.save(checkpoint("s", checkpoint_id="b"), expected="a")
        assert await listed_ids(store, "s") == ["b", "a"]

    async def test_it_is_given_up_however_the_block_ends(self, store: Store) -> None:
        """After an error, a cancellation of the owner or of one that waits, the next one has it."""
        with contextlib.suppress(_StopError):
            async with store.own("s"):
                raise _StopError
        assert await error_of(_entered(store, "s")) is None
        entered, never = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            async with store.own("s"):
                entered.set()
                await never.wait()

        holder = asyncio.create_task(hold())
        await entered.wait()
        waiting = [asyncio.create_task(hold()) for _ in range(2)]
        await asyncio.sleep(0)
        for task in (waiting[0], holder):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        never.set()
        await waiting[1]
        assert await error_of(_entered(store, "s")) is None


async def _entered(store: Store, session_id: str) -> None:
    async with store.own(session_id, wait=False):
        pass


class SharedOwnershipContract:
    """
    What `own` does beside a second client; for `CheckpointStore`s of `CheckpointData`.

    The subclass gives `store` and `other`, as `SharingContract` says.
    """

    async def test_a_session_has_one_owner_of_all(self, store: Store, other: Store) -> None:
        """What one client owns, the other does not, until it is given up; tokens go on growing."""
        async with store.own("s") as first:
            assert isinstance(await error_of(_entered(other, "s")), SessionOwnedError)
        async with other.own("s") as second:
            assert second.token > first.token
            assert isinstance(await error_of(_entered(store, "s")), SessionOwnedError)
            assert await refusal(first.save(checkpoint("s"))) is OwnershipLostError
            await second.save(checkpoint("s"))
        assert len(await store.list("s")) == 1

    async def test_the_other_waits_for_it(self, store: Store, other: Store) -> None:
        """A client that waits has the session when the owner gives it up."""
        order: list[str] = []

        async def wait() -> None:
            async with other.own("s"):
                order.append("second")

        async with store.own("s"):
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0)
            order.append("first")
        await waiting
        assert order == ["first", "second"]


class BlobUpdateContract:
    """
    What `update` does with blobs; for a `BlobStore` of `LargeValue`.

    The subclass gives a fixture `blob_store`: an empty store.
    """

    async def test_blobs_are_staged_with_their_records(self, blob_store: Blobs) -> None:
        """They are stored with them, read as they were, and go with the last that names them."""
        await blob_store.save(large("a", b"1", b"2"), blobs=by_digest(b"1", b"2"))

        async def work(session: Transaction[LargeValue]) -> dict[str, bytes]:
            session.save(large("b", b"2", b"3"), blobs=by_digest(b"3"))
            session.save(large("c", b"3"))
            session.delete("a")
            return await session.load_blobs(by_digest(b"1"))

        assert await blob_store.update("s", work) == by_digest(b"1")
        assert await listed_ids(blob_store, "s") == ["c", "b"]
        found = await blob_store.load_blobs("s", by_digest(b"2", b"3"))
        assert found == by_digest(b"2", b"3")
        assert await refusal(blob_store.load_blobs("s", by_digest(b"1"))) is not None

    async def test_a_record_without_its_blobs_spoils_all(self, blob_store: Blobs) -> None:
        """One that names a blob nobody has is refused, and nothing of the update is stored."""

        async def work(session: Transaction[LargeValue]) -> None:
            session.save(large("a", b"1"), blobs=by_digest(b"1"))
            session.save(large("b", b"2"))

        assert await refusal(blob_store.update("s", work)) is not None
        assert await blob_store.list("s") == ()

    async def test_a_blob_of_what_goes_may_be_named_again(self, blob_store: Blobs) -> None:
        """What the session had before counts, in whatever order things are staged."""
        await blob_store.save(large("a", b"1", b"2"), blobs=by_digest(b"1", b"2"))

        async def delete(session: Transaction[LargeValue]) -> None:
            session.delete("a")
            session.save(large("b", b"1", b"3"), blobs=by_digest(b"3"))

        async def replace(session: Transaction[LargeValue]) -> None:
            session.save(large("b"))
            session.save(large("c", b"3"))

        async def begin_anew(session: Transaction[LargeValue]) -> None:
            session.delete_session()
            session.save(large("d", b"3"))

        for work, checkpoint_ids, there, gone in (
            (delete, ["b"], (b"1", b"3"), b"2"),
            (replace, ["c", "b"], (b"3",), b"1"),
            (begin_anew, ["d"], (b"3",), b"4"),
        ):
            await blob_store.update("s", work)
            assert await listed_ids(blob_store, "s") == checkpoint_ids
            assert await blob_store.load_blobs("s", by_digest(*there)) == by_digest(*there)
            assert await refusal(blob_store.load_blobs("s", by_digest(gone))) is MissingBlobError
        await blob_store.delete("s", "d")
        assert await refusal(blob_store.load_blobs("s", by_digest(b"3"))) is MissingBlobError
        assert await blob_store.check() == ()

    async def test_a_blob_is_given_once_for_all_of_an_update(self, blob_store: Blobs) -> None:
        """With whichever save, even one that is not the last word on its id."""

        async def work(session: Transaction[LargeValue]) -> None:
            session.save(large("early", b"1", b"2"))
            session.save(large("a", b"1", b"gone"), blobs=by_digest(b"1", b"gone"))
            session.save(large("b", b"2"), blobs=by_digest(b"2"))
            session.save(large("a"))
            session.delete("b")

        await blob_store.update("s", work)
        assert await listed_ids(blob_store, "s") == ["a", "early"]
        assert await blob_store.load_blobs("s", by_digest(b"1", b"2")) == by_digest(b"1", b"2")
        assert await refusal(blob_store.load_blobs("s", by_digest(b"gone"))) is MissingBlobError
        assert await blob_store.check() == ()
