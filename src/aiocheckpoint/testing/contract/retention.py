"""What a store keeps that is told how many checkpoints a session may have."""

from __future__ import annotations

from aiocheckpoint.models import CheckpointData
from aiocheckpoint.store import Transaction
from aiocheckpoint.testing.contract.records import Store, checkpoint, listed_ids


class RetentionContract:
    """
    What `max_checkpoints` keeps; for a `CheckpointStore` of `CheckpointData`.

    The subclass gives a fixture `bounded_store`: an empty store that keeps the newest 3.
    """

    async def test_the_newest_are_kept(self, bounded_store: Store) -> None:
        """Of each session those that were saved last, whatever their ids and times say."""
        for number, key in enumerate("fabedc"):
            await bounded_store.save(checkpoint("s", number, checkpoint_id=key))
            await bounded_store.save(checkpoint(f"session {key}", number, checkpoint_id=key))
            assert len(await bounded_store.list("s")) == min(number + 1, 3)
        assert await listed_ids(bounded_store, "s") == ["c", "d", "e"]
        assert await bounded_store.ids("s") == ("e", "d", "c")
        assert await bounded_store.load("s", "f") is None
        for key in "fabedc":
            assert await listed_ids(bounded_store, f"session {key}") == [key]

    async def test_what_is_replaced_or_deleted_makes_room(self, bounded_store: Store) -> None:
        """An id that is saved again is one checkpoint, and the newest."""
        for key in "abcaa":
            await bounded_store.save(checkpoint("s", checkpoint_id=key))
        assert await listed_ids(bounded_store, "s") == ["a", "c", "b"]
        await bounded_store.delete("s", "c")
        await bounded_store.save(checkpoint("s", checkpoint_id="d"), expected="a")
        assert await listed_ids(bounded_store, "s") == ["d", "a", "b"]

    async def test_one_update_keeps_the_bound(self, bounded_store: Store) -> None:
        """Of what one commit saves the last are kept."""

        async def work(session: Transaction[CheckpointData]) -> None:
            for key in "bcdef":
                session.save(checkpoint("s", checkpoint_id=key))

        await bounded_store.save(checkpoint("s", checkpoint_id="a"))
        await bounded_store.update("s", work)
        assert await listed_ids(bounded_store, "s") == ["f", "e", "d"]
        assert await bounded_store.check() == ()

    async def test_an_update_is_bounded_when_all_is_staged(self, bounded_store: Store) -> None:
        """What it deletes makes room for what it saves, and what is taken back takes none."""

        async def taken_back(session: Transaction[CheckpointData]) -> None:
            session.save(checkpoint("s", checkpoint_id="d"))
            session.delete("d")

        async def exchanged(session: Transaction[CheckpointData]) -> None:
            session.save(checkpoint("s", checkpoint_id="e"))
            session.delete("c", "unknown")

        async def anew(session: Transaction[CheckpointData]) -> None:
            session.delete_session()
            for key in "abcde":
                session.save(checkpoint("s", checkpoint_id=key))

        for key in "abc":
            await bounded_store.save(checkpoint("s", checkpoint_id=key))
        await bounded_store.update("s", taken_back)
        assert await listed_ids(bounded_store, "s") == ["c", "b", "a"]
        await bounded_store.update("s", exchanged)
        assert await listed_ids(bounded_store, "s") == ["e", "b", "a"]
        await bounded_store.update("s", anew)
        assert await listed_ids(bounded_store, "s") == ["e", "d", "c"]
