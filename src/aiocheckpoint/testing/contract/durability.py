"""What is there when a store is opened again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from aiocheckpoint.errors import MissingBlobError, SessionChangedError
from aiocheckpoint.testing.contract.records import (
    ODD_IDS,
    Blobs,
    Store,
    by_digest,
    checkpoint,
    large,
    listed_ids,
    refusal,
    sessions_of,
)

Reopen: TypeAlias = Callable[[Any], Awaitable[Any]]


class DurabilityContract:
    """
    What outlives the store object; for a `CheckpointStore` of `CheckpointData`.

    The subclass gives two fixtures: `store`, an empty one, and `reopen`, a coroutine function that
    takes a store, ends it, and returns a new one of the same type on the same storage. The harder
    it ends it, the more the tests say: by a close, or better by leaving it as a crash would.
    """

    async def test_what_was_saved_is_there_again(self, store: Store, reopen: Reopen) -> None:
        """Records, their order, their times and their checksums are those that were told."""
        saved = [checkpoint("s", number, checkpoint_id=key) for number, key in enumerate("cab")]
        for data in saved:
            await store.save(data)
        listed = await store.list("s")
        again: Store = await reopen(store)
        assert await again.load("s") == saved[-1]
        assert await again.load_many("s", ["a", "b", "c"]) == tuple(saved)
        assert await again.list("s") == listed
        assert await again.ids("s") == ("c", "b", "a")
        assert await sessions_of(again) == ["s"]
        assert await again.check() == ()

    async def test_any_text_is_an_id_again(self, store: Store, reopen: Reopen) -> None:
        """Ids are told as they were given, of whatever characters they are."""
        for number, name in enumerate(ODD_IDS):
            await store.save(checkpoint(name, number, checkpoint_id=name))
        again: Store = await reopen(store)
        assert await sessions_of(again) == sorted(ODD_IDS)
        for number, name in enumerate(ODD_IDS):
            loaded = await again.load(name)
            assert loaded is not None
            assert (loaded.session_id, loaded.checkpoint_id) == (name, name)
            assert loaded.iteration == number

    async def test_what_was_deleted_stays_so(self, store: Store, reopen: Reopen) -> None:
        """Nothing that was deleted or replaced comes back."""
        for key in "abcd":
            await store.save(checkpoint("s", 1, checkpoint_id=key))
            await store.save(checkpoint("t", 1, checkpoint_id=key))
        await store.delete("s", "d")
        await store.delete_many("s", ["a"])
        await store.save(checkpoint("s", 2, checkpoint_id="b"))
        await store.delete_session("t")
        again: Store = await reopen(store)
        assert await listed_ids(again, "s") == ["b", "c"]
        assert [meta.iteration for meta in await again.list("s")] == [2, 1]
        assert await again.load("t") is None
        assert await sessions_of(again) == ["s"]

    async def test_the_order_goes_on(self, store: Store, reopen: Reopen) -> None:
        """What is saved afterwards follows what was saved before, by order and by time."""
        for number, key in enumerate(("b", "c", "a")):
            await store.save(checkpoint("s", number, checkpoint_id=key))
            store = await reopen(store)
        refused = checkpoint("s", checkpoint_id="d")
        assert await refusal(store.save(refused, expected="c")) is SessionChangedError
        assert await refusal(store.save(refused, expected=None)) is SessionChangedError
        await store.save(checkpoint("s", 3, checkpoint_id="b"), expected="a")
        assert await listed_ids(store, "s") == ["b", "a", "c"]
        times = [meta.saved_at for meta in await store.list("s")]
        assert times == sorted(set(times), reverse=True)


class BlobDurabilityContract:
    """
    The same about blobs; for a `BlobStore` of `LargeValue`.

    The subclass gives `blob_store` and `reopen`, as `DurabilityContract` says.
    """

    async def test_blobs_are_there_again(self, blob_store: Blobs, reopen: Reopen) -> None:
        """A record still has its blobs, and a later one may name them."""
        await blob_store.save(large("a", b"1", b"2" * 9999), blobs=by_digest(b"1", b"2" * 9999))
        again: Blobs = await reopen(blob_store)
        wanted = by_digest(b"1", b"2" * 9999)
        assert await again.load_blobs("s", wanted) == wanted
        await again.save(large("b", b"1", b"3"), blobs=by_digest(b"3"))
        again = await reopen(again)
        await again.delete("s", "a")
        assert await again.load_blobs("s", by_digest(b"1", b"3")) == by_digest(b"1", b"3")
        gone = again.load_blobs("s", by_digest(b"2" * 9999))
        assert await refusal(gone) is MissingBlobError
        assert await again.check() == ()
