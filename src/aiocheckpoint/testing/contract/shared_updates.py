"""What `update` does beside a second client."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from aiocheckpoint.errors import UnsupportedOperationError
from aiocheckpoint.models import CheckpointId, SessionId
from aiocheckpoint.testing.contract.records import Store, checkpoint, error_of, listed_ids
from aiocheckpoint.testing.contract.work import Session, count_one

_Change: TypeAlias = Callable[[Store, SessionId], Awaitable[object]]


async def _update_away(client: Store, session_id: SessionId) -> None:
    async def work(session: Session) -> None:
        session.delete("a")

    await client.update(session_id, work)


_STAGED: dict[str, tuple[Callable[[Session], object], list[CheckpointId]]] = {
    "a save": (lambda it: it.save(checkpoint(it.session_id, checkpoint_id="b")), ["b", "a"]),
    "a delete": (lambda it: it.delete("a"), []),
    "a delete of all": (lambda it: it.delete_session(), []),
}
"""What an update stages that has read `a` as the newest, and what there is once it has."""

_CHANGES: dict[str, tuple[_Change, list[CheckpointId], set[CheckpointId]]] = {
    "saved": (lambda it, key: it.save(checkpoint(key, checkpoint_id="x")), ["x"], set()),
    "replaced": (lambda it, key: it.save(checkpoint(key, 7, checkpoint_id="a")), ["a"], {"a"}),
    "deleted": (lambda it, key: it.delete(key, "a"), [], {"a"}),
    "deleted among others": (lambda it, key: it.delete_many(key, ["a", "b"]), [], {"a", "b"}),
    "deleted as a whole": (lambda it, key: it.delete_session(key), [], {"a", "b"}),
    "deleted by an update": (_update_away, [], {"a"}),
}
"""What another client does to the session, which ids are the newest then, and which are gone."""


class _Interference:
    """A change by another client, made once, while an update goes on that may hold it up."""

    def __init__(self) -> None:
        self._outside = contextvars.copy_context()  # so it is no call of the update's own
        self._task: asyncio.Task[object] | None = None

    async def begin(self, change: Callable[[], Awaitable[object]]) -> bool:
        """Begin the change where it was not; whether it was made before the update committed."""
        if self._task is None:

            async def call() -> None:
                await change()

            self._task = asyncio.create_task(call(), context=self._outside)
            await asyncio.wait([self._task], timeout=0.3)
        return self._task.done()

    async def end(self) -> None:
        assert self._task is not None
        await self._task


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

    async def test_an_update_notices_whatever_another_changed(
        self, store: Store, other: Store
    ) -> None:
        """A delete as well as a save, whether it stages saves or deletes alone."""
        await asyncio.gather(
            *(
                _require_noticed(store, other, f"{staged}, {changed}", staged, changed)
                for staged in _STAGED
                for changed in _CHANGES
            )
        )

    async def test_an_update_of_several_notices_a_change_of_any(
        self, store: Store, other: Store
    ) -> None:
        """Of whichever of its sessions, also of one that it only reads."""
        await asyncio.gather(
            *(
                _require_noticed_in_any(store, other, changed, saved_to)
                for changed in range(3)
                for saved_to in ((0, 1, 2), tuple({0, 1, 2} - {changed}))
            )
        )

    async def test_what_an_update_reads_was_there_at_one_moment(
        self, store: Store, other: Store
    ) -> None:
        """Also where it stages nothing: what it returns was so, though somebody came between."""
        outside = contextvars.copy_context()
        kept: list[asyncio.Task[str]] = []

        async def work(session: Session) -> list[tuple[str, ...]]:
            before = await session.saved_ids()
            if not kept:
                save = other.save(checkpoint("s", 1, checkpoint_id="x"))
                kept.append(asyncio.create_task(save, context=outside))
                await asyncio.wait(kept, timeout=0.1)
            newest = await session.load()
            assert newest is not None
            return [before, await session.saved_ids(), (newest.checkpoint_id,)]

        await store.save(checkpoint("s", checkpoint_id="a"))
        answer = await store.update("s", work)
        await kept[0]
        assert answer in ([("a",), ("a",), ("a",)], [("x", "a"), ("x", "a"), ("x",)])

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


async def _require_noticed(
    store: Store, other: Store, session_id: SessionId, staged: str, changed: str
) -> None:
    stage, staged_ids = _STAGED[staged]
    change, newest_ids, gone = _CHANGES[changed]

    def ids_after(before: list[CheckpointId]) -> list[CheckpointId]:
        return [*newest_ids, *(key for key in before if key not in gone)]

    interference = _Interference()
    was_made: list[bool] = []

    async def work(session: Session) -> bool:
        newest = await session.load()
        is_as_before = newest is not None and (newest.checkpoint_id, newest.iteration) == ("a", 0)
        was_made.append(await interference.begin(lambda: change(other, session_id)))
        if is_as_before:
            stage(session)
        return is_as_before

    await store.save(checkpoint(session_id, checkpoint_id="a"))
    answer = await store.update(session_id, work)
    await interference.end()
    found = await listed_ids(store, session_id)
    assert found == ids_after(staged_ids if answer else ["a"]), session_id
    assert not (was_made[0] and answer), session_id


async def _require_noticed_in_any(
    store: Store, other: Store, changed: int, saved_to: tuple[int, ...]
) -> None:
    names = [f"{saved_to} {changed} {number}" for number in range(3)]
    interference = _Interference()
    was_made: list[bool] = []

    async def work(sessions: Mapping[SessionId, Session]) -> bool:
        newest = [await sessions[name].load() for name in names]
        is_as_before = all(record and record.iteration == 0 for record in newest)
        data = checkpoint(names[changed], 7)
        was_made.append(await interference.begin(lambda: other.save(data)))
        for number in saved_to:
            if is_as_before:
                sessions[names[number]].save(checkpoint(names[number], 1))
        return is_as_before

    async def update() -> bool:
        answers.append(await store.update_many(names, work))
        return answers[0]

    answers: list[bool] = []
    for name in names:
        await store.save(checkpoint(name))
    told = await error_of(update())
    if told is not None:
        assert isinstance(told, UnsupportedOperationError)
        return
    await interference.end()
    assert not (was_made[0] and answers[0]), f"what another client saved to {names[changed]}"
    newest = await store.load_newest(names)
    expected = [1 if answers[0] and number in saved_to else 0 for number in range(3)]
    expected[changed] = 7  # whichever came first
    assert [newest[name].iteration for name in names] == expected
