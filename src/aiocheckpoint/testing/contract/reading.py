"""Several reads of a session in one call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from aiocheckpoint.errors import InvalidArgumentError, InvalidIdError
from aiocheckpoint.models import CheckpointData, CheckpointId
from aiocheckpoint.store import SessionReader
from aiocheckpoint.testing.contract.records import Store, checkpoint, refusal, sessions_of

Reader: TypeAlias = SessionReader[CheckpointData]


def _saved_ids(options: Any) -> Callable[[Reader], Awaitable[tuple[CheckpointId, ...]]]:
    return lambda session: session.saved_ids(**options)


class _StopError(Exception):
    """What `work` raises of its own."""


class ReadContract:
    """
    What `read` does; for a `CheckpointStore` of `CheckpointData`.

    The subclass gives a fixture `store`: an empty store.
    """

    async def test_one_read_follows_from_another(self, store: Store) -> None:
        """Work reads the session as the calls of the store do, and what it returns is returned."""
        for number, key in enumerate(["b1", "a1", "b2", "a2"]):
            await store.save(checkpoint("s", number, checkpoint_id=key))
        await store.save(checkpoint("other", checkpoint_id="b3"))

        async def work(session: Reader) -> tuple[CheckpointData, ...]:
            assert session.session_id == "s"
            newest = await session.load()
            assert newest is not None
            assert newest.checkpoint_id == "a2"
            assert await session.load("b3") is None
            assert await session.ids(prefix="b", before="b2") == ("b1",)
            assert [m.checkpoint_id for m in await session.list(before="a2")] == ["b2", "a1", "b1"]
            return await session.load_many(await session.saved_ids(prefix="b"))

        found = await store.read("s", work)
        assert [(record.checkpoint_id, record.iteration) for record in found] == [
            ("b1", 0),
            ("b2", 2),
        ]

    async def test_a_limit_may_be_any_whole_number(self, store: Store) -> None:
        """Also one that no storage could hold: it is more than there are."""
        for key in "ab":
            await store.save(checkpoint("s", checkpoint_id=key))

        async def work(session: Reader) -> list[int]:
            found = [
                await session.ids(limit=limit),
                await session.saved_ids(limit=limit),
                await session.list(limit=limit),
                await session.list(before="b", limit=limit),
            ]
            return [len(each) for each in found]

        for limit in (2**31, 2**63 - 1, 2**63, 10**30):
            assert len(await store.ids("s", limit=limit)) == 2
            assert len(await store.list("s", limit=limit)) == 2
            assert len(await store.list("s", before="b", limit=limit)) == 1
            assert await store.read("s", work) == [2, 2, 2, 1]
            assert await store.update("s", work) == [2, 2, 2, 1]

    async def test_saved_ids_are_in_the_order_of_saving(self, store: Store) -> None:
        """The one saved last comes first, whatever the ids; one that is saved again moves."""
        for key in "cabda":
            await store.save(checkpoint("s", checkpoint_id=key))
        await store.save(checkpoint("s", checkpoint_id="aa"))
        await store.delete("s", "d")
        for options, expected in (
            ({}, ("aa", "a", "b", "c")),
            ({"limit": 2}, ("aa", "a")),
            ({"limit": 0}, ()),
            ({"prefix": "a"}, ("aa", "a")),
            ({"prefix": "b", "limit": 1}, ("b",)),
            ({"prefix": "d"}, ()),
        ):
            assert await store.read("s", _saved_ids(options)) == expected
            assert await store.update("s", _saved_ids(options)) == expected

    async def test_of_nothing_nothing_is_read(self, store: Store) -> None:
        """A session that is not there has no checkpoints, and begins to exist by no read."""

        async def work(session: Reader) -> list[object]:
            found: list[object] = [await session.load(), await session.load("a")]
            found += [await session.load_many(["a"]), await session.ids(), await session.list()]
            return [*found, await session.saved_ids(), await session.saved_ids(prefix="a")]

        assert await store.read("s", work) == [None, None, (), (), (), (), ()]
        assert await sessions_of(store) == []

    async def test_what_work_of_a_read_raises_passes(self, store: Store) -> None:
        """Its error is the caller's, and the store goes on."""

        async def work(session: Reader) -> None:
            assert await session.saved_ids() == ("a",)
            raise _StopError

        await store.save(checkpoint("s", checkpoint_id="a"))
        stopped = False
        try:
            await store.read("s", work)
        except _StopError:
            stopped = True
        assert stopped
        assert await store.read("s", lambda session: session.saved_ids()) == ("a",)

    async def test_reads_refuse_what_they_cannot_do(self, store: Store) -> None:
        """Work that is no function, a prefix or a limit that is none, an id that none can have."""
        odd: Any = 7
        assert await refusal(store.read("s", odd)) is InvalidArgumentError
        odd = str  # it is called, and is not async
        assert await refusal(store.read("s", odd)) is InvalidArgumentError
        for options in ({"prefix": 7}, {"limit": -1}, {"limit": "1"}):
            reads = store.read("s", _saved_ids(options))
            assert await refusal(reads) is InvalidArgumentError
        by_id = store.read("s", lambda session: session.load("\ud800"))
        assert await refusal(by_id) is InvalidIdError
        of_session = store.read("\ud800", lambda session: session.load())
        assert await refusal(of_session) is InvalidIdError
