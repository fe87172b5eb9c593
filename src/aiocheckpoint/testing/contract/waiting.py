"""What waits within a process, and for how long."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

from aiocheckpoint.errors import CheckpointError, SessionOwnedError, StoreBusyError
from aiocheckpoint.testing.contract.records import Store, checkpoint, error_of, listed_ids, refusal
from aiocheckpoint.testing.contract.work import Session, count_one, owned


class WaitingContract:
    """
    What a store does when it has waited for too long; for a `CheckpointStore` of `CheckpointData`.

    The subclass gives a fixture `hasty_store`: an empty store that waits for half a second.
    """

    async def test_a_call_waits_no_longer_than_it_is_told(self, hasty_store: Store) -> None:
        """A change waits for an update, and an owner for another one; both are told of what."""
        entered, going_on = asyncio.Event(), asyncio.Event()

        async def work(session: Session) -> None:
            entered.set()
            await going_on.wait()
            session.save(checkpoint("s", 1, checkpoint_id="a"))

        async def hold() -> None:
            async with hasty_store.own("s"):
                await hasty_store.update("s", work)

        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            tasks.create_task(hold())
            await entered.wait()
            errors = await asyncio.gather(
                error_of(hasty_store.save(checkpoint("s", 2))),
                error_of(hasty_store.delete_session("s")),
                error_of(hasty_store.update("s", count_one)),
                error_of(owned(hasty_store, "s")),
            )
            going_on.set()
            told = [(type(error), str(error)) for error in errors]
        assert [kind for kind, _ in told] == [StoreBusyError] * 3 + [SessionOwnedError]
        assert [text for _, text in told if "'s'" not in text] == []
        assert await listed_ids(hasty_store, "s") == ["a"]

    async def test_a_line_that_moves_on_is_waited_for(self, hasty_store: Store) -> None:
        """However long it takes in all: no single update goes on for as long as it may."""
        moments: list[float] = []
        loop = asyncio.get_running_loop()

        async def slow(session: Session) -> int:
            moments.append(loop.time())
            await asyncio.sleep(0.1)
            return await count_one(session)

        answers: list[int | BaseException] = []
        async with asyncio.timeout(60):
            for attempt in itertools.count():
                moments.clear()
                updates = [hasty_store.update(f"s{attempt}", slow) for _ in range(8)]
                answers = await asyncio.gather(*updates, return_exceptions=True)
                moments.append(loop.time())
                longest_seconds = max(b - a for a, b in itertools.pairwise(moments))
                # Else the machine, or the store, was too busy to tell whose fault it is: from one
                # end to the next may be all but two of these, and that is less than half a second.
                if answers == [*range(1, 9)] or longest_seconds < 0.2:
                    break
        assert answers == [*range(1, 9)], f"refused although the line moved on: {answers}"

    async def test_work_that_waits_for_a_plain_thread_goes_on(self, hasty_store: Store) -> None:
        """Nobody can know who waits for that thread, so its call waits, and then is refused."""
        refused: list[type[CheckpointError] | None] = []

        def in_thread(call: Callable[[], Awaitable[object]]) -> type[CheckpointError] | None:
            return asyncio.run(refusal(call()))

        async def work(session: Session) -> None:
            loop = asyncio.get_running_loop()
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: hasty_store.save(checkpoint("s", 2)),
                lambda: hasty_store.update("s", count_one),
            ]
            refused.extend(
                await asyncio.gather(
                    *(loop.run_in_executor(None, in_thread, call) for call in calls)
                )
            )
            session.save(checkpoint("s", 1, checkpoint_id="a"))

        async with asyncio.timeout(30):
            await hasty_store.update("s", work)
        assert refused == [StoreBusyError, StoreBusyError]
        assert await listed_ids(hasty_store, "s") == ["a"]
