"""What two clients of one storage see of each other."""

from __future__ import annotations

import asyncio

from aiocheckpoint.errors import (
    MissingBlobError,
    OwnershipLostError,
    SessionChangedError,
    SessionOwnedError,
)
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
from aiocheckpoint.testing.contract.work import (
    StopError,
    ended,
    owned_at_once,
)


class SharingContract:
    """
    What two clients of one storage see of each other; for `CheckpointStore`s of `CheckpointData`.

    The subclass gives two fixtures: `store`, an empty one, and `other`, a second client of what it
    stores, as another process would have.
    """

    async def test_what_was_saved_is_seen_at_once(self, store: Store, other: Store) -> None:
        """What one client was told is stored, the other sees from then on, in every way."""
        assert await other.load("s") is None
        for number in range(4):
            saver, reader = (store, other) if number % 2 else (other, store)
            data = checkpoint("s", number, checkpoint_id=f"c{9 - number}")
            await saver.save(data)
            assert await reader.load("s") == data
            assert await reader.load("s", data.checkpoint_id) == data
            assert len(await reader.ids("s")) == number + 1
        assert await listed_ids(store, "s") == await listed_ids(other, "s")
        assert await listed_ids(store, "s") == ["c6", "c7", "c8", "c9"]
        assert await store.list("s") == await other.list("s")
        assert await sessions_of(other) == ["s"]

    async def test_a_delete_is_final_whoever_saved(self, store: Store, other: Store) -> None:
        """What one client deleted or replaced, the other has no more, and cannot bring back."""
        for key in "abc":
            await store.save(checkpoint("s", checkpoint_id=key))
        assert await other.load("s", "c") is not None
        assert await other.delete("s", "c")
        assert await store.load("s", "c") is None
        assert not await store.delete("s", "c")
        replaced = checkpoint("s", 7, checkpoint_id="a")
        await other.save(replaced)
        assert await store.load("s") == replaced
        assert await listed_ids(store, "s") == ["a", "b"]
        assert await store.delete_session("s")
        assert await other.load("s") is None
        assert await sessions_of(other) == []
        assert not await other.delete_session("s")

    async def test_a_condition_is_about_what_all_have_saved(
        self, store: Store, other: Store
    ) -> None:
        """A save that expects what is not the newest any more is refused, whoever saved since."""
        await store.save(checkpoint("s", checkpoint_id="a"), expected=None)
        await other.save(checkpoint("s", checkpoint_id="b"), expected="a")
        for expected in (None, "a"):
            told = await error_of(store.save(checkpoint("s"), expected=expected))
            assert isinstance(told, SessionChangedError)
            assert told.newest_id == "b"
        await store.save(checkpoint("s", checkpoint_id="c"), expected="b")
        assert await listed_ids(other, "s") == ["c", "b", "a"]

    async def test_of_racing_clients_one_begins_the_session(
        self, store: Store, other: Store
    ) -> None:
        """Of saves that race for an empty session, each expecting it empty, one succeeds."""
        saves = [
            client.save(checkpoint("s", checkpoint_id=f"{number}"), expected=None)
            for number, client in enumerate((store, other, store, other))
        ]
        answers = await asyncio.gather(*saves, return_exceptions=True)
        stored, *others = await store.ids("s")
        assert others == []
        assert answers.count(stored) == 1
        refused = [answer for answer in answers if isinstance(answer, SessionChangedError)]
        assert [error.newest_id for error in refused] == [stored] * 3

    async def test_racing_saves_have_one_order(self, store: Store, other: Store) -> None:
        """No save of two clients is lost; both see one order, which keeps that of each."""
        clients = {"x": store, "y": other}
        await asyncio.gather(
            *(
                client.save(checkpoint("s", number, checkpoint_id=f"{name}{number}"))
                for number in range(10)
                for name, client in clients.items()
            )
        )
        order = (await listed_ids(store, "s"))[::-1]
        assert order == (await listed_ids(other, "s"))[::-1]
        for name in clients:
            own = [key for key in order if key.startswith(name)]
            assert own == [f"{name}{number}" for number in range(10)]
        times = [meta.saved_at for meta in await other.list("s")]
        assert times == sorted(set(times), reverse=True)

    async def test_one_client_closes_and_the_other_goes_on(
        self, store: Store, other: Store
    ) -> None:
        """What a closed client saved stays, and the other one saves after it."""
        await store.save(checkpoint("s", checkpoint_id="a"))
        await store.aclose()
        await other.save(checkpoint("s", checkpoint_id="b"), expected="a")
        assert await listed_ids(other, "s") == ["b", "a"]

    async def test_a_read_begins_with_what_others_have_stored(
        self, store: Store, other: Store
    ) -> None:
        """What another client was told is stored or gone, every `read` from then on sees so."""
        for number in range(3):
            await other.save(checkpoint("s", number, checkpoint_id=f"{number}"))
            assert (await store.read("s", lambda session: session.saved_ids()))[0] == f"{number}"
            newest = await store.read("s", lambda session: session.load())
            assert newest is not None
            assert newest.iteration == number
        await other.delete("s", "2")
        assert await store.read("s", lambda session: session.saved_ids()) == ("1", "0")
        await other.delete_session("s")
        assert await store.read("s", lambda session: session.load()) is None


