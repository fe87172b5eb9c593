"""Something else in the place of a file of a store is told, and stops no more than it must."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, OwnershipLostError, StorageError
from tests.conftest import MakeWriter
from tests.promises.places import holding, on_disk, plain_newest, session_files
from tests.promises.records import record

pytestmark = [pytest.mark.blocking, pytest.mark.damages_store]


def _link(place: Path) -> None:
    place.symlink_to(place.with_name("elsewhere"))


_KINDS: dict[str, Callable[[Path], None]] = {
    "directory": Path.mkdir, "symlink": _link, "fifo": os.mkfifo,
}  # fmt: skip
_kinds = pytest.mark.parametrize("kind", [*_KINDS])


def _put(kind: str, place: Path) -> Path:
    """Put something in the place of a file; return where that is now."""
    aside = place.with_name("aside")
    if place.exists():
        place.rename(aside)
    _KINDS[kind](place)
    return aside


def _put_back(place: Path, aside: Path) -> None:
    if place.is_dir():
        place.rmdir()
    else:
        place.unlink()
    if aside.exists():
        aside.rename(place)


async def _told(writer: AsyncCheckpointWriter[CheckpointData]) -> list[tuple[str, Path | None]]:
    """Return kinds and paths of the findings, each of which says what to do."""
    findings = await writer.check()
    assert all("move it away" in finding.detail for finding in findings)
    return [(finding.kind, finding.path) for finding in findings]


@pytest.mark.parametrize("is_empty", [True, False], ids=["empty", "with a file"])
async def test_a_directory_in_the_place_of_the_pointer(
    make_writer: MakeWriter, root: Path, *, is_empty: bool
) -> None:
    """The session goes on, and goes, without `latest.json`, which is made once there is room."""
    writer = make_writer()
    await writer.save(record("s", "one"))
    await on_disk(writer)
    place = root / "s" / "checkpoints" / "latest.json"
    place.unlink()
    place.mkdir()
    if not is_empty:
        (place / "theirs").write_text("")
    for some in (writer, make_writer()):
        assert await _told(some) == [("unreadable", place)]
    await writer.save(record("s", "two"))
    await on_disk(writer)
    assert await writer.delete("s", "one")
    await on_disk(writer)
    assert (await writer.recover("s")).newest_valid_id == "two"
    assert await make_writer().ids("s") == ("two",)
    assert await writer.delete_session("s")
    await on_disk(writer)
    assert session_files(root, "s") == []
    await writer.save(record("s", "three"))
    await on_disk(writer)
    shutil.rmtree(place)
    await writer.save(record("s", "four"))
    await on_disk(writer)
    assert plain_newest(root, "s") == "four"
    assert await writer.check() == ()


@_kinds
@pytest.mark.parametrize("name", ["lock", "turn", "applier", "control", "log.9", "owner-x"])
async def test_in_the_place_of_a_file_of_the_journal(
    make_writer: MakeWriter, root: Path, name: str, kind: str
) -> None:
    """`check` names it, and so does who cannot go on; nobody is said to hold the store."""
    async with make_writer() as writer:
        await writer.save(record("s", "one"))
    place = root / ".aiocheckpoint" / name
    aside = _put(kind, place)
    writer = make_writer()
    assert await _told(writer) == [("unreadable", place)]
    for error in await asyncio.gather(
        writer.load("s"), writer.save(record("s", "two")), writer.flush(), return_exceptions=True
    ):
        if isinstance(error, BaseException):
            assert type(error) is StorageError
            assert error.path == str(place)
            assert "move it away" in str(error)
    assert await _told(writer) == [("unreadable", place)]
    _put_back(place, aside)
    await writer.save(record("s", "three"))
    await on_disk(writer)
    assert await writer.check() == ()
    assert {*await make_writer().ids("s")} >= {"one", "three"}


@pytest.mark.parametrize("is_flushed", [True, False], ids=["flushed", "unflushed"])
@pytest.mark.parametrize("name", ["lock", "turn", "applier", "control", "log.0", "log.9"])
async def test_sessions_are_looked_at_all_the_same(
    make_writer: MakeWriter, root: Path, tmp_path: Path, name: str, *, is_flushed: bool
) -> None:
    """Damage to a session is told also where a file of the journal cannot be opened."""
    async with make_writer() as writer:
        await writer.save(record("s", "one"))
    if not is_flushed:
        with holding(root, "applier"):
            await make_writer().save(record("t", "one"))
            root = Path(shutil.copytree(root, tmp_path / "copy", symlinks=True))
    damaged = session_files(root, "s")[0]
    damaged.write_bytes(b"{}")
    place = root / ".aiocheckpoint" / name
    _put("directory", place)
    findings = await make_writer(root).check()
    harm = [(found.path, found.session_id) for found in findings if found.is_damage]
    assert harm == [(place, None), (damaged, "s")]
    if name == "control":
        assert "by their files alone" in findings[0].detail


@_kinds
async def test_in_the_place_of_what_tells_of_owners(
    make_writer: MakeWriter, root: Path, kind: str
) -> None:
    """A flush names it, not a checkpoint; once it is away, owners go on as before."""
    writer = make_writer()
    async with writer.own("s") as owner:
        await on_disk(writer)
        async with writer.own("t"):
            place = root / ".aiocheckpoint" / "owners"
            aside = _put(kind, place)
            assert await _told(make_writer()) == [("unreadable", place)]
            with pytest.raises(StorageError, match="move it away") as refused:
                await writer.flush()
            assert refused.value.path == str(place)
            _put_back(place, aside)
            await on_disk(writer)
        await owner.save(record("s", "one"))
    await on_disk(writer)
    assert await writer.check() == ()


async def test_damage_to_what_tells_of_owners(
    make_writer: MakeWriter, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another may own the session then; its token is greater, and who did is told, and refused."""
    first, second = make_writer(), make_writer()
    async with first.own("s") as owner:
        await on_disk(first)
        place = root / ".aiocheckpoint" / "owners"
        text = bytearray(place.read_bytes())
        text[-1] ^= 1
        place.write_bytes(text)
        [finding] = await second.check()
        assert (finding.kind, finding.path) == ("damaged", place)
        assert "OwnershipLostError" in finding.detail
        assert "remove it" in finding.detail
        assert not caplog.messages
        for number in range(2):
            async with second.own("s", wait=False) as later:
                await later.save(record("s", f"c{number}"))
            assert later.token > owner.token
        assert caplog.messages == [f"{place} is damaged: nobody owns what it told of"]
        with pytest.raises(OwnershipLostError):
            await owner.save(record("s", "late"))
    await on_disk(second)
    await second.save(record("t", "x"))
    await on_disk(second)
    assert await second.check() == ()
    assert await second.ids("s") == ("c1", "c0")
