"""What every store does with blobs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import ClassVar

from aiocheckpoint._format.blobs import BlobNode
from aiocheckpoint.errors import (
    CheckpointEncodeError,
    InvalidArgumentError,
    MissingBlobError,
    UnsupportedOperationError,
    WriterClosedError,
)
from aiocheckpoint.kit import blob_digest, blob_links
from aiocheckpoint.store import SessionReader, Transaction
from aiocheckpoint.testing.contract.records import (
    Blobs,
    LargeValue,
    by_digest,
    large,
    listed_ids,
    refusal,
)

_BRANCH = BlobNode([blob_digest(b"1"), blob_digest(b"2"), blob_digest(b"1")], b"branch")
_IN_BRANCH = (_BRANCH, b"1", b"2")
_TREE = BlobNode([blob_digest(_BRANCH), blob_digest(b"3")], b"tree")
_IN_TREE = (_TREE, *_IN_BRANCH, b"3")


class BlobStoreContract:
    """
    What every `CheckpointStore` must do about blobs; subclass it beside the other contract.

    The subclass gives a fixture `blob_store`: an empty store of `LargeValue`. One whose queries
    give fewer blobs at once says so by `blobs_of_a_page`, for a test that is the quicker for it.
    """

    blobs_of_a_page: ClassVar[int] = 500

    async def test_blobs_come_back(self, blob_store: Blobs) -> None:
        """A record and its blobs come back byte for byte, an empty blob too."""
        blobs = (b"", b"\0\xff" * 5000, b"x")
        data = large("a", *blobs)
        await blob_store.save(data, blobs=by_digest(*blobs))
        assert await blob_store.load("s") == data
        loaded = await blob_store.load_blobs("s", data.blob_digests)
        assert loaded == by_digest(*blobs)

    async def test_what_is_stored_need_not_be_given(self, blob_store: Blobs) -> None:
        """A later record may name a blob of an earlier one; of another session it may not."""
        await blob_store.save(large("a", b"one"), blobs=by_digest(b"one"))
        second = large("b", b"one", b"two")
        await blob_store.save(second, blobs=by_digest(b"two"))
        assert len(await blob_store.load_blobs("s", second.blob_digests)) == 2
        other = large("b", b"one", session_id="t")
        assert await refusal(blob_store.save(other)) is MissingBlobError

    async def test_a_record_without_its_blobs_is_refused(self, blob_store: Blobs) -> None:
        """A save that names a blob nobody has changes nothing, nor does one of a false name.

        One that nothing names would be lost, and is refused as well.
        """
        await blob_store.save(large("a", b"one"), blobs=by_digest(b"one"))
        data = large("a", b"one", b"two")
        assert await refusal(blob_store.save(data)) is MissingBlobError
        false = {blob_digest(b"two"): b"three"}
        assert await refusal(blob_store.save(data, blobs=false)) is CheckpointEncodeError
        unnamed = by_digest(b"one", b"three")
        assert await refusal(blob_store.save(large("a", b"one"), blobs=unnamed)) is (
            InvalidArgumentError
        )
        twice = large("a", b"one", b"one")
        assert await refusal(blob_store.save(twice)) is CheckpointEncodeError
        assert await blob_store.load("s") == _large_like(await blob_store.load("s"), b"one")
        assert await refusal(blob_store.load_blobs("s", false)) is MissingBlobError

    async def test_blobs_go_with_the_last_record_that_names_them(self, blob_store: Blobs) -> None:
        """Delete and replacement remove the blobs that nothing names any more, no others."""
        await blob_store.save(large("a", b"1", b"2"), blobs=by_digest(b"1", b"2"))
        await blob_store.save(large("b", b"2", b"3"), blobs=by_digest(b"3"))
        await blob_store.delete("s", "a")
        assert await refusal(blob_store.load_blobs("s", by_digest(b"1"))) is MissingBlobError
        assert len(await blob_store.load_blobs("s", by_digest(b"2", b"3"))) == 2
        for _ in range(2):  # the second replaces one that names the same
            await blob_store.save(large("b", b"3"))
        assert await refusal(blob_store.load_blobs("s", by_digest(b"2"))) is MissingBlobError
        assert await blob_store.delete_many("s", ["b"]) == 1
        assert await refusal(blob_store.load_blobs("s", by_digest(b"3"))) is MissingBlobError
        await blob_store.save(large("a", b"1", b"3"), blobs=by_digest(b"1", b"3"))
        assert len(await blob_store.load_blobs("s", by_digest(b"1", b"3"))) == 2

    async def test_blobs_go_and_are_copied_with_their_session(self, blob_store: Blobs) -> None:
        """A copied session has blobs of its own; they stay when the source is deleted."""
        await blob_store.save(large("a", b"1", b"2"), blobs=by_digest(b"1", b"2"))
        assert await blob_store.copy_session("s", "t") == 1
        assert await blob_store.delete_session("s")
        assert await refusal(blob_store.load_blobs("s", by_digest(b"1"))) is MissingBlobError
        assert len(await blob_store.load_blobs("t", by_digest(b"1", b"2"))) == 2

    async def test_what_a_record_leads_to_comes_back(self, blob_store: Blobs) -> None:
        """A node comes back as a node; what it names need not be named by the record."""
        await blob_store.save(large("a", _TREE), blobs=by_digest(*_IN_TREE))
        (found,) = (await blob_store.load_blobs("s", [blob_digest(_TREE)])).values()
        assert isinstance(found, BlobNode)
        assert (found, blob_links(found)) == (_TREE, _TREE.links)
        assert await blob_store.load_blobs("s", by_digest(*_IN_TREE)) == by_digest(*_IN_TREE)
        assert await blob_store.check() == ()

    async def test_a_record_that_leads_to_a_missing_blob_is_refused(
        self, blob_store: Blobs
    ) -> None:
        """However far below, given or stored counts; so do bytes that only look like a node."""
        await blob_store.save(large("other", b"1"), blobs=by_digest(b"1"))
        given = by_digest(*_IN_TREE[:-1])
        assert await refusal(blob_store.save(large("a", _TREE), blobs=given)) is MissingBlobError
        false = {blob_digest(_TREE): bytes(_TREE)} | by_digest(*_IN_TREE[1:])
        told = await refusal(blob_store.save(large("a", _TREE), blobs=false))
        assert told is CheckpointEncodeError
        more = by_digest(*_IN_TREE, b"nobody names this")
        told = await refusal(blob_store.save(large("a", _TREE), blobs=more))
        assert told is InvalidArgumentError
        assert await blob_store.ids("s") == ("other",)
        await blob_store.save(large("a", _TREE), blobs=given | by_digest(_IN_TREE[-1]))
        await blob_store.save(large("b", _BRANCH))
        assert len(await blob_store.load_blobs("s", by_digest(*_IN_TREE))) == len(_IN_TREE)

    async def test_blobs_stay_while_a_record_leads_to_them(self, blob_store: Blobs) -> None:
        """And go with the last one that does, in a copied session by itself."""
        await blob_store.save(large("a", _TREE), blobs=by_digest(*_IN_TREE))
        above = BlobNode([blob_digest(_BRANCH)], b"above")
        await blob_store.save(large("b", above), blobs=by_digest(above))
        await blob_store.delete("s", "a")
        assert len(await blob_store.load_blobs("s", by_digest(above, *_IN_BRANCH))) == 4
        for gone in (_TREE, _IN_TREE[-1]):
            assert await refusal(blob_store.load_blobs("s", by_digest(gone))) is MissingBlobError
        assert await blob_store.copy_session("s", "t") == 1
        assert await blob_store.delete("s", "b")
        for gone in (above, *_IN_BRANCH):
            assert await refusal(blob_store.load_blobs("s", by_digest(gone))) is MissingBlobError
        assert len(await blob_store.load_blobs("t", by_digest(above, *_IN_BRANCH))) == 4
        assert await blob_store.check() == ()

    async def test_saves_that_share_blobs_run_side_by_side(self, blob_store: Blobs) -> None:
        """Concurrent saves and deletes never leave a record without its blobs."""

        async def live(task: int) -> None:
            for step in range(6):
                blobs = [f"{step // 2}".encode(), f"{step % 3}".encode() * 3]
                data = large(f"{task}-{step}", *blobs)
                await blob_store.save(data, blobs=by_digest(*blobs))
                assert len(await blob_store.load_blobs("s", data.blob_digests)) == 2
                if step % 2:
                    await blob_store.delete("s", data.checkpoint_id)

        await asyncio.gather(*(live(task) for task in range(8)))
        for record in await blob_store.load_many("s", await blob_store.ids("s")):
            assert len(await blob_store.load_blobs("s", record.blob_digests)) == 2

    async def test_no_page_of_blobs_is_left_out(self, blob_store: Blobs) -> None:
        """However many a record names, each is stored, read, copied and deleted with it."""
        blobs = [f"{number}".encode() for number in range(self.blobs_of_a_page + 2)]
        given = by_digest(*blobs)
        await blob_store.save(large("a", *blobs), blobs=given)
        assert await blob_store.load_blobs("s", given) == given
        assert await blob_store.copy_session("s", "t") == 1
        assert await blob_store.load_blobs("t", given) == given
        await blob_store.save(large("b", blobs[-1]))
        assert await blob_store.delete("s", "a")
        assert await blob_store.load_blobs("s", by_digest(blobs[-1])) == by_digest(blobs[-1])
        for gone in (blobs[0], blobs[-2]):
            assert await refusal(blob_store.load_blobs("s", by_digest(gone))) is MissingBlobError

    async def test_a_read_finds_blobs_by_their_record(self, blob_store: Blobs) -> None:
        """Work that has read a record goes on with its blobs."""
        await blob_store.save(large("a", b"1", b"2"), blobs=by_digest(b"1", b"2"))

        async def work(session: SessionReader[LargeValue]) -> dict[str, bytes]:
            newest = await session.load()
            return {} if newest is None else await session.load_blobs(newest.blob_digests)

        assert await blob_store.read("s", work) == by_digest(b"1", b"2")
        assert await blob_store.read("nobody", work) == {}
        missing = blob_store.read("nobody", lambda session: session.load_blobs(by_digest(b"1")))
        assert await refusal(missing) is MissingBlobError


def _large_like(record: LargeValue | None, *blobs: bytes) -> LargeValue:
    assert record is not None
    data = large(record.checkpoint_id, *blobs)
    data.created_at = record.created_at
    return data


class BlobUpdateContract:
    """
    What `update` does with blobs; for a `BlobStore` of `LargeValue`.

    The subclass gives a fixture `blob_store`: an empty store.
    """

    async def test_blobs_are_staged_with_their_records(self, blob_store: Blobs) -> None:
        """They are stored with them, read as they were, and go with the last that names them."""
        await blob_store.save(large("a", b"1", b"2"), blobs=by_digest(b"1", b"2"))

        async def work(session: Transaction[LargeValue]) -> dict[str, bytes]:
            session.save(large("b", b"2", b"3"), blobs=by_digest(b"3"))
            session.save(large("c", b"3"))
            session.delete("a")
            return await session.load_blobs(by_digest(b"1"))

        assert await blob_store.update("s", work) == by_digest(b"1")
        assert await listed_ids(blob_store, "s") == ["c", "b"]
        found = await blob_store.load_blobs("s", by_digest(b"2", b"3"))
        assert found == by_digest(b"2", b"3")
        assert await refusal(blob_store.load_blobs("s", by_digest(b"1"))) is not None

    async def test_an_update_that_is_over_reads_no_blobs(self, blob_store: Blobs) -> None:
        """They would be a part of no step."""
        kept: list[Transaction[LargeValue]] = []

        async def work(session: Transaction[LargeValue]) -> None:
            kept.append(session)

        await blob_store.update("s", work)
        assert await refusal(kept[0].load_blobs([])) is WriterClosedError

    async def test_a_record_without_its_blobs_spoils_all(self, blob_store: Blobs) -> None:
        """One that names a blob nobody has is refused, and nothing of the update is stored."""

        async def work(session: Transaction[LargeValue]) -> None:
            session.save(large("a", b"1"), blobs=by_digest(b"1"))
            session.save(large("b", b"2"))

        assert await refusal(blob_store.update("s", work)) is not None
        assert await blob_store.list("s") == ()

    async def test_a_missing_blob_spoils_all_sessions(self, blob_store: Blobs) -> None:
        """Of an update of several, one of which names a blob nobody has, nothing is stored."""

        async def work(sessions: Mapping[str, Transaction[LargeValue]]) -> None:
            for session_id, session in sessions.items():
                given = by_digest(b"1") if session_id != "t" else {}
                session.save(large("a", b"1", session_id=session_id), blobs=given)

        told = await refusal(blob_store.update_many(["s", "t", "u"], work))
        assert told in {MissingBlobError, UnsupportedOperationError}
        for session_id in "stu":
            assert await blob_store.list(session_id) == (), f"{session_id!r} was changed"

    async def test_a_blob_of_what_goes_may_be_named_again(self, blob_store: Blobs) -> None:
        """What the session had before counts, in whatever order things are staged."""
        await blob_store.save(large("a", b"1", b"2"), blobs=by_digest(b"1", b"2"))

        async def delete(session: Transaction[LargeValue]) -> None:
            session.delete("a")
            session.save(large("b", b"1", b"3"), blobs=by_digest(b"3"))

        async def replace(session: Transaction[LargeValue]) -> None:
            session.save(large("b"))
            session.save(large("c", b"3"))

        async def begin_anew(session: Transaction[LargeValue]) -> None:
            session.delete_session()
            session.save(large("d", b"3"))

        for work, checkpoint_ids, there, gone in (
            (delete, ["b"], (b"1", b"3"), b"2"),
            (replace, ["c", "b"], (b"3",), b"1"),
            (begin_anew, ["d"], (b"3",), b"4"),
        ):
            await blob_store.update("s", work)
            assert await listed_ids(blob_store, "s") == checkpoint_ids
            assert await blob_store.load_blobs("s", by_digest(*there)) == by_digest(*there)
            assert await refusal(blob_store.load_blobs("s", by_digest(gone))) is MissingBlobError
        await blob_store.delete("s", "d")
        assert await refusal(blob_store.load_blobs("s", by_digest(b"3"))) is MissingBlobError
        assert await blob_store.check() == ()

    async def test_a_blob_is_given_once_for_all_of_an_update(self, blob_store: Blobs) -> None:
        """With whichever save, even one that is not the last word on its id."""

        async def work(session: Transaction[LargeValue]) -> None:
            session.save(large("early", b"1", b"2"))
            session.save(large("a", b"1", b"gone"), blobs=by_digest(b"1", b"gone"))
            session.save(large("b", b"2"), blobs=by_digest(b"2"))
            session.save(large("a"))
            session.delete("b")

        await blob_store.update("s", work)
        assert await listed_ids(blob_store, "s") == ["a", "early"]
        assert await blob_store.load_blobs("s", by_digest(b"1", b"2")) == by_digest(b"1", b"2")
        assert await refusal(blob_store.load_blobs("s", by_digest(b"gone"))) is MissingBlobError
        assert await blob_store.check() == ()
