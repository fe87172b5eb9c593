"""What a store keeps that is told how many checkpoints a session may have."""

from __future__ import annotations

from aiocheckpoint.errors import MissingBlobError
from aiocheckpoint.models import CheckpointData
from aiocheckpoint.store import Transaction
from aiocheckpoint.testing.contract.records import (
    Blobs,
    LargeValue,
    Store,
    by_digest,
    checkpoint,
    large,
    listed_ids,
    refusal,
)


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


class BlobRetentionContract:
    """
    The same about blobs, and beside a client that keeps all; for `BlobStore`s of `LargeValue`.

    The subclass gives `blob_store`, an empty one, and `bounded_blob_store`, a second client of it
    that keeps the newest 3.
    """

    async def test_blobs_go_with_what_is_not_kept(self, bounded_blob_store: Blobs) -> None:
        """Those that nothing kept leads to, and no others, also of an update."""
        for number in range(5):
            blobs = by_digest(f"{number}".encode(), f"{number // 2} both".encode())
            data = large(f"{number}", f"{number}".encode(), f"{number // 2} both".encode())
            await bounded_blob_store.save(data, blobs=blobs)
        assert await listed_ids(bounded_blob_store, "s") == ["4", "3", "2"]
        there = by_digest(b"2", b"3", b"4", b"1 both", b"2 both")
        assert await bounded_blob_store.load_blobs("s", there) == there
        for gone in (b"0", b"1", b"0 both"):
            lost = bounded_blob_store.load_blobs("s", by_digest(gone))
            assert await refusal(lost) is MissingBlobError

        async def work(session: Transaction[LargeValue]) -> None:
            session.save(large("5", b"2", b"5"), blobs=by_digest(b"5"))
            session.save(large("6"))

        await bounded_blob_store.update("s", work)
        assert await listed_ids(bounded_blob_store, "s") == ["6", "5", "4"]
        there = by_digest(b"2", b"4", b"5", b"2 both")
        assert await bounded_blob_store.load_blobs("s", there) == there
        for gone in (b"3", b"1 both"):
            lost = bounded_blob_store.load_blobs("s", by_digest(gone))
            assert await refusal(lost) is MissingBlobError
        assert await bounded_blob_store.check() == ()

    async def test_what_only_others_save_to_is_left_alone(
        self, blob_store: Blobs, bounded_blob_store: Blobs
    ) -> None:
        """A client that keeps few takes nothing from a session until it saves there itself."""
        blobs = [f"{number}".encode() for number in range(6)]
        for number, blob in enumerate(blobs):
            await blob_store.save(large(f"{number}", blob), blobs=by_digest(blob))
        assert not await bounded_blob_store.delete("s", "unknown")
        assert await bounded_blob_store.delete_many("s", ["5", "unknown"]) == 1
        assert (await bounded_blob_store.recover("s")).quarantined == ()
        assert await listed_ids(blob_store, "s") == ["4", "3", "2", "1", "0"]
        there = by_digest(*blobs[:5])
        assert await bounded_blob_store.load_blobs("s", there) == there
        await bounded_blob_store.save(large("6", blobs[4]))
        assert await listed_ids(blob_store, "s") == ["6", "4", "3"]
        assert await blob_store.load_blobs("s", by_digest(*blobs[3:5])) == by_digest(*blobs[3:5])
        for gone in (*blobs[:3], blobs[5]):
            lost = blob_store.load_blobs("s", by_digest(gone))
            assert await refusal(lost) is MissingBlobError
        assert await blob_store.check() == ()
