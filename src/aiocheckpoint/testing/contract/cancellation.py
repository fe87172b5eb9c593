"""What a cancelled call leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeAlias

from aiocheckpoint.models import CheckpointData, JsonValue
from aiocheckpoint.store import Transaction
from aiocheckpoint.testing.contract.records import Store, checkpoint, listed_ids
from aiocheckpoint.testing.contract.work import ended

_MOMENTS = (0, 1, 2, 3, 5, 8, 13)
_LARGE: list[JsonValue] = ["to be stored, which takes a while " * 30_000]  # a megabyte
_MOST_WAITS = 40

_Call: TypeAlias = Callable[[], Coroutine[Any, Any, object]]


async def cancelled(
    call: Coroutine[Any, Any, object], moments: int, *, again: bool = False
) -> bool:
    """
    Start a call, cancel it some turns of the loop later, and tell whether it was cancelled.

    Args:
        call: the call.
        moments: how many turns of the loop it has.
        again: whether it is cancelled in each turn from then on, until it has ended.
    """
    task = asyncio.ensure_future(call)
    for _ in range(moments):
        await asyncio.sleep(0)
    await ended(task, again=again)
    if task.cancelled():
        return True
    await task
    return False


class _CutOff:
    """
    A call that is cancelled when it waits for the n-th time, however long each wait takes.

    Attributes:
        waits: how often it has waited.
    """

    def __init__(self, call: Coroutine[Any, Any, object], wait: int) -> None:
        self.waits = 0
        self._call = call
        self._wait = wait

    def __await__(self) -> Generator[Any, Any, object]:
        step = partial(self._call.send, None)
        while True:
            try:
                awaited = step()
            except StopIteration as end:
                return end.value
            self.waits += 1
            if self.waits == self._wait:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                step = partial(self._call.send, (yield awaited))
            except BaseException as error:  # noqa: BLE001 - passed on to the call
                step = partial(self._call.throw, error)


async def _cut_off(call: _Call) -> AsyncIterator[None]:
    """Make a call again and again, cancelled at its first wait, then at its second, to its end."""
    for wait in range(1, _MOST_WAITS + 1):
        cut_off = _CutOff(call(), wait)
        task = asyncio.ensure_future(cut_off)
        await asyncio.wait([task])
        if not task.cancelled():
            await task
        yield
        if cut_off.waits < wait:
            return


async def _save_three(session: Transaction[CheckpointData]) -> None:
    session.delete(*await session.ids())
    for key in "abc":
        session.save(checkpoint("s", checkpoint_id=key))


async def _replace_one_by_two(session: Transaction[CheckpointData]) -> None:
    session.delete("a")
    for key in "de":
        session.save(checkpoint("s", checkpoint_id=key))


async def _require_settled(store: Store, wanted: tuple[list[str], ...]) -> None:
    """Look at the session "s" twice, with a change of another one in between."""
    found = await listed_ids(store, "s")
    assert found in wanted
    for _ in range(20):
        await asyncio.sleep(0)
    await store.save(checkpoint("other"))
    assert await listed_ids(store, "s") == found


def _large(checkpoint_id: str) -> CheckpointData:
    return checkpoint("s", checkpoint_id=checkpoint_id, messages=_LARGE)


class CancellationContract:
    """
    What a cancelled call leaves; for a `CheckpointStore` of `CheckpointData`.

    A call is cancelled at each of its first 40 waits, however long they take, and after several
    numbers of turns of the loop. What a call does in a task of its own, and waits for, is one
    wait of the call: a later moment in it is met only within the first turns.

    The subclass gives a fixture `store`: an empty store.
    """

    async def test_a_cancelled_save_is_all_or_nothing(self, store: Store) -> None:
        """Whenever it is cancelled, it is there or not from then on, and saving goes on."""
        newest = checkpoint("s", checkpoint_id="first")
        await store.save(newest)
        for moments in _MOMENTS:
            data = checkpoint("s", moments, checkpoint_id=f"c{moments}")
            was_cancelled = await cancelled(store.save(data), moments)
            loaded = await store.load("s")
            assert loaded in ((newest, data) if was_cancelled else (data,))
            assert await store.load("s", data.checkpoint_id) == (data if loaded == data else None)
            newest = checkpoint("s", 7, checkpoint_id=f"after {moments}")
            await store.save(newest, expected=None if loaded is None else loaded.checkpoint_id)
            assert await store.load("s") == newest
        assert await store.check() == ()

    async def test_a_cancelled_replacement_leaves_one_of_both(self, store: Store) -> None:
        """Of the id there is the old or the new record, never none."""
        old = checkpoint("s", 1, checkpoint_id="a")
        await store.save(old)
        for moments in _MOMENTS:
            new = checkpoint("s", moments, checkpoint_id="a", resume_hint=f"{moments}")
            await cancelled(store.save(new), moments)
            found = await store.load("s", "a")
            assert found in (old, new)
            assert await listed_ids(store, "s") == ["a"]
            assert found is not None
            old = found

    async def test_a_cancelled_delete_is_all_or_nothing(self, store: Store) -> None:
        """All that one call deletes are there still, or none is."""
        for moments in _MOMENTS:
            for key in "abc":
                await store.save(checkpoint("s", checkpoint_id=key))
            await cancelled(store.delete_many("s", ["a", "b"]), moments)
            found = await listed_ids(store, "s")
            assert found in (["c"], ["c", "b", "a"])
            await cancelled(store.delete_session("s"), moments)
            assert await listed_ids(store, "s") in ([], found)
            await store.delete_session("s")

    async def test_a_call_is_all_or_nothing_whichever_of_its_waits_is_cancelled(
        self, store: Store
    ) -> None:
        """Of a save, a delete and an update, however long each of their steps takes."""
        data = checkpoint("s", checkpoint_id="d")
        calls: list[tuple[_Call, list[str]]] = [
            (lambda: store.save(data), ["d", "c", "b", "a"]),
            (lambda: store.save(data.next(checkpoint_id="a")), ["a", "c", "b"]),
            (lambda: store.delete_many("s", ["a", "b"]), ["c"]),
            (lambda: store.delete_session("s"), []),
            (lambda: store.update("s", _replace_one_by_two), ["e", "d", "c", "b"]),
        ]
        await store.update("s", _save_three)
        for call, done in calls:
            async for _ in _cut_off(call):
                found = await listed_ids(store, "s")
                assert found in (["c", "b", "a"], done)
                if found == done:
                    await store.update("s", _save_three)
        assert await store.check() == ()

    async def test_a_call_that_is_cancelled_again_has_ended_all_the_same(
        self, store: Store
    ) -> None:
        """However often it is cancelled, what it has changed does not change any more."""
        for moments in _MOMENTS:
            await store.save(checkpoint("s", checkpoint_id="a"))
            saving = store.save(checkpoint("s", 1, checkpoint_id="b"))
            if not await cancelled(saving, moments, again=True):
                assert await listed_ids(store, "s") == ["b", "a"]
            await _require_settled(store, (["a"], ["b", "a"]))
            deleting = store.delete_many("s", ["a", "b"])
            if not await cancelled(deleting, moments, again=True):
                assert await listed_ids(store, "s") == []
            await _require_settled(store, (["a"], ["b", "a"], []))
            await store.delete_session("s")
        assert await store.check() == ()

    async def test_an_update_that_is_cancelled_again_has_ended_all_the_same(
        self, store: Store
    ) -> None:
        """However often it is cancelled, all that it stages is stored, or nothing ever is."""

        async def work(session: Transaction[CheckpointData]) -> None:
            await session.ids()
            session.save(checkpoint("s", 1, checkpoint_id="a"))
            session.save(checkpoint("s", 2, checkpoint_id="b"))

        for moments in _MOMENTS:
            updating = store.update("s", work)
            if not await cancelled(updating, moments, again=True):
                assert await listed_ids(store, "s") == ["b", "a"]
            await _require_settled(store, ([], ["b", "a"]))
            await store.delete_session("s")
        assert await store.check() == ()

    async def test_what_takes_long_is_waited_for_all_the_same(self, store: Store) -> None:
        """A large save, and an update of large ones, have ended when their cancelled calls have."""

        async def work(session: Transaction[CheckpointData]) -> None:
            session.save(_large("b"))
            session.save(_large("a"))

        for moments in (1, 4, 40):
            for again in (False, True):
                await cancelled(store.save(_large("a")), moments, again=again)
                await _require_settled(store, ([], ["a"]))
                await store.delete_session("s")
                await cancelled(store.update("s", work), moments, again=again)
                await _require_settled(store, ([], ["a", "b"]))
                await store.delete_session("s")
        assert await store.check() == ()

    async def test_others_are_not_touched(self, store: Store) -> None:
        """Of saves that wait together some are cancelled; the others are stored in order."""
        saves = [
            asyncio.ensure_future(store.save(checkpoint("s", n, checkpoint_id=f"{n:02}")))
            for n in range(20)
        ]
        await asyncio.sleep(0)
        for task in saves[::3]:
            task.cancel()
        answers = await asyncio.gather(*saves, return_exceptions=True)
        stored = (await listed_ids(store, "s"))[::-1]
        assert stored == sorted(stored)
        acknowledged = {answer for answer in answers if isinstance(answer, str)}
        assert acknowledged <= set(stored)
        assert len(acknowledged) >= 13

    async def test_a_time_out_is_a_cancellation(self, store: Store) -> None:
        """`asyncio.timeout` ends a save; what it left does not change any more."""
        data = checkpoint("s", checkpoint_id="a")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await store.save(data)
        found = await store.load("s")
        assert found in (None, data)
        await store.save(checkpoint("t"))
        assert await store.load("s") == found

    async def test_a_cancelled_read_leaves_the_store_usable(self, store: Store) -> None:
        """Reads that are cancelled hold nothing up."""
        data = checkpoint("s", checkpoint_id="a")
        await store.save(data)
        for moments in _MOMENTS:
            await cancelled(store.load("s"), moments)
            await cancelled(store.list("s"), moments)
        assert await store.load("s") == data
        await store.save(checkpoint("s", 1), expected="a")
