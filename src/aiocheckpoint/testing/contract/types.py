"""What a client sees of checkpoints that are no records of its type."""

from __future__ import annotations

from typing import Any

from aiocheckpoint.errors import CheckpointDecodeError
from aiocheckpoint.store import CheckpointStore
from aiocheckpoint.testing.contract.records import (
    Store,
    checkpoint,
    listed_ids,
    refusal,
    sessions_of,
)


class RecordTypeContract:
    """
    What a reader of another record type is told; for `CheckpointStore`s of `CheckpointData`.

    The subclass gives two fixtures: `store`, an empty one, and `foreign_store`, a second client of
    what it stores, with a `record_type` that no `CheckpointData` fits.
    """

    async def test_what_is_of_another_type_is_listed(
        self, store: Store, foreign_store: CheckpointStore[Any]
    ) -> None:
        """By all that names; `list` decodes nothing, so it has no problem with it."""
        for key in "ab":
            await store.save(checkpoint("s", checkpoint_id=key, trigger="step"))
        found = await foreign_store.list("s")
        assert [(meta.checkpoint_id, meta.problem) for meta in found] == [("b", None), ("a", None)]
        assert found == await store.list("s")
        assert await foreign_store.ids("s") == ("b", "a")
        assert await sessions_of(foreign_store) == ["s"]
        left = [meta async for meta in foreign_store.unfinished(final_triggers=["done"])]
        assert [meta.checkpoint_id for meta in left] == ["b"]
        over = [meta async for meta in foreign_store.unfinished(final_triggers=["step"])]
        assert all(meta.problem is not None for meta in over)  # of a store that does look into it

    async def test_what_is_of_another_type_is_no_damage(
        self, store: Store, foreign_store: CheckpointStore[Any]
    ) -> None:
        """To load it raises, and nothing calls it damaged or moves it; it is deleted by its id."""
        for key in "ab":
            await store.save(checkpoint("s", checkpoint_id=key))
        calls = (
            foreign_store.load("s"),
            foreign_store.load("s", "a"),
            foreign_store.load_many("s", ["a", "b"]),
            foreign_store.load_newest(["s"]),
        )
        assert {await refusal(call) for call in calls} == {CheckpointDecodeError}
        assert await foreign_store.verify("s", "a")
        assert await foreign_store.check() == ()
        report = await foreign_store.recover("s")
        assert (report.newest_valid_id, report.quarantined) == ("b", ())
        assert await foreign_store.delete("s", "b")
        assert await listed_ids(store, "s") == ["a"]
        assert await store.load("s") == checkpoint("s", checkpoint_id="a")
