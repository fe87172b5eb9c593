"""`copy_store` and raw records: everything from one store to another, as it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobNode,
    BlobRecord,
    CheckpointCorruptError,
    CheckpointData,
    CheckpointEncodeError,
    CheckpointRecord,
    CopyError,
    CopyTotals,
    InvalidArgumentError,
    RawRecord,
    RecordTypeError,
    StoreUnavailableError,
    blob_digest,
    copy_store,
)
from aiocheckpoint.cli import main
from aiocheckpoint.testing import MemoryStore
from tests.conftest import MakeWriter


class Game(BlobRecord):
    level: int = 0


def raw(store: MemoryStore[Any]) -> MemoryStore[RawRecord]:
    return MemoryStore(RawRecord, beside=store)


async def filled(sessions: int = 3) -> MemoryStore[CheckpointData]:
    """Return a store with sessions of several checkpoints of two types, and blobs."""
    store = MemoryStore()
    games = MemoryStore(Game, beside=store)
    leaf, other = b"leaf" * 99, b"other" * 99
    tree = BlobNode([blob_digest(leaf), blob_digest(other)], b"tree")
    for number in range(sessions):
        for key in ("c", "a", "b"):
            data = CheckpointData(session_id=f"s {number}", checkpoint_id=key, cost_estimate=1e16)
            await store.save(data)
        for key, blobs in {"y": (tree, leaf, other), "x": (tree,)}.items():
            given = {blob_digest(blob): blob for blob in blobs}
            game = Game(
                session_id=f"s {number}", checkpoint_id=key, level=7,
                blob_digests=(blob_digest(tree),),
            )  # fmt: skip
            await games.save(game, blobs=given)
    return store


async def state(store: MemoryStore[Any] | AsyncCheckpointWriter[Any]) -> dict[str, Any]:
    """Return all that a store has: ids, checksums, documents and blobs, in order."""
    found: dict[str, Any] = {}
    async for session_id in store.sessions():
        metas = await store.list(session_id)
        records = await store.load_many(session_id, [meta.checkpoint_id for meta in metas])
        digests = {digest for record in records for digest in record.blob_digests}
        found[session_id] = (
            [(meta.checkpoint_id, meta.checksum) for meta in metas],
            [record.document for record in records],
            await store.load_blobs(session_id, digests),
        )
    return found


class TestCopy:
    async def test_everything_is_copied_as_it_is(self) -> None:
        """Sessions, order, documents of any type, checksums and blobs are those of the source."""
        source = raw(await filled())
        target = MemoryStore(RawRecord)
        totals = await copy_store(source, target)
        assert (totals.sessions, totals.checkpoints, totals.skipped, totals.blobs) == (3, 15, 0, 9)
        assert totals.bytes > 0
        assert await state(target) == await state(source)
        assert await target.check() == ()
        games = MemoryStore(Game, beside=target)
        game = await games.load("s 0", "x")
        assert game is not None
        assert game.level == 7

    async def test_between_memory_and_a_directory(self, make_writer: MakeWriter) -> None:
        """Any store is a source and a target; there and back nothing has changed."""
        source = raw(await filled())
        directory = make_writer(record_type=RawRecord)
        back = MemoryStore(RawRecord)
        await copy_store(source, directory)
        assert await state(directory) == await state(source)
        await copy_store(directory, back)
        assert await state(back) == await state(source)

    async def test_a_store_without_blobs_takes_what_has_none(self) -> None:
        """Of its blobs a target is asked only where there are any."""

        class Plain(MemoryStore[RawRecord]):
            load_blobs: Any = None

        source = MemoryStore()
        for key in "ab":
            await source.save(CheckpointData(session_id="s", checkpoint_id=key))
        target, back = Plain(RawRecord), MemoryStore(RawRecord)
        assert (await copy_store(raw(source), target)).checkpoints == 2
        assert (await copy_store(target, back)).checkpoints == 2
        assert await state(back) == await state(raw(source))

    async def test_a_copy_made_again_continues(self) -> None:
        """What is there is skipped, what is new is copied; a second time there is nothing to do."""
        store = await filled()
        source, target = raw(store), MemoryStore(RawRecord)
        await copy_store(source, target)
        await store.save(CheckpointData(session_id="s 1", checkpoint_id="new"))
        await store.save(CheckpointData(session_id="another", checkpoint_id="new"))
        totals = await copy_store(source, target)
        assert (totals.checkpoints, totals.skipped) == (2, 15)
        assert await state(target) == await state(source)
        assert (await copy_store(source, target)).checkpoints == 0

    @pytest.mark.parametrize("is_removed", [True, False])
    async def test_what_the_target_has_lost_is_given_again(
        self, is_removed: bool, make_writer: MakeWriter, root: Path
    ) -> None:
        """A blob that is missing or damaged there, and that what is new leads to."""
        source = MemoryStore(Game)
        blob = {blob_digest(b"picture"): b"picture"}
        path = root / "s" / "blobs" / blob_digest(b"picture")
        for key in "ab":
            game = Game(session_id="s", checkpoint_id=key, blob_digests=(*blob,))
            await source.save(game, blobs=blob)
            if key == "b":
                harm = path.unlink if is_removed else lambda: path.write_bytes(b"x")
                await asyncio.to_thread(harm)
            async with make_writer(record_type=RawRecord) as writer:
                totals = await copy_store(raw(source), writer)
                assert await writer.load_blobs("s", blob) == blob
        assert (totals.checkpoints, totals.skipped) == (2, 0)

    async def test_damage_in_the_target_is_told_as_such(self) -> None:
        """By the session, and that it is in the target, before anything of that is changed."""
        source, target = await filled(1), MemoryStore(RawRecord)
        await copy_store(raw(source), target)
        target.damage("s 0", "a")
        await source.save(CheckpointData(session_id="s 0", checkpoint_id="z"))
        with pytest.raises(CopyError, match="'a' cannot be read in the target"):
            await copy_store(raw(source), target)
        assert "z" not in await target.ids("s 0")

    async def test_a_target_with_a_bound_is_refused(self) -> None:
        """It would drop what was just copied, and be called damaged for that; nothing is copied."""
        target = MemoryStore(RawRecord, max_checkpoints=2)
        with pytest.raises(InvalidArgumentError, match="target"):
            await copy_store(raw(await filled()), target)
        assert not await target.exists()

    async def test_an_interrupted_copy_is_completed(self) -> None:
        """Wherever it is stopped, what is there is a beginning, and a copy made again ends it."""
        source = raw(await filled(sessions=2))
        whole = await state(source)

        class Stops(MemoryStore[RawRecord]):
            async def update(self, session_id: str, work: Any, /) -> Any:
                if self.left == 0:
                    raise StoreUnavailableError("memory:///", "save", "it is gone")
                self.left -= 1
                return await super().update(session_id, work)

            left = 0

        target = Stops(RawRecord)
        for allowed in range(1, 5):
            target.left = 1
            with pytest.raises(StoreUnavailableError):
                await copy_store(source, target)
            assert sum(len(ids) for ids, _, _ in (await state(target)).values()) >= allowed
            for session_id, (ids, _, _) in (await state(target)).items():
                assert ids == whole[session_id][0][-len(ids) :]
        target.left = 99
        totals = await copy_store(source, target)
        assert totals.skipped >= 4
        assert await state(target) == whole

    async def test_progress_is_told(self) -> None:
        """The totals grow with each part, up to those that are returned."""
        told: list[CopyTotals] = []
        target = MemoryStore(RawRecord)
        totals = await copy_store(raw(await filled()), target, on_progress=told.append)
        assert told[-1] == totals
        assert told == sorted(
            told, key=lambda each: (each.checkpoints, each.skipped, each.sessions)
        )
        assert len(told) > 5

    async def test_what_the_target_has_of_its_own_is_not_touched(self) -> None:
        """A session that holds something else is refused by name; the others are copied."""
        store = await filled()
        target = MemoryStore(RawRecord)
        theirs = CheckpointData(session_id="s 1", checkpoint_id="theirs")
        await MemoryStore(beside=target).save(theirs)
        with pytest.raises(CopyError) as refused:
            await copy_store(raw(store), target)
        assert (refused.value.session_id, refused.value.checkpoint_id) == ("s 1", "theirs")
        assert await target.ids("s 1") == ("theirs",)
        assert len(await target.list("s 0")) == len(await target.list("s 2")) == 5

    @pytest.mark.parametrize(
        ("source_ids", "target_ids", "named", "reason"),
        [
            ("ab", "abcd", "c", "ahead"),  # the direction is wrong, or the target has gone on
            ("abd", "abc", "c", "not in the source"),
            ("bc", "ab", "a", "not in the source"),  # pruned between two copies
            ("aBc", "abc", "b", "differs in the two"),  # B: the id b with other content
            ("ba", "ab", "a", "another place"),  # saved again between two copies
        ],
    )
    async def test_what_is_refused_is_told_as_it_is(
        self, source_ids: str, target_ids: str, named: str, reason: str
    ) -> None:
        """The error says in what the two differ; it never tells to delete what may be newer."""
        stores = MemoryStore(), MemoryStore()
        for store, ids in zip(stores, (source_ids, target_ids), strict=True):
            for key in ids:
                data = CheckpointData(
                    session_id="s", checkpoint_id=key.lower(), iteration=int(key.isupper()),
                    created_at=datetime(2026, 1, 1, tzinfo=UTC),
                )  # fmt: skip
                await store.save(data)
        source, target = map(raw, stores)
        before = await state(target)
        with pytest.raises(CopyError, match=reason) as refused:
            await copy_store(source, target)
        assert refused.value.checkpoint_id == named
        assert await state(target) == before
        assert "delete the" not in str(refused.value)
        assert ("nothing is to be copied" in str(refused.value)) == (reason == "ahead")
        assert ("compare the two" in str(refused.value)) == (reason != "ahead")

    async def test_what_only_the_target_has_is_counted(self) -> None:
        """A session that the source has deleted since is left, and counted, in the totals too."""
        store, told = await filled(), list[CopyTotals]()
        source, target = raw(store), MemoryStore(RawRecord)
        assert (await copy_store(source, target)).only_in_target == 0
        for session_id in ("s 0", "s 2"):
            await store.delete_session(session_id)
        totals = await copy_store(source, target, on_progress=told.append)
        assert (totals.sessions, totals.skipped, totals.only_in_target) == (1, 5, 2)
        assert told[-1] == totals
        assert {key async for key in target.sessions()} == {"s 0", "s 1", "s 2"}

    async def test_damage_is_not_copied(self) -> None:
        """A session with damage is copied up to it, and all others; the error says which."""
        store = await filled()
        target = MemoryStore(RawRecord)
        for session_id in ("s 0", "s 2"):
            store.damage(session_id, "b")
        with pytest.raises(CheckpointCorruptError) as refused:
            await copy_store(raw(store), target)
        assert len(refused.value.__notes__) == 1
        assert len(await target.list("s 1")) == 5
        assert await target.check() == ()
        for session_id in ("s 0", "s 2"):
            assert {*await target.ids(session_id)} <= {"c", "a"}

    async def test_what_does_not_read_back_is_told(self) -> None:
        """A target that stores something else than it was given is found out."""

        class Forgetful(MemoryStore[RawRecord]):
            async def load_many(self, *args: Any) -> tuple[RawRecord, ...]:
                return (await super().load_many(*args))[1:]

        with pytest.raises(CopyError, match="does not read back"):
            await copy_store(raw(await filled()), Forgetful(RawRecord))

    async def test_what_is_deleted_meanwhile_is_no_damage(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A source that keeps its newest goes on: blobs that go with their checkpoints are none."""
        store = MemoryStore(Game, max_checkpoints=2)
        shared = b"shared"

        async def save(level: int) -> None:
            blobs = {blob_digest(blob): blob for blob in (shared, b"of %d" % level)}
            game = Game(session_id="s", checkpoint_id=f"{level}", blob_digests=(*blobs,))
            await store.save(game, blobs=blobs)

        for level in range(2):
            await save(level)
        source, target = raw(store), MemoryStore(RawRecord)
        load_many = source.load_many

        async def load_many_and_go_on(*arguments: Any) -> tuple[RawRecord, ...]:
            monkeypatch.undo()
            found = await load_many(*arguments)
            await save(2)
            return found

        monkeypatch.setattr(source, "load_many", load_many_and_go_on)
        await copy_store(source, target)
        assert await target.ids("s") == ("1",)
        await copy_store(source, target)
        assert await state(target) == await state(source)

    async def test_large_sessions_come_in_parts(self) -> None:
        """Of many checkpoints, and of large ones, not all are in memory at once."""
        store = MemoryStore()
        for number in range(200):
            text = "x" * (2_000_000 if number % 50 == 0 else 10)
            await store.save(CheckpointData(session_id="s", iteration=number, resume_hint=text))
        sizes: list[int] = []

        class Watched(MemoryStore[RawRecord]):
            async def load_many(self, *args: Any) -> tuple[RawRecord, ...]:
                found = await super().load_many(*args)
                sizes.append(len(found))
                return found

        target = MemoryStore(RawRecord)
        await copy_store(Watched(RawRecord, beside=store), target)
        assert len(await target.list("s")) == 200
        assert max(sizes) <= 64
        assert len(sizes) > 5


