"""Owning a session."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from aiocheckpoint.errors import (
    InvalidArgumentError,
    NestedCallError,
    OwnershipLostError,
    SessionChangedError,
    SessionOwnedError,
)
from aiocheckpoint.testing.contract.records import (
    Store,
    checkpoint,
    error_of,
    listed_ids,
    refusal,
)
from aiocheckpoint.testing.contract.work import (
    Session,
    StopError,
    count_one,
    owned,
    owned_at_once,
)


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
            told = await error_of(owned_at_once(store, "s"))
            assert isinstance(told, SessionOwnedError)
            assert told.session_id == "s"
            assert await error_of(owned_at_once(store, "t")) is None
        assert await error_of(owned_at_once(store, "s")) is None

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

    async def test_a_token_is_no_smaller_than_the_clock(self, store: Store) -> None:
        """So it is greater than those of before a backup was restored, which nobody remembers."""
        yesterday = datetime.now(UTC) - timedelta(days=1)  # as the store has its own clock
        async with store.own("s") as owner:
            assert owner.token >= yesterday.timestamp() * 1000

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
            assert isinstance(await error_of(owned_at_once(store, "s")), SessionOwnedError)
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
        with contextlib.suppress(StopError):
            async with store.own("s"):
                raise StopError
        assert await error_of(owned_at_once(store, "s")) is None
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
        assert await error_of(owned_at_once(store, "s")) is None
