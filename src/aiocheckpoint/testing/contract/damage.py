"""What a store does about checkpoints that are not what was saved."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar, TypeAlias

from aiocheckpoint.errors import CheckpointCorruptError, MissingBlobError
from aiocheckpoint.testing.contract.records import (
    Blobs,
    Store,
    by_digest,
    checkpoint,
    error_of,
    large,
    listed_ids,
    refusal,
    sessions_of,
)
from aiocheckpoint.testing.contract.work import saved_at_once

Damage: TypeAlias = Callable[[str, str], Awaitable[None]]


class DamageContract:
    """
    What a store does about damage; for a `CheckpointStore` of `CheckpointData`.

    The subclass gives two fixtures: `store`, an empty one, and `damage`, a coroutine function that
    takes a session id and a checkpoint id and changes a byte in what is stored of it. For
    `checkpoints_of_a_page` see `CheckpointStoreContract`.
    """

    checkpoints_of_a_page: ClassVar[int] = 1000

    async def test_damage_raises_and_nothing_older_comes_instead(
        self, store: Store, damage: Damage
    ) -> None:
        """Every way to load it raises, and says which; as the newest, also which one is intact."""
        saved = [checkpoint("s", number, checkpoint_id=key) for number, key in enumerate("cab")]
        for data in saved:
            await store.save(data)
        await damage("s", "b")
        told = await error_of(store.load("s"))
        assert isinstance(told, CheckpointCorruptError)
        assert told.newest_valid_id == "a"
        for call in (store.load("s"), store.load("s", "b"), store.load_many("s", ["a", "b"])):
            told = await error_of(call)
            assert isinstance(told, CheckpointCorruptError)
            assert (told.session_id, told.checkpoint_id) == ("s", "b")
        assert await store.load("s", "a") == saved[1]
        assert await store.load_many("s", ["a", "c"]) == tuple(saved[:2])

    async def test_damage_is_told(self, store: Store, damage: Damage) -> None:
        """The damaged one is listed, not verified and found; the others are intact."""
        for session_id in ("s", "t"):
            for key in "ab":
                await store.save(checkpoint(session_id, checkpoint_id=key))
        await damage("s", "a")
        assert await listed_ids(store, "s") == ["b", "a"]
        assert await store.ids("s") == ("b", "a")
        assert await sessions_of(store) == ["s", "t"]
        verified = [await store.verify(session_id, key) for session_id in "st" for key in "ab"]
        assert verified == [False, True, True, True]
        findings = [finding for finding in await store.check() if finding.is_damage]
        assert findings
        assert {finding.session_id for finding in findings} == {"s"}
        assert all("://" in finding.location for finding in findings)
        assert await refusal(store.load("s", "a")) is not None

    async def test_a_session_goes_on_after_damage(self, store: Store, damage: Damage) -> None:
        """What is saved after the damaged one is the newest, and loads."""
        for key in "ab":
            await store.save(checkpoint("s", checkpoint_id=key))
        await damage("s", "b")
        data = checkpoint("s", 7, checkpoint_id="c")
        await store.save(data, expected="b")
        assert await store.load("s") == data
        assert await listed_ids(store, "s") == ["c", "b", "a"]
        assert await store.delete_session("s")
        assert await sessions_of(store) == []

    async def test_a_damaged_one_can_be_deleted(self, store: Store, damage: Damage) -> None:
        """By the id under which it is listed, alone, with others or as the newest, as any other."""
        for key in "abcdef":
            await store.save(checkpoint("s", checkpoint_id=key))
        for key in "bcf":
            await damage("s", key)
        assert await store.delete("s", "b")
        assert await store.delete_many("s", ["a", "c"]) == 2
        assert await store.delete("s", "f")
        assert not await store.delete("s", "f")
        assert await store.load("s") == checkpoint("s", checkpoint_id="e")
        assert await listed_ids(store, "s") == ["e", "d"]
        assert await store.check() == ()

    async def test_recover_goes_back_knowingly(self, store: Store, damage: Damage) -> None:
        """The damaged ones are put aside, and the newest intact one is the newest."""
        saved = [checkpoint("s", number, checkpoint_id=key) for number, key in enumerate("dacb")]
        for data in saved:
            await store.save(data)
        for key in "bc":
            await damage("s", key)
        report = await store.recover("s")
        assert (report.session_id, report.newest_valid_id) == ("s", "a")
        assert len(set(report.quarantined)) >= 2
        assert await store.load("s") == saved[1]
        assert await listed_ids(store, "s") == ["a", "d"]
        assert await store.load("s", "b") is None
        assert await store.check() == ()
        again = await store.recover("s")
        assert (again.newest_valid_id, again.quarantined) == ("a", ())
        await store.save(checkpoint("s", 9, checkpoint_id="b"), expected="a")
        assert await listed_ids(store, "s") == ["b", "a", "d"]

    async def test_no_page_with_damage_is_left_out(self, store: Store, damage: Damage) -> None:
        """Of a session with more checkpoints than a query gives at once all are looked at."""
        ids = await saved_at_once(store, "s", self.checkpoints_of_a_page + 2)
        for checkpoint_id in (ids[0], ids[-1]):
            await damage("s", checkpoint_id)
        findings = [finding for finding in await store.check() if finding.is_damage]
        assert len({finding.location for finding in findings}) == 2
        report = await store.recover("s")
        assert report.newest_valid_id == ids[-2]
        assert await store.ids("s") == tuple(ids[-2:0:-1])
        assert await store.check() == ()

    async def test_recover_may_leave_nothing(self, store: Store, damage: Damage) -> None:
        """Of a session without an intact checkpoint none is left, and it may begin anew."""
        await store.save(checkpoint("s", checkpoint_id="a"))
        await damage("s", "a")
        told = await error_of(store.load("s"))
        assert isinstance(told, CheckpointCorruptError)
        assert told.newest_valid_id is None
        report = await store.recover("s")
        assert report.newest_valid_id is None
        assert report.quarantined
        assert await store.load("s") is None
        assert await sessions_of(store) == []
        await store.save(checkpoint("s", checkpoint_id="a"), expected=None)

    async def test_damage_is_not_copied(self, store: Store, damage: Damage) -> None:
        """The copy of a session with damage raises; what it may have copied before is intact."""
        saved = [checkpoint("s", number, checkpoint_id=key) for number, key in enumerate("abc")]
        for data in saved:
            await store.save(data)
        await damage("s", "b")
        told = await error_of(store.copy_session("s", "t"))
        assert isinstance(told, CheckpointCorruptError)
        assert await listed_ids(store, "t") in ([], ["a"])
        assert await store.load_many("s", ["a", "c"]) == (saved[0], saved[2])


class BlobDamageContract:
    """
    The same about blobs; for a `BlobStore` of `LargeValue`.

    The subclass gives `blob_store` and `damage_blob`, which takes a session id and a digest.
    """

    async def test_a_damaged_blob_raises(self, blob_store: Blobs, damage_blob: Damage) -> None:
        """It is never handed out, its record stays readable, and recover puts both aside."""
        await blob_store.save(large("a", b"1" * 99), blobs=by_digest(b"1" * 99))
        await blob_store.save(large("b", b"2" * 99), blobs=by_digest(b"2" * 99))
        (digest,) = by_digest(b"2" * 99)
        await damage_blob("s", digest)
        assert await refusal(blob_store.load_blobs("s", [digest])) is CheckpointCorruptError
        loaded = await blob_store.load("s")
        assert loaded is not None
        assert loaded.checkpoint_id == "b"
        assert any(finding.is_damage for finding in await blob_store.check())
        assert (await blob_store.recover("s")).newest_valid_id == "a"
        assert await blob_store.ids("s") == ("a",)
        assert await blob_store.load_blobs("s", by_digest(b"1" * 99)) == by_digest(b"1" * 99)
        assert await blob_store.check() == ()

    async def test_what_leads_to_a_damaged_blob_can_be_deleted(
        self, blob_store: Blobs, damage_blob: Damage
    ) -> None:
        """As any other; with the last of them the blob goes."""
        (digest,) = given = by_digest(b"1" * 99)
        for key in "ab":
            await blob_store.save(large(key, b"1" * 99), blobs=given)
        await damage_blob("s", digest)
        assert await blob_store.delete("s", "b")
        assert await refusal(blob_store.load_blobs("s", given)) is CheckpointCorruptError
        assert await blob_store.delete("s", "a")
        assert await refusal(blob_store.load_blobs("s", given)) is MissingBlobError
        assert await blob_store.check() == ()

    async def test_a_blob_that_is_given_again_is_whole_again(
        self, blob_store: Blobs, damage_blob: Damage
    ) -> None:
        """Once a read has told of the damage, a save that gives the blob mends what is there."""
        given = by_digest(b"1" * 99)
        await blob_store.save(large("a", b"1" * 99), blobs=given)
        (digest,) = given
        for key in "bc":
            await damage_blob("s", digest)
            assert await refusal(blob_store.load_blobs("s", given)) is CheckpointCorruptError
            await blob_store.save(large(key, b"1" * 99), blobs=given)
            assert await blob_store.load_blobs("s", given) == given
        assert await blob_store.check() == ()

    async def test_the_same_blob_of_another_session_stays(
        self, blob_store: Blobs, damage_blob: Damage
    ) -> None:
        """One digest in several sessions is several blobs: one is damaged, and one put aside."""
        blob = b"1" * 99
        (digest,) = by_digest(blob)
        for session_id in "rst":
            data = large("a", blob, session_id=session_id)
            await blob_store.save(data, blobs=by_digest(blob))
        await damage_blob("s", digest)
        assert await refusal(blob_store.load_blobs("s", [digest])) is CheckpointCorruptError
        assert {finding.session_id for finding in await blob_store.check()} == {"s"}
        for session_id, newest_id in (("r", "a"), ("s", None), ("t", "a")):
            report = await blob_store.recover(session_id)
            assert report.newest_valid_id == newest_id
            assert bool(report.quarantined) is (session_id == "s")
        assert await blob_store.ids("s") == ()
        assert await refusal(blob_store.load_blobs("s", [digest])) is MissingBlobError
        for session_id in "rt":
            assert await blob_store.load_blobs(session_id, [digest]) == by_digest(blob)
        assert await blob_store.check() == ()
        await blob_store.save(large("b", blob), blobs=by_digest(blob))
        assert await blob_store.load_blobs("s", [digest]) == by_digest(blob)

    async def test_a_blob_that_something_intact_leads_to_stays(
        self, blob_store: Blobs, damage_blob: Damage
    ) -> None:
        """What `recover` puts aside takes no blob with it that another record needs."""
        await blob_store.save(large("a", b"1" * 99), blobs=by_digest(b"1" * 99))
        await blob_store.save(large("b", b"1" * 99, b"2" * 99), blobs=by_digest(b"2" * 99))
        (digest,) = by_digest(b"2" * 99)
        await damage_blob("s", digest)
        assert (await blob_store.recover("s")).newest_valid_id == "a"
        assert await blob_store.ids("s") == ("a",)
        assert await blob_store.load_blobs("s", by_digest(b"1" * 99)) == by_digest(b"1" * 99)
        assert await blob_store.check() == ()

    async def test_a_damaged_blob_is_not_copied(
        self, blob_store: Blobs, damage_blob: Damage
    ) -> None:
        """The copy of its session raises, and what it may have copied before is intact."""
        for key in (b"1" * 99, b"2" * 99):
            await blob_store.save(large(f"{key[:1]!r}", key), blobs=by_digest(key))
        (digest,) = by_digest(b"2" * 99)
        await damage_blob("s", digest)
        assert await refusal(blob_store.copy_session("s", "t")) is CheckpointCorruptError
        for record in await blob_store.load_many("t", await blob_store.ids("t")):
            assert await blob_store.load_blobs("t", record.blob_digests) == by_digest(b"1" * 99)
        assert {finding.session_id for finding in await blob_store.check()} == {"s"}