class TestRawRecord:
    @given(st.floats(allow_nan=False, allow_infinity=False), st.text(), st.integers(-9, 9))
    def test_a_document_has_the_same_bytes_elsewhere(
        self, number: float, text: str, iteration: int
    ) -> None:
        """Whatever is in it, document and checksum pass through a store unchanged."""

        async def pass_through() -> None:
            store, target = MemoryStore(), MemoryStore(RawRecord)
            await store.save(
                CheckpointData(
                    session_id="s", checkpoint_id="a", iteration=iteration,
                    messages=[number, text, {text: [number]}], cost_estimate=number,
                )
            )  # fmt: skip
            record = await raw(store).load("s")
            assert record is not None
            await target.save(record)
            assert await target.load("s") == record
            (there,), (here,) = await target.list("s"), await store.list("s")
            assert there.checksum == here.checksum
            assert await MemoryStore(beside=target).load("s") == await store.load("s")

        asyncio.run(pass_through())

    async def test_what_its_document_does_not_say_is_refused(self) -> None:
        """Other ids or blobs than those of the document, and what is no checkpoint, are refused."""
        store = await filled(sessions=1)
        target = MemoryStore(RawRecord)
        record = await raw(store).load("s 0", "c")
        assert record is not None
        for changes in (
            {"session_id": "t"},
            {"checkpoint_id": "z"},
            {"blob_digests": (blob_digest(b"x"),)},
            {"document": b"{}"},
            {"document": b"[]"},
            {"document": b"\xff"},
            {"document": b'{"session_id":"s 0","checkpoint_id":"c"'},
        ):
            fields = {name: getattr(record, name) for name in record.__struct_fields__}
            with pytest.raises(CheckpointEncodeError) as refused:
                await target.save(RawRecord(**fields | changes))
            assert refused.value.path == "document"
        other: Any = CheckpointRecord(session_id="s")
        with pytest.raises(RecordTypeError):
            await target.save(other)
        assert await target.list("s 0") == ()

    async def test_what_a_writer_has_is_loaded_as_it_is(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """The document of a file is told without its seal, and saving it replaces nothing else."""
        await make_writer().save(CheckpointData(session_id="s", checkpoint_id="a", iteration=7))
        writer = make_writer(record_type=RawRecord)
        record = await writer.load("s")
        assert record is not None
        assert b'"iteration":7' in record.document
        assert b"_checksum" not in record.document
        (before,) = await writer.list("s")
        await writer.save(record)
        (after,) = await writer.list("s")
        assert after.checksum == before.checksum


async def copied_by_command(url: str, directory: Path) -> None:
    """Copy a directory to a URL and from there to another one, by the command line; compare."""
    there, back = directory / "there", directory / "back"
    source = raw(await filled())
    async with AsyncCheckpointWriter(there, record_type=RawRecord) as writer:
        await copy_store(source, writer)
    assert await asyncio.to_thread(main, ["copy", url, str(back)]) == 2  # nothing is there yet
    for verb in (["copy", there, url], ["verify", url], ["copy", url, back], ["copy", there, url]):
        assert await asyncio.to_thread(main, [str(word) for word in verb]) == 0
    async with AsyncCheckpointWriter(back, record_type=RawRecord) as writer:
        assert await state(writer) == await state(source)
    assert await asyncio.to_thread(main, ["copy", url, url]) == 2


class _Paged(MemoryStore[RawRecord]):
    """A store that lists its sessions in pages of one, in the order of their ids."""

    async def sessions(self, *, prefix: str = "") -> AsyncIterator[str]:
        """Yield the ids, with those that are made meanwhile and come behind the last one."""
        last = ""
        while later := [key async for key in super().sessions(prefix=prefix) if key > last]:
            last = min(later)
            yield last


async def test_a_copy_does_not_follow_who_makes_sessions() -> None:
    """Sessions that are made while a store is copied, one for each part, are left to the next."""
    store = await filled(20)
    making: list[asyncio.Task[str]] = []

    def make(totals: CopyTotals) -> None:
        if totals.checkpoints and len(making) < 60:
            data = CheckpointData(session_id=f"t {len(making):03}")
            making.append(asyncio.get_running_loop().create_task(store.save(data)))

    target = MemoryStore(RawRecord)
    totals = await copy_store(_Paged(RawRecord, beside=store), target, on_progress=make)
    await asyncio.gather(*making)
    assert totals.sessions == 20
    assert {key async for key in target.sessions()} == {f"s {number}" for number in range(20)}
    assert making
