"""A blob that is damaged in the journal before it has its file: told, stored anew, moved aside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobNode,
    CheckpointCorruptError,
    MissingBlobError,
    StorageError,
    blob_digest,
)
from tests.command import run_command
from tests.promises.conftest import Start
from tests.promises.damaging import MARK, change_text, marked_slot
from tests.promises.places import holding
from tests.promises.records import Note, by_digest, note

pytestmark = [pytest.mark.damages_store, pytest.mark.blocking]
Look = Callable[[AsyncCheckpointWriter[Note]], Awaitable[Any]]
_BLOB = f"a blob, and {MARK}".encode()
_DIGEST = blob_digest(_BLOB)
_LOOKS: dict[str, Look] = {
    "nothing": lambda writer: writer.ids("other"),
    "load": lambda writer: writer.load("s"),
    "list": lambda writer: writer.list("s"),
    "check": lambda writer: writer.check(),
}


@pytest.fixture(name="damaged")
def _damaged(start: Start, root: Path) -> Path:
    """The blob that two newest checkpoints of `s` name is in the journal alone, and damaged."""
    worker = start(record_type=Note)
    worker.call("save", note("other", "whole"))
    worker.call("save", note("s", "old"))
    worker.call("flush")
    with holding(root, "applier"):
        worker.call("save", note("s", "one", _BLOB), blobs=by_digest(_BLOB))
        worker.call("save", note("s", "two", _BLOB))
        worker.kill()
    change_text(marked_slot(root))
    return root


def _opened(root: Path) -> AsyncCheckpointWriter[Note]:
    return AsyncCheckpointWriter(root, record_type=Note)


async def _goes_on(writer: AsyncCheckpointWriter[Note]) -> None:
    """The session, and the store, are as if nothing had been damaged; a save gives the blob."""
    await writer.save(note("s", "three", _BLOB), blobs=by_digest(_BLOB))
    await writer.flush()
    assert await writer.load_blobs("s", [_DIGEST]) == by_digest(_BLOB)
    assert not {found.kind for found in await writer.check()} - {"unused-blob"}


async def test_it_is_damage(damaged: Path) -> None:
    """It is told as damage by whoever reads it, with the session, and not as a blob that lacks."""
    writer = _opened(damaged)
    for look in _LOOKS.values():
        await look(writer)
        with pytest.raises(CheckpointCorruptError, match="neither the journal") as told:
            await writer.load_blobs("s", [_DIGEST])
        assert not isinstance(told.value, MissingBlobError)
        assert told.value.session_id == "s"
    with pytest.raises(CheckpointCorruptError, match="neither the journal"):
        await writer.copy_session("s", "copy")
    for end in (writer.flush, writer.aclose):
        with pytest.raises(CheckpointCorruptError, match=r"recover\(session_id\)"):
            await end()


async def test_check_finds_it(damaged: Path) -> None:
    """`check` names the blob and the session, and so does `verify`, which exits with 1."""
    async with AsyncCheckpointWriter(damaged, record_type=Note) as writer:
        (found,) = [found for found in await writer.check() if found.kind == "damaged"]
    assert (found.session_id, Path(str(found.path)).name) == ("s", _DIGEST)
    told = run_command("verify", damaged)
    assert told.returncode == 1
    assert f"damaged: {found.path}" in told.stdout
    assert "recover" in told.stdout


@pytest.mark.parametrize("first", _LOOKS)
async def test_a_save_that_gives_it_stores_it_anew(damaged: Path, first: str) -> None:
    """Whatever was looked at before: what such a save has acknowledged is there."""
    async with _opened(damaged) as writer:
        await _LOOKS[first](writer)
        await writer.save(note("s", "three", _BLOB), blobs=by_digest(_BLOB))
        assert await writer.load_blobs("s", [_DIGEST]) == by_digest(_BLOB)
    async with _opened(damaged) as writer:
        assert await writer.load_blobs("s", [_DIGEST]) == by_digest(_BLOB)
        assert set(await writer.ids("s")) == {"old", "one", "two", "three"}
        await _goes_on(writer)


@pytest.mark.parametrize("first", _LOOKS)
async def test_a_save_that_counts_on_it_is_refused(damaged: Path, first: str) -> None:
    """A record that names it without giving it would be of no use: nothing is acknowledged."""
    async with _opened(damaged) as writer:
        await _LOOKS[first](writer)
        with pytest.raises(CheckpointCorruptError):
            await writer.save(note("s", "three", _BLOB))
        assert "three" not in await writer.ids("s")
        await writer.recover("s")


@pytest.mark.parametrize("is_stuck", [False, True], ids=["at once", "after a flush that failed"])
async def test_recover_moves_what_needs_it_aside(damaged: Path, *, is_stuck: bool) -> None:
    """It ends, moves the blob and what leads to it, and the session and all others go on."""
    async with _opened(damaged) as writer:
        if is_stuck:
            with pytest.raises(CheckpointCorruptError):
                await writer.flush()
            with pytest.raises(StorageError):
                await writer.save(note("s", "refused"))
        report = await writer.recover("s")
        assert report.newest_valid_id == "old"
        assert await writer.ids("s") == ("old",)
        aside = [Path(path) for path in report.quarantined]
        assert len(aside) == 3  # two checkpoints, and what there is of the blob
        assert MARK.upper().encode() in b"".join(path.read_bytes() for path in aside)
        assert (await writer.recover("s")).quarantined == ()
        await _goes_on(writer)
    async with _opened(damaged) as writer:
        assert set(await writer.ids("s")) == {"old", "three"}
        await _goes_on(writer)


async def test_the_command_recovers(damaged: Path) -> None:
    """`recover` on the command line ends with 0, and `verify` finds nothing after it."""
    assert run_command("recover", damaged, "s").returncode == 0
    assert run_command("verify", damaged).returncode == 0


async def test_what_leads_to_it_through_another(start: Start, root: Path) -> None:
    """A blob that another one names is no different."""
    inner = f"the inner one, and {MARK}".encode()
    node = BlobNode([blob_digest(inner)], b"the outer one")
    worker = start(record_type=Note)
    worker.call("save", note("s", "old"))
    worker.call("flush")
    with holding(root, "applier"):
        worker.call("save", note("s", "one", node), blobs=by_digest(node, inner))
        worker.kill()
    change_text(marked_slot(root))
    async with _opened(root) as writer:
        assert "damaged" in {found.kind for found in await writer.check()}
        report = await writer.recover("s")
        assert report.newest_valid_id == "old"
        await writer.save(note("s", "two", node), blobs=by_digest(node, inner))
        await writer.flush()
    async with _opened(root) as writer:
        digests = [blob_digest(blob) for blob in (node, inner)]
        assert await writer.load_blobs("s", digests) == by_digest(node, inner)
        assert not {found.kind for found in await writer.check()}


@pytest.mark.parametrize("is_told", [False, True])
@pytest.mark.parametrize("is_given", [False, True])
async def test_a_save_counts_on_it_through_another(
    start: Start, root: Path, *, is_given: bool, is_told: bool
) -> None:
    """A save that leads to it is refused, or stores it anew; also before a read has told of it."""
    inner = f"the inner one, and {MARK}".encode()
    node = BlobNode([blob_digest(inner)], b"the outer one")
    worker = start(record_type=Note)
    worker.call("save", note("s", "old"))
    with holding(root, "applier"):
        worker.call("save", note("s", "one", node), blobs=by_digest(node, inner))
        worker.kill()
    change_text(marked_slot(root))
    async with _opened(root) as writer:
        if is_told:
            await writer.save(note("other", "one"))
            await writer.list("s")
            with pytest.raises(CheckpointCorruptError):
                await writer.load_blobs("s", [blob_digest(inner)])
        if is_given:
            await writer.save(note("s", "two", node), blobs=by_digest(node, inner))
            assert await writer.load_blobs("s", [blob_digest(inner)]) == by_digest(inner)
        else:
            with pytest.raises(CheckpointCorruptError):
                await writer.save(note("s", "two", node))
            await writer.recover("s")


async def test_a_file_told_damaged_stays_so(start: Start, root: Path) -> None:
    """What a read has told of a blob's file holds where the session is listed once more."""
    inner = b"the inner one"
    node = BlobNode([blob_digest(inner)], b"the outer one")
    worker = start(record_type=Note)
    worker.call("save", note("s", "old", inner), blobs=by_digest(inner))
    worker.call("flush")
    async with _opened(root) as writer:
        with holding(root, "applier"):
            await writer.save(note("s", "one", node), blobs=by_digest(node))
            (root / "s" / "blobs" / blob_digest(inner)).write_bytes(b"another one")
            with pytest.raises(CheckpointCorruptError):
                await writer.load_blobs("s", [blob_digest(inner)])
            (root / "s" / "checkpoints" / "of somebody else").touch()
            await writer.ids("s")
            with pytest.raises(CheckpointCorruptError):
                await writer.save(note("s", "two", node))
        await writer.recover("s")


async def test_one_that_was_removed_before(start: Start, root: Path) -> None:
    """Also where the journal has a removal of the same blob before the save of what is damaged."""
    worker = start(record_type=Note)
    worker.call("save", note("s", "old"))
    with holding(root, "applier"):
        worker.call("save", note("s", "one", b"whole"), blobs=by_digest(b"whole"))
        worker.call("delete", "s", "one")
        worker.call("save", note("s", "two", _BLOB), blobs=by_digest(_BLOB))
        worker.call("delete", "s", "two")
        worker.call("save", note("s", "three", _BLOB), blobs=by_digest(_BLOB))
        worker.kill()
    change_text(marked_slot(root))
    async with _opened(root) as writer:
        with pytest.raises(CheckpointCorruptError, match="neither the journal"):
            await writer.load_blobs("s", [_DIGEST])
        assert (await writer.recover("s")).newest_valid_id == "old"
        await _goes_on(writer)
