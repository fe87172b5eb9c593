"""Blobs that refer to others: what a record leads to is there and stays, and nothing else does."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobNode,
    CheckpointCorruptError,
    CheckpointEncodeError,
    InvalidArgumentError,
    MissingBlobError,
    blob_digest,
    blob_links,
)
from aiocheckpoint._disk.files import LocalFiles
from aiocheckpoint._engine.bodies import Bodies
from aiocheckpoint.testing import LargeValue
from tests.conftest import MakeWriter
from tests.on_disk import on_disk

Writer = AsyncCheckpointWriter[LargeValue]
ONE, TWO, THREE = b"1" * 500, b"2" * 500, b"3" * 500


def _node(*blobs: bytes, payload: bytes = b"") -> BlobNode:
    return BlobNode(map(blob_digest, blobs), payload)


LEFT = _node(ONE, TWO, payload=b"left")
TOP = _node(LEFT, THREE, payload=b"top")
ALL = (TOP, LEFT, ONE, TWO, THREE)


def _given(*blobs: bytes) -> dict[str, bytes]:
    return {blob_digest(blob): blob for blob in blobs}


async def _save(
    writer: Writer, checkpoint_id: str, root: bytes, blobs: Iterable[bytes] = ()
) -> None:
    data = LargeValue(
        session_id="s", checkpoint_id=checkpoint_id, blob_digests=(blob_digest(root),)
    )
    await writer.save(data, blobs=_given(*blobs))


async def _reached(
    writer: Writer, checkpoint_id: str | None = None, session_id: str = "s"
) -> set[bytes]:
    """Return all blobs that a checkpoint leads to, loaded and verified."""
    record = await writer.load(session_id, checkpoint_id)
    assert record is not None
    found: dict[str, bytes] = {}
    waiting = {*record.blob_digests}
    while waiting:
        found |= await writer.load_blobs(session_id, waiting)
        waiting = {link for blob in found.values() for link in blob_links(blob)} - found.keys()
    return {*found.values()}


def _stored(root: Path, session_id: str = "s") -> set[str]:
    return {path.name for path in (root / session_id / "blobs").glob("*")}


def _files(*blobs: bytes) -> set[str]:
    return {blob_digest(blob) + (".node" if blob_links(blob) else "") for blob in blobs}


class TestNode:
    def test_tells_what_it_was_made_of(self) -> None:
        """Links keep their order and may be there twice; copies and pickles are equal nodes."""
        links = (blob_digest(ONE), blob_digest(TWO), blob_digest(ONE))
        node = BlobNode(links, b"payload")
        assert (node.links, node.payload) == (links, b"payload")
        for other in (copy.copy(node), copy.deepcopy(node), pickle.loads(pickle.dumps(node))):
            assert type(other) is BlobNode
            assert other == node
        assert blob_links(bytes(node)) == links
        assert blob_links(ONE) == ()

    @pytest.mark.parametrize("links", [(), ("x",), (blob_digest(ONE), 7), blob_digest(ONE)])
    def test_refers_to_digests(self, links: Any) -> None:
        """What is no digest is refused, and so is a node that refers to nothing."""
        with pytest.raises(InvalidArgumentError, match="links"):
            BlobNode(links)

    @given(st.binary(max_size=64), st.integers(0, 100))
    def test_no_bytes_are_misread(self, more: bytes, length: int) -> None:
        """Beginnings of a node, and what follows them, have links only where all are there."""
        content = bytes(LEFT)[:length] + more
        links = blob_links(content)
        assert links == () or content.startswith(BlobNode(links))


class TestSaving:
    @pytest.mark.parametrize("durability", ["journal", "file"])
    async def test_everything_that_is_led_to_comes_back(
        self, make_writer: MakeWriter, durability: Any
    ) -> None:
        """From the journal, from files and in another process; nodes come back as nodes."""
        writer = make_writer(record_type=LargeValue, durability=durability)
        await _save(writer, "a", TOP, ALL)
        assert await _reached(writer) == {*ALL}
        await writer.aclose()
        writer = make_writer(record_type=LargeValue)
        assert await _reached(writer) == {*ALL}
        (loaded,) = (await writer.load_blobs("s", [blob_digest(TOP)])).values()
        assert isinstance(loaded, BlobNode)
        assert loaded == TOP
        assert await writer.check() == ()

    async def test_bytes_that_begin_as_a_node_are_refused(self, make_writer: MakeWriter) -> None:
        """Nobody can let other people's bytes refer to blobs; nothing is saved."""
        writer = make_writer(record_type=LargeValue)
        for content in (bytes(LEFT), bytes(LEFT)[:16], bytes(LEFT)[:30]):
            with pytest.raises(CheckpointEncodeError, match="give a BlobNode"):
                await _save(writer, "a", content, [content, ONE, TWO])
        assert await writer.load("s") is None
        await _save(writer, "a", b"." + LEFT, [b"." + LEFT])
        await _save(writer, "b", bytes(LEFT)[:15], [bytes(LEFT)[:15]])

    @pytest.mark.parametrize("missing", [LEFT, ONE, THREE])
    @pytest.mark.parametrize("is_fresh", [True, False])
    async def test_what_is_neither_given_nor_there_is_named(
        self, make_writer: MakeWriter, missing: bytes, is_fresh: bool
    ) -> None:
        """However far below a record it is; then nothing is saved."""
        writer = make_writer(record_type=LargeValue)
        if not is_fresh:
            await _save(writer, "other", b"other", [b"other"])
        below = {ONE, TWO} if missing == LEFT else set[bytes]()
        with pytest.raises(MissingBlobError) as caught:
            await _save(writer, "a", TOP, {*ALL} - {missing} - below)
        assert caught.value.digest == blob_digest(missing)
        assert await writer.load("s", "a") is None
        await on_disk(writer)
        assert await writer.check() == ()

    async def test_a_blob_that_nothing_leads_to_is_refused(self, make_writer: MakeWriter) -> None:
        """It would be stored for nobody."""
        with pytest.raises(InvalidArgumentError, match="BlobNode"):
            await _save(make_writer(record_type=LargeValue), "a", LEFT, ALL)

    async def test_what_is_there_need_not_be_given(self, make_writer: MakeWriter) -> None:
        """Not by this process, nor by one that hears of the blobs for the first time."""
        first = make_writer(record_type=LargeValue)
        await _save(first, "a", LEFT, [LEFT, ONE, TWO])
        await first.aclose()
        second = make_writer(record_type=LargeValue)
        await _save(second, "b", TOP, [TOP, THREE])
        await _save(second, "c", LEFT)
        assert await _reached(second, "b") == {*ALL}
        assert await _reached(second, "c") == {LEFT, ONE, TWO}

    async def test_nothing_that_is_known_is_read_again(
        self, make_writer: MakeWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A save costs what is new, whatever there is below: once known, no file is looked at."""
        first = make_writer(record_type=LargeValue)
        await _save(first, "0", TOP, ALL)
        await first.aclose()
        writer = make_writer(record_type=LargeValue)
        await _save(writer, "1", TOP)
        await on_disk(writer)
        looks: list[str] = []
        read, status = LocalFiles.read, LocalFiles.status

        def recorded_read(self: LocalFiles, directory: Any, name: str, max_bytes: int) -> Any:
            looks.append(name)
            return read(self, directory, name, max_bytes)

        def recorded_status(self: LocalFiles, directory: Any, name: str) -> Any:
            looks.append(name)
            return status(self, directory, name)

        monkeypatch.setattr(LocalFiles, "read", recorded_read)
        monkeypatch.setattr(LocalFiles, "status", recorded_status)
        above: bytes = TOP
        for number in range(2, 6):
            above = _node(above, payload=b"%d" % number)
            await _save(writer, f"{number}", above, [above])
        known = _files(*ALL) | {blob_digest(blob) for blob in ALL}
        assert known.isdisjoint(looks)
        assert looks  # what was new was looked for

    async def test_nothing_is_looked_for_where_all_is_known(
        self, make_writer: MakeWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that has seen a session without blobs knows which it has from then on."""
        writer = make_writer(record_type=LargeValue)
        await _save(writer, "0", TOP, ALL)
        looks: list[str] = []
        monkeypatch.setattr(Bodies, "blob", lambda self, session, digest: looks.append(digest))
        monkeypatch.setattr(Bodies, "links", lambda self, session, digest: looks.append(digest))
        await _save(writer, "1", LEFT)
        for number in range(2, 5):
            above = _node(TOP, payload=b"%d" % number)
            await _save(writer, f"{number}", above, [above, *ALL])
            await on_disk(writer)
        assert looks == []
        monkeypatch.undo()
        assert await _reached(writer) == {above, *ALL}

    async def test_a_node_given_in_the_same_moment(self, make_writer: MakeWriter) -> None:
        """Saves that wait for one commit may lead to one another's blobs."""
        writer = make_writer(record_type=LargeValue)
        await asyncio.gather(
            _save(writer, "a", TOP, ALL), _save(writer, "b", LEFT), _save(writer, "c", TOP)
        )
        assert await _reached(writer, "b") == {LEFT, ONE, TWO}
        assert await _reached(writer, "c") == {*ALL}


class TestCollecting:
    async def test_what_nothing_leads_to_goes(self, make_writer: MakeWriter, root: Path) -> None:
        """A delete removes it, a blob that another record leads to stays."""
        writer = make_writer(record_type=LargeValue)
        await _save(writer, "a", TOP, ALL)
        await _save(writer, "b", LEFT)
        await writer.delete("s", "a")
        await on_disk(writer)
        assert await asyncio.to_thread(_stored, root) == _files(LEFT, ONE, TWO)
        assert await _reached(writer) == {LEFT, ONE, TWO}
        with pytest.raises(MissingBlobError):
            await _save(writer, "c", TOP, [TOP])
        await writer.delete("s", "b")
        await on_disk(writer)
        assert await asyncio.to_thread(_stored, root) == set()

    async def test_a_process_that_knows_nothing_collects_the_same(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """It reads what leads on, and no more is removed than nothing leads to."""
        first = make_writer(record_type=LargeValue)
        await _save(first, "a", TOP, ALL)
        await _save(first, "b", LEFT)
        await first.aclose()
        second = make_writer()
        await second.delete("s", "a")
        await on_disk(second)
        assert await asyncio.to_thread(_stored, root) == _files(LEFT, ONE, TWO)

    async def test_two_writers_share_nodes(self, make_writer: MakeWriter) -> None:
        """What one has built upon the other's blobs the other does not remove."""
        one, two = (make_writer(record_type=LargeValue) for _ in range(2))
        await _save(one, "a", TOP, ALL)
        above = _node(LEFT, payload=b"above")
        await _save(two, "b", above, [above])
        await one.delete("s", "a")
        assert await _reached(one) == {above, LEFT, ONE, TWO}
        with pytest.raises(MissingBlobError):
            await _save(two, "c", TOP)
        await two.delete("s", "b")
        with pytest.raises(MissingBlobError):
            await _save(one, "d", LEFT)
        await _save(one, "d", TOP, ALL)
        assert await _reached(two) == {*ALL}

    async def test_a_copy_is_whole(self, make_writer: MakeWriter, root: Path) -> None:
        """A copied session has all that its records lead to, and keeps it without the source."""
        writer = make_writer(record_type=LargeValue, max_checkpoints=2)
        await _save(writer, "a", TOP, ALL)
        await _save(writer, "b", ONE)
        assert await writer.copy_session("s", "t") == 2
        await writer.delete_session("s")
        await on_disk(writer)
        assert await asyncio.to_thread(_stored, root, "t") == _files(*ALL)
        assert await _reached(writer, "a", "t") == {*ALL}

    async def test_a_short_memory_copies_what_comes_and_goes(self, make_writer: MakeWriter) -> None:
        """Blobs that a record in between does not lead to are given again."""
        source = make_writer(record_type=LargeValue)
        for number, top in enumerate((TOP, ONE, TOP, LEFT)):
            await _save(source, f"{number}", top, ALL if top is TOP else ())
        target = make_writer(record_type=LargeValue, max_checkpoints=1)
        assert await target.copy_session("s", "t") == 4
        assert await target.ids("t") == ("3",)
        assert await _reached(target, session_id="t") == {LEFT, ONE, TWO}


_pages = [b"page %d" % number for number in range(4)]
_steps = st.lists(
    st.tuples(
        st.sampled_from(["save", "save", "delete", "flush", "reopen"]),
        st.integers(0, 3),
        st.lists(st.integers(0, 9), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=25)
@given(steps=_steps)
def test_records_lead_to_what_a_model_says(
    steps: list[tuple[str, int, list[int]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """After any saves of nodes upon nodes, deletes and restarts: all is there, and nothing else."""

    async def run(root: Path) -> None:
        made: dict[bytes, set[bytes]] = {page: {page} for page in _pages}
        model: dict[str, bytes] = {}
        writer: Writer = AsyncCheckpointWriter(root, record_type=LargeValue)
        for kind, number, chosen in steps:
            if kind == "save":
                links = [[*made][at % len(made)] for at in chosen]
                node = _node(*links)
                made[node] = set().union({node}, *(made[link] for link in links))
                there = set().union(*(made[top] for top in model.values()))
                await _save(writer, f"{number}", node, made[node] - there)
                model[f"{number}"] = node
            elif kind == "delete":
                await writer.delete("s", f"{number}")
                model.pop(f"{number}", None)
            elif kind == "flush":
                await writer.flush()
            else:
                await writer.aclose()
                writer = AsyncCheckpointWriter(root, record_type=LargeValue)
        for checkpoint_id, top in model.items():
            assert await _reached(writer, checkpoint_id) == made[top]
        await writer.save(LargeValue(session_id="s", checkpoint_id="last"))
        await writer.delete("s", "last")
        await writer.flush()
        assert await writer.check() == ()
        used = set().union(*(made[top] for top in model.values()))
        assert await asyncio.to_thread(_stored, root) == _files(*used)
        await writer.aclose()

    asyncio.run(run(tmp_path_factory.mktemp("nodes")))


@pytest.mark.damages_store
class TestDamage:
    @pytest.mark.parametrize("victim", [TOP, LEFT, ONE, THREE])
    @pytest.mark.parametrize("is_removed", [True, False])
    async def test_check_and_recover(
        self, make_writer: MakeWriter, root: Path, victim: bytes, is_removed: bool
    ) -> None:
        """A checkpoint is damaged if anything is that it leads to; the others stay whole."""
        writer = make_writer(record_type=LargeValue, max_backups=0)
        await _save(writer, "a", TWO, [TWO])
        await _save(writer, "b", LEFT, [LEFT, ONE])
        await _save(writer, "c", TOP, [TOP, THREE])
        await on_disk(writer)
        (name,) = _files(victim)
        path = root / "s" / "blobs" / name
        await asyncio.to_thread(path.unlink if is_removed else lambda: path.write_bytes(b"x"))
        kind = "missing-blob" if is_removed else "damaged"
        found = {
            (f.kind, Path(f.location).name.removesuffix(".node")) for f in await writer.check()
        }
        assert found == {(kind, blob_digest(victim))}

        writer = make_writer(record_type=LargeValue, max_backups=0)
        report = await writer.recover("s")

        intact = {"b": {LEFT, ONE, TWO}} if victim in {TOP, THREE} else {}
        assert report.newest_valid_id == ("b" if intact else "a")
        assert await writer.check() == ()
        for checkpoint_id, reached in intact.items():
            assert await _reached(writer, checkpoint_id) == reached
        assert await _reached(writer, "a") == {TWO}
        kept = intact.get("b", {TWO})
        assert await asyncio.to_thread(_stored, root) == _files(*kept)
        await _save(writer, "c", TOP, ALL)
        assert await _reached(writer) == {*ALL}

    async def test_nothing_is_collected_while_a_node_is_damaged(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """It may refer to any blob, so all stay until it is recovered."""
        first = make_writer(record_type=LargeValue)
        await _save(first, "a", LEFT, [LEFT, ONE, TWO])
        await _save(first, "b", THREE, [THREE])
        await first.aclose()
        (name,) = _files(LEFT)
        await asyncio.to_thread((root / "s" / "blobs" / name).write_bytes, b"x")
        second = make_writer(record_type=LargeValue)
        await second.delete("s", "b")
        await on_disk(second)
        assert await asyncio.to_thread(_stored, root) == _files(LEFT, ONE, TWO, THREE)

    async def test_a_node_under_the_name_of_a_plain_blob_is_damage(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """Or what it refers to would be taken for unused."""
        first = make_writer(record_type=LargeValue)
        await _save(first, "a", LEFT, [LEFT, ONE, TWO])
        await first.aclose()
        (name,) = _files(LEFT)
        path = root / "s" / "blobs" / name
        await asyncio.to_thread(path.rename, path.with_suffix(""))
        second = make_writer(record_type=LargeValue)
        with pytest.raises(CheckpointCorruptError, match="suffix"):
            await second.load_blobs("s", [blob_digest(LEFT)])
        assert "damaged" in {finding.kind for finding in await second.check()}

    async def test_a_damaged_node_is_not_built_upon(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """A process that meets one below what it saves writes it anew, or refuses."""
        first = make_writer(record_type=LargeValue)
        await _save(first, "a", TOP, ALL)
        await first.aclose()
        (name,) = _files(LEFT)
        await asyncio.to_thread((root / "s" / "blobs" / name).write_bytes, b"x")
        second = make_writer(record_type=LargeValue)
        with pytest.raises(CheckpointCorruptError):
            await _save(second, "b", TOP)
        await _save(second, "b", TOP, [TOP, LEFT])
        assert await _reached(second) == {*ALL}
        assert await _reached(second) == {*ALL}

    async def test_what_is_given_is_written_anew_where_it_is_damaged(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """A plain blob, too, however far below; of one that is not given nobody knows."""
        first = make_writer(record_type=LargeValue)
        await _save(first, "a", TOP, ALL)
        await first.aclose()
        await asyncio.to_thread((root / "s" / "blobs" / blob_digest(ONE)).write_bytes, b"x")
        second = make_writer(record_type=LargeValue)
        above = _node(TOP)
        await _save(second, "b", above, [above, *ALL])
        assert await _reached(second) == {above, *ALL}

    @pytest.mark.parametrize("victim", [TOP, LEFT, ONE])
    @pytest.mark.parametrize("is_removed", [True, False])
    @pytest.mark.parametrize("is_checked", [True, False])
    async def test_what_a_writer_has_told_of_is_stored_anew_when_it_is_given(
        self,
        make_writer: MakeWriter,
        root: Path,
        victim: bytes,
        is_removed: bool,
        is_checked: bool,
    ) -> None:
        """What it remembers to be there counts no more; nor does a save that gives nothing."""
        writer = make_writer(record_type=LargeValue)
        await _save(writer, "a", TOP, ALL)
        await on_disk(writer)
        (name,) = _files(victim)
        path = root / "s" / "blobs" / name
        await asyncio.to_thread(path.unlink if is_removed else lambda: path.write_bytes(b"x"))
        if is_checked:
            assert await writer.check()
        else:
            with pytest.raises(CheckpointCorruptError):
                await writer.load_blobs("s", [blob_digest(victim)])
        with contextlib.suppress(CheckpointCorruptError):
            await _save(writer, "b", TOP)
        await _save(writer, "c", TOP, ALL)
        assert await _reached(writer) == {*ALL}
        await on_disk(writer)
        assert await writer.check() == ()
