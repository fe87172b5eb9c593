"""Root at work in somebody's store, with sudo or from a container, locks nobody out of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiocheckpoint import BlobRecord, blob_digest
from tests.conftest import MakeWriter
from tests.directories import open_directory
from tests.promises import tasks
from tests.promises.conftest import Start
from tests.promises.places import on_disk, session_files
from tests.promises.records import record

_USER, _GROUP = 12_345, 12_346
pytestmark = [
    pytest.mark.blocking,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root works in the stores of others"),
]


@pytest.fixture(name="home", autouse=True)  # first of all, and so removed last
def _home() -> Iterator[Path]:
    """Return a directory of another user, for a store in it."""
    with open_directory("home-") as home:
        os.chown(home, _USER, _GROUP)
        home.chmod(0o700)
        yield home


def _owners(directory: Path) -> set[tuple[int, int]]:
    statuses = [path.lstat() for path in (directory, *directory.rglob("*"))]
    return {(status.st_uid, status.st_gid) for status in statuses}


class Note(BlobRecord):
    """A record with blobs."""


async def test_what_root_makes_belongs_to_the_owner(make_writer: MakeWriter, home: Path) -> None:
    """Every file and directory that root makes in somebody's store is given to its owner."""
    digest = blob_digest(b"a")
    writer = make_writer(home / "state", record_type=Note, max_journal_bytes=1 << 20)
    for number in range(4):
        note = Note(session_id="s", checkpoint_id=f"n{number}", blob_digests=(digest,))
        await writer.save(note, blobs={digest: b"a"})
    await writer.save(Note(session_id="~odd", checkpoint_id="x"))
    await on_disk(writer)
    session_files(home / "state", "s")[-1].write_bytes(b"{}")
    assert (await writer.recover("s")).quarantined
    await writer.delete("s", "n0")
    await on_disk(writer)
    (home / "state" / "s" / "checkpoints" / "latest.json").lstat()
    assert _owners(home) == {(_USER, _GROUP)}


def test_the_owner_goes_on_after_root(start: Start, home: Path) -> None:
    """After root has saved, flushed and looked, the owner may do all that he may."""
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv to be another user")
    by_owner = ["setpriv", f"--reuid={_USER}", f"--regid={_GROUP}", "--clear-groups"]
    root = home / "state"
    admin = start(root)
    admin.save(record("s", "of-root"))
    owner = start(root, prefix=by_owner)
    assert owner.load("s") == record("s", "of-root")
    owner.save(record("s", "of-owner"))
    admin.call(tasks.save_many, "s", "n", 5)
    admin.delete("s", "of-owner")
    admin.call("flush")
    owner.call("flush")
    assert owner.delete("s", "n4")
    owner.save(record("t", "x"))
    for worker in (admin, owner):
        worker.close()
    assert _owners(home) == {(_USER, _GROUP)}
    last = start(root, prefix=by_owner)
    assert last.listed_ids("s") == ("n3", "n2", "n1", "n0", "of-root")
    assert last.call("check") == ()


async def test_looking_makes_nothing(make_writer: MakeWriter, home: Path) -> None:
    """Root that only looks leaves a store as it is, and one that is none as nothing."""
    state = home / "state"
    writer = make_writer(state)
    await writer.save(record("s", "x"))
    await writer.aclose()
    shutil.rmtree(state / ".aiocheckpoint")
    before = {path: path.lstat().st_mtime_ns for path in (state, *state.rglob("*"))}
    reader = make_writer(state)
    assert await reader.load("s") == record("s", "x")
    assert len(await reader.list("s")) == 1
    assert await reader.check() == ()
    await reader.flush()
    await reader.aclose()
    other = make_writer(home / "none")
    assert await other.load("s") is None
    assert await other.check() == ()
    await other.flush()
    await other.aclose()
    assert before == {path: path.lstat().st_mtime_ns for path in (state, *state.rglob("*"))}
    assert [path.name for path in home.iterdir()] == ["state"]