class BlobSharingContract:
    """
    The same about blobs; for `BlobStore`s of `LargeValue`.

    The subclass gives `blob_store`, an empty one, and `other_blob_store`, a second client of it.
    """

    async def test_blobs_are_shared(self, blob_store: Blobs, other_blob_store: Blobs) -> None:
        """A record may name a blob that the other client stored, while some record names it."""
        await blob_store.save(large("a", b"1", b"2"), blobs=by_digest(b"1", b"2"))
        await other_blob_store.save(large("b", b"1"))
        assert await other_blob_store.load_blobs("s", by_digest(b"2")) == by_digest(b"2")
        await other_blob_store.delete("s", "a")
        assert await refusal(blob_store.save(large("c", b"2"))) is MissingBlobError
        assert await refusal(blob_store.load_blobs("s", by_digest(b"2"))) is MissingBlobError
        assert await blob_store.load_blobs("s", by_digest(b"1")) == by_digest(b"1")

    async def test_no_race_takes_a_blob_from_a_record(
        self, blob_store: Blobs, other_blob_store: Blobs
    ) -> None:
        """While one client deletes and another saves, every record has its blobs."""

        async def live(client: Blobs, name: str) -> None:
            for step in range(8):
                blob = f"{step % 3}".encode() * 3000
                data = large(f"{name}{step}", blob)
                await client.save(data, blobs=by_digest(blob))
                assert await client.load_blobs("s", data.blob_digests) == by_digest(blob)
                await client.delete("s", f"{name}{step - 1}")

        await asyncio.gather(live(blob_store, "x"), live(other_blob_store, "y"))
        for client in (blob_store, other_blob_store):
            for record in await client.load_many("s", await client.ids("s")):
                assert len(await client.load_blobs("s", record.blob_digests)) == 1
        assert await blob_store.ids("s") == ("y7", "x7")


class SharedOwnershipContract:
    """
    What `own` does beside a second client; for `CheckpointStore`s of `CheckpointData`.

    The subclass gives `store` and `other`, as `SharingContract` says.
    """

    async def test_a_session_has_one_owner_of_all(self, store: Store, other: Store) -> None:
        """What one client owns, the other does not, until it is given up; tokens go on growing."""
        async with store.own("s") as first:
            assert isinstance(await error_of(owned_at_once(other, "s")), SessionOwnedError)
        async with other.own("s") as second:
            assert second.token > first.token
            assert isinstance(await error_of(owned_at_once(store, "s")), SessionOwnedError)
            assert await refusal(first.save(checkpoint("s"))) is OwnershipLostError
            await second.save(checkpoint("s"))
        assert len(await store.list("s")) == 1

    async def test_an_owner_outlives_what_it_owned(self, store: Store, other: Store) -> None:
        """Whoever deletes the session takes it from nobody: its owner writes on, and no other."""
        async with store.own("s") as first:
            for deleting in (store, other):
                await first.save(checkpoint("s", checkpoint_id="a"))
                assert await deleting.delete_session("s")
                assert isinstance(await error_of(owned_at_once(other, "s")), SessionOwnedError)
            await first.save(checkpoint("s", checkpoint_id="b"), expected=None)
        await store.delete_session("s")
        async with other.own("s") as second:
            assert second.token > first.token
            assert await refusal(first.save(checkpoint("s"))) is OwnershipLostError
        assert await store.list("s") == ()

    async def test_the_other_waits_for_it(self, store: Store, other: Store) -> None:
        """A client that waits has the session when the owner gives it up."""
        order: list[str] = []

        async def wait() -> None:
            async with other.own("s"):
                order.append("second")

        async with store.own("s"):
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0)
            order.append("first")
        await waiting
        assert order == ["first", "second"]

    async def test_what_a_cancelled_owner_had_is_free(self, store: Store, other: Store) -> None:
        """However its block ends, and however often it is cancelled, another client has it then."""
        never = asyncio.Event()

        async def hold(entered: asyncio.Event, ending: type[Exception] | None) -> None:
            async with store.own("s"):
                entered.set()
                if ending is not None:
                    raise ending
                await never.wait()

        for ending, again in ((StopError, False), (None, False), (None, True)):
            entered = asyncio.Event()
            holder = asyncio.create_task(hold(entered, ending))
            await entered.wait()
            await ended(holder, again=again)
            async with asyncio.timeout(30):
                await owned_at_once(other, "s")
        await owned_at_once(store, "s")

    async def test_who_is_cancelled_on_entry_owns_nothing(self, store: Store, other: Store) -> None:
        """Whenever that is: it has given back what it may have got."""

        async def hold() -> None:
            async with store.own("s"):
                await asyncio.Event().wait()

        for moments in (0, 1, 3, 8):
            holder = asyncio.create_task(hold())
            for _ in range(moments):
                await asyncio.sleep(0)
            await ended(holder, again=bool(moments % 2))
            await owned_at_once(other, "s")
