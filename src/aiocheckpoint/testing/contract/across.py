"""Calls across many sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

from aiocheckpoint.errors import (
    CheckpointCorruptError,
    InvalidArgumentError,
    NestedCallError,
    UnsupportedOperationError,
    WriterClosedError,
)
from aiocheckpoint.models import CheckpointData
from aiocheckpoint.store import Transaction
from aiocheckpoint.testing.contract.damage import Damage
from aiocheckpoint.testing.contract.records import (
    ODD_IDS,
    Store,
    checkpoint,
    error_of,
    listed_ids,
    refusal,
    sessions_of,
)


async def unfinished_of(store: Store, *final: str, prefix: str = "") -> dict[str, str]:
    """Return the ids of what `unfinished` tells, by their sessions."""
    return {
        meta.session_id: meta.checkpoint_id
        async for meta in store.unfinished(final_triggers=final, prefix=prefix)
    }


class AcrossSessionsContract:
    """
    Calls across many sessions; for a `CheckpointStore` of `CheckpointData`.

    The subclass gives a fixture `store`: an empty store. One whose queries give fewer sessions at
    once says so by `sessions_of_a_page`, for a test that is the quicker for it.
    """

    sessions_of_a_page: ClassVar[int] = 500

    async def test_the_newest_of_many_come_in_one_call(self, store: Store) -> None:
        """In the order that was asked for, without those that have none."""
        for number, session_id in enumerate(ODD_IDS):
            await store.save(checkpoint(session_id, number, checkpoint_id="z"))
            await store.save(checkpoint(session_id, number + 100, checkpoint_id="a"))
        wanted = [*reversed(ODD_IDS), "nobody", ODD_IDS[0]]
        found = await store.load_newest(wanted)
        assert [*found] == [*reversed(ODD_IDS)]
        for number, session_id in enumerate(ODD_IDS):
            newest = found[session_id]
            assert (newest.session_id, newest.iteration) == (session_id, number + 100)
        assert await store.load_newest([]) == {}
        assert await store.load_newest(["nobody"]) == {}

    async def test_sessions_that_are_not_final_are_told(self, store: Store) -> None:
        """The newest counts, whatever came before it, and all of a prefix if asked."""
        for session_id, triggers in {
            "a1": ("done",),
            "a2": ("done", "step"),
            "b1": ("step", "done"),
            "b2": ("step", "failed"),
            "c1": ("",),
        }.items():
            for number, trigger in enumerate(triggers):
                data = checkpoint(session_id, checkpoint_id=f"{number}", trigger=trigger)
                await store.save(data)
        assert await unfinished_of(store, "done") == {"a2": "1", "b2": "1", "c1": "0"}
        assert await unfinished_of(store, "done", "failed", "") == {"a2": "1"}
        assert await unfinished_of(store, "done", prefix="b") == {"b2": "1"}
        assert len(await unfinished_of(store)) == 5
        await store.delete_session("a2")
        await store.delete("b1", "1")
        assert await unfinished_of(store, "done", "") == {"b1": "0", "b2": "1"}

    async def test_no_page_of_sessions_is_left_out(self, store: Store) -> None:
        """However many there are, more than a query gives at once, each is told, and once."""
        names = [f"{number:04}" for number in range(2, self.sessions_of_a_page + 4)]
        await asyncio.gather(*(store.save(checkpoint(name)) for name in names))
        assert await sessions_of(store) == names
        assert await sessions_of(store, "000") == names[:8]
        assert [*await store.load_newest(names[::-1])] == names[::-1]
        assert sorted(await unfinished_of(store, "done")) == names

    async def test_several_sessions_change_in_one_commit_or_it_is_refused(
        self, store: Store
    ) -> None:
        """`update_many` is all or nothing over sessions; a store without it says so by name."""
        await store.save(checkpoint("one", 5, checkpoint_id="a"))

        async def move(sessions: Mapping[str, Transaction[CheckpointData]]) -> int:
            source = await sessions["one"].load()
            assert source is not None
            assert await sessions["two"].load() is None
            sessions["one"].save(source.next(checkpoint_id="b", iteration=0))
            sessions["two"].save(checkpoint("two", source.iteration, checkpoint_id="b"))
            return source.iteration

        async def fail(sessions: Mapping[str, Transaction[CheckpointData]]) -> None:
            for session_id, session in sessions.items():
                session.save(checkpoint(session_id, 9))
            raise KeyError(sessions["one"].session_id)

        told = await error_of(store.update_many(["one", "two"], move))
        if told is not None:
            assert isinstance(told, UnsupportedOperationError)
            assert await listed_ids(store, "one") == ["a"]
            assert await store.list("two") == ()
            return
        assert await listed_ids(store, "one") == ["b", "a"]
        assert [meta.iteration for meta in await store.list("two")] == [5]
        raised = False
        try:
            await store.update_many(["one", "two"], fail)
        except KeyError:
            raised = True
        assert raised
        assert await listed_ids(store, "one") == ["b", "a"]
        assert await listed_ids(store, "two") == ["b"]

    async def test_sessions_may_be_named_again(self, store: Store) -> None:
        """And by any iterable: each is one session, which work is given once."""

        async def count(sessions: Mapping[str, Transaction[CheckpointData]]) -> list[str]:
            for session_id, session in sessions.items():
                session.save(checkpoint(session_id, checkpoint_id="a"))
            return [*sessions]

        async with asyncio.timeout(30):
            assert await store.update_many(iter(["s", "s"]), count) == ["s"]
        assert await listed_ids(store, "s") == ["a"]
        assert [*await store.load_newest(iter(["s", "t", "s"]))] == ["s"]
        found = store.unfinished(final_triggers=iter(["done"]))
        assert [meta.session_id async for meta in found] == ["s"]
        assert len(await store.load_many("s", iter(["a", "a"]))) == 1
        assert await store.delete_many("s", iter(["a", "a"])) == 1

    async def test_an_update_of_no_session_calls_its_work(self, store: Store) -> None:
        """It is given nothing, what it returns or raises passes, and nothing is stored."""
        seen: list[dict[str, Transaction[CheckpointData]]] = []

        async def work(sessions: Mapping[str, Transaction[CheckpointData]]) -> str:
            seen.append({**sessions})
            return "done"

        async def call(sessions: Mapping[str, Transaction[CheckpointData]]) -> None:
            await store.save(checkpoint("s", len(sessions)))

        def no_work(_sessions: object) -> str:
            return "not async"

        assert await store.update_many([], work) == "done"
        assert seen == [{}]
        assert await refusal(store.update_many([], call)) is NestedCallError
        wrong: Any = no_work
        assert await refusal(store.update_many([], wrong)) is InvalidArgumentError
        assert await sessions_of(store) == []
        await store.aclose()
        assert await refusal(store.update_many([], work)) is WriterClosedError

    async def test_commits_over_sessions_do_not_wait_for_each_other_for_ever(
        self, store: Store
    ) -> None:
        """Whatever the order in which they name their sessions, all end and none is lost."""

        async def count(sessions: Mapping[str, Transaction[CheckpointData]]) -> None:
            for session_id, session in sessions.items():
                newest = await session.load()
                number = 0 if newest is None else newest.iteration
                session.save(checkpoint(session_id, number + 1))

        names = ["one", "two", "three"]
        orders = [[names[i], names[j]] for i in range(3) for j in range(3) if i != j]
        async with asyncio.timeout(60):
            answers = await asyncio.gather(
                *(error_of(store.update_many(order, count)) for order in orders)
            )
        if any(answers):
            assert {type(answer) for answer in answers} == {UnsupportedOperationError}
            return
        newest = await store.load_newest(names)
        assert [record.iteration for record in newest.values()] == [4, 4, 4]


class AcrossDamageContract:
    """
    The same where something is damaged.

    The subclass gives `store` and `damage`, as `DamageContract` says. For `sessions_of_a_page` see
    `AcrossSessionsContract`.
    """

    sessions_of_a_page: ClassVar[int] = 500

    async def test_no_page_of_sessions_is_left_unchecked(
        self, store: Store, damage: Damage
    ) -> None:
        """However many there are, more than a query gives at once, damage in any is found."""
        names = [f"{number:04}" for number in range(self.sessions_of_a_page + 2)]
        await asyncio.gather(*(store.save(checkpoint(name, checkpoint_id="a")) for name in names))
        for session_id in (names[0], names[-1]):
            await damage(session_id, "a")
        found = {each.session_id for each in await store.check() if each.is_damage}
        assert found == {names[0], names[-1]}

    async def test_damage_is_not_left_out(self, store: Store, damage: Damage) -> None:
        """Load_newest raises the first, and has the rest and all else; unfinished tells each."""
        for session_id, trigger in {"a": "step", "b": "step", "c": "done"}.items():
            await store.save(checkpoint(session_id, checkpoint_id="1", trigger=trigger))
        await damage("b", "1")
        told = await error_of(store.load_newest("abc"[0:1]))
        assert told is not None  # one str is no list of ids
        told = await error_of(store.load_newest(["c", "b", "a"]))
        assert isinstance(told, CheckpointCorruptError)
        assert told.listed == await store.load_newest(["c", "a"])  # which are none the worse
        await damage("a", "1")
        told = await error_of(store.load_newest(["c", "b", "a"]))
        assert isinstance(told, CheckpointCorruptError)
        assert len(getattr(told, "__notes__", [])) == 1
        assert await store.load_newest(["c", "d"])
        assert await unfinished_of(store, "done") == {"a": "1", "b": "1"}
