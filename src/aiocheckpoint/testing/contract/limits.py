"""What a client sees of checkpoints that are larger than it may read."""

from __future__ import annotations

from aiocheckpoint.errors import CheckpointTooLargeError
from aiocheckpoint.models import CheckpointData, CheckpointId
from aiocheckpoint.testing.contract.records import (
    Store,
    checkpoint,
    error_of,
    listed_ids,
    sessions_of,
)


def _of_size(session_id: str, checkpoint_id: CheckpointId, size_bytes: int) -> CheckpointData:
    return checkpoint(
        session_id, checkpoint_id=checkpoint_id, trigger="done", resume_hint="x" * size_bytes
    )


async def _problems(store: Store, session_id: str) -> dict[CheckpointId, bool]:
    """Return which checkpoints `list` names as too large."""
    found = {meta.checkpoint_id: meta.problem for meta in await store.list(session_id)}
    assert all(problem is None or "max_bytes" in problem for problem in found.values())
    return {key: problem is not None for key, problem in found.items()}


class LimitContract:
    """
    What a reader with a smaller `max_bytes` is told; for `CheckpointStore`s of `CheckpointData`.

    The subclass gives two fixtures: `store`, an empty one, and `narrow_store`, a second client of
    what it stores, with `max_bytes=10_000`.
    """

    async def test_what_is_too_large_is_listed_as_such(
        self, store: Store, narrow_store: Store
    ) -> None:
        """Wherever it stands and however it is stored; to other clients it is no problem."""
        for key, size in {"a": 20_000, "b": 1, "c": 20_001, "d": 9_000, "e": 300_000}.items():
            await store.save(_of_size("s", key, size))
        told = {"e": True, "d": False, "c": True, "b": False, "a": True}
        assert await _problems(narrow_store, "s") == told
        assert await _problems(store, "s") == dict.fromkeys(told, False)
        assert [meta.iteration for meta in await narrow_store.list("s", limit=1)] == [0]
        assert (await narrow_store.list("s", before="d", limit=1))[0].problem is not None
        reading = narrow_store.read("s", lambda session: session.list())
        assert [meta.problem is not None for meta in await reading] == [*told.values()]
        updating = narrow_store.update("s", lambda session: session.list())
        assert [meta.problem is not None for meta in await updating] == [*told.values()]

    async def test_what_is_too_large_is_named_by_all(
        self, store: Store, narrow_store: Store
    ) -> None:
        """It is the newest still: told by its id, raised, found by `check`, not passed over."""
        await store.save(_of_size("s", "a", 1))
        await store.save(_of_size("s", "b", 20_000))
        for call in (
            narrow_store.load("s"),
            narrow_store.load("s", "b"),
            narrow_store.load_many("s", ["a", "b"]),
            narrow_store.load_newest(["s"]),
            narrow_store.verify("s", "b"),
            narrow_store.recover("s"),
        ):
            assert isinstance(await error_of(call), CheckpointTooLargeError)
        assert await narrow_store.ids("s") == ("b", "a")
        assert await listed_ids(narrow_store, "s") == ["b", "a"]
        assert await sessions_of(narrow_store) == ["s"]
        assert [finding.kind for finding in await narrow_store.check()] == ["unreadable"]
        found = [meta async for meta in narrow_store.unfinished(final_triggers=["done"])]
        assert [(meta.checkpoint_id, meta.problem is not None) for meta in found] == [("b", True)]
        assert await narrow_store.load("s", "a") == _of_size("s", "a", 1)
        assert await store.load("s") == _of_size("s", "b", 20_000)

    async def test_what_is_too_large_can_be_deleted(
        self, store: Store, narrow_store: Store
    ) -> None:
        """By its id as anything else, and as a part of its session; to delete is not to read."""
        for key in "abc":
            await store.save(_of_size("s", key, 20_000))
            await store.save(_of_size("t", key, 20_000))
        assert await narrow_store.delete("s", "b")
        assert await narrow_store.delete_many("s", ["c", "b"]) == 1
        assert await listed_ids(store, "s") == ["a"]
        assert await narrow_store.delete_session("t")
        assert await sessions_of(store) == ["s"]
