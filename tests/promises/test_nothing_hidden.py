"""What `load` refuses is named by everything that names; it hides, stops and loses nothing else."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobRecord,
    CheckpointData,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointTooLargeError,
    LostIdError,
    StorageError,
    blob_digest,
)
from tests.conftest import MakeWriter
from tests.faults import RefusingFiles
from tests.on_disk import path_of
from tests.promises.places import GUARD_SECONDS, on_disk, session_files
from tests.promises.records import record
from tests.promises.tasks import list_sessions, save_many

pytestmark = [pytest.mark.blocking, pytest.mark.damages_store]


class Closed(RefusingFiles):
    """A disk with directories, or files, of somebody else: root may open them, we may not."""

    def __init__(self, *names: str) -> None:
        super().__init__(errno.EACCES)
        self.names = names

    def is_refused(self, operation: str, path: str) -> bool:
        """Tell so of what is opened, or listed, of these."""
        is_opened = operation in ("open directory", "open", "create", "list directory")
        return is_opened and Path(path).name in self.names


async def told(writer: AsyncCheckpointWriter[Any]) -> tuple[list[str], CheckpointError | None]:
    """Return the sessions that are named, and what is raised after the last."""
    found: list[str] = []
    try:
        async for session_id in writer.sessions():
            found += [session_id]
    except CheckpointError as error:
        return found, error
    return found, None


# Directories


async def test_lost_and_found(make_writer: MakeWriter, root: Path) -> None:
    """Directories that can be no session's are nobody's business, whoever may open them."""
    names = ("lost+found", ".Trash-0", "@eaDir", "~backup", "System Volume Information")
    writer = make_writer(files=Closed(*names))
    await writer.save(record("s", "x"))
    for name in names:
        (root / name).mkdir()
    (root / "README").write_text("of the application")
    assert await told(writer) == (["s"], None)
    assert await writer.check() == ()


async def test_a_directory_that_cannot_be_opened(make_writer: MakeWriter, root: Path) -> None:
    """A session of another user is told after all others, and loses none of them."""
    sighted = make_writer()
    for name in ("a", "b", "c", "d"):
        await sighted.save(record(name, "x"))
    await on_disk(sighted)
    writer = make_writer(files=Closed("b", "d"))
    found, error = await told(writer)
    assert found == ["a", "c"]
    assert isinstance(error, StorageError)
    assert (error.path, error.errno) == (str(root / "b"), errno.EACCES)
    assert [str(root / "d") in note for note in error.__notes__] == [True]
    findings = await writer.check()
    assert {(f.kind, f.session_id) for f in findings} == {("unreadable", "b"), ("unreadable", "d")}
    for call in (writer.list("b"), writer.ids("b"), writer.load("b"), writer.delete("b", "x")):
        with pytest.raises(StorageError):
            await call


async def test_a_lock_that_cannot_be_opened(make_writer: MakeWriter) -> None:
    """Who only reads is told why, not that somebody holds it; beside who commits all reads go."""
    writer = make_writer()
    await writer.save(record("s", "x"))
    await on_disk(writer)
    for read in (_load, _load_blocking):
        reader = make_writer(files=Closed("lock"), lock_timeout_seconds=0.1)
        with pytest.raises(StorageError) as refused:
            await read(reader)
        assert (refused.value.errno, Path(refused.value.path).name) == (errno.EACCES, "lock")
        assert [finding.kind for finding in await reader.check()] == ["unreadable"]
    patient = make_writer(files=Closed("lock"), lock_timeout_seconds=GUARD_SECONDS)
    loading = asyncio.ensure_future(patient.load("s"))
    while not loading.done():
        await writer.save(record("t", "y"))
    assert await loading == record("s", "x")


async def _load(reader: AsyncCheckpointWriter[CheckpointData]) -> object:
    return await reader.load("s")


async def _load_blocking(reader: AsyncCheckpointWriter[CheckpointData]) -> object:
    return await asyncio.to_thread(reader.read_blocking, "s", lambda session: session.load())


@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
async def test_a_directory_that_is_a_symlink(
    make_writer: MakeWriter, root: Path, tmp_path: Path, target: str
) -> None:
    """A session that was moved away behind a symlink is told, and found when it is back."""
    writer = make_writer()
    await writer.save(record("s", "x"))
    await writer.save(record("t", "x"))
    await on_disk(writer)
    (root / "s").rename(tmp_path / "elsewhere")
    (root / "s").symlink_to(tmp_path / target)
    for some in (writer, make_writer()):
        found, error = await told(some)
        assert found == ["t"]
        assert "symlink" in str(error)
        assert [f.session_id for f in await some.check()] == ["s"]
        with pytest.raises(StorageError):
            await some.list("s")
    (root / "s").unlink()
    (tmp_path / "elsewhere").rename(root / "s")
    assert await list_sessions(writer) == ["s", "t"]
    assert await writer.check() == ()


@pytest.mark.parametrize("moved", ["s", "s/checkpoints"])
async def test_a_symlink_is_not_followed_by_who_knows_the_place(
    make_writer: MakeWriter, root: Path, tmp_path: Path, moved: str
) -> None:
    """Where a directory in use is moved behind a symlink, the writer leaves the new place alone."""
    writer = make_writer()
    await writer.save(record("s", "x"))
    await on_disk(writer)
    away = tmp_path / "elsewhere"
    (root / moved).rename(away)
    (root / moved).symlink_to(away)
    before = sorted(away.rglob("*"))
    with pytest.raises(StorageError, match="symlink"):
        await writer.load("s")
    await writer.save(record("s", "y"))
    with pytest.raises(StorageError, match="symlink"):
        await writer.flush()
    assert sorted(away.rglob("*")) == before
    (root / moved).unlink()
    away.rename(root / moved)
    await on_disk(writer)
    assert await make_writer().ids("s") == ("y", "x")


@pytest.mark.damages_store
@pytest.mark.usefixtures("no_flushing")
async def test_a_directory_that_a_file_has_replaced(make_writer: MakeWriter, root: Path) -> None:
    """What is in the journal is read; of an id that is not nobody says that it is absent."""
    writer = make_writer()
    await writer.save(record("s", "old"))
    await on_disk(writer)
    await writer.save(record("s", "new"))
    shutil.rmtree(root / "s")
    (root / "s").write_text("somebody's")
    other = make_writer()
    for some in (writer, other):
        assert await some.load("s", "new") == record("s", "new")
        assert await some.load("s") == record("s", "new")
        assert [meta.checkpoint_id for meta in await some.list("s")] == ["new"]
        for call in (some.load("s", "old"), some.load_many("s", ["old"]), other.delete("s", "old")):
            with pytest.raises(StorageError) as refused:
                await call
            assert (refused.value.errno, refused.value.path) == (errno.ENOTDIR, str(root / "s"))
    assert await other.delete("s", "new") is True
    assert await other.load("s", "new") is None  # which the journal says
    (root / "s").unlink()
    await on_disk(writer)


@pytest.mark.parametrize("kind", ["file", "symlink", "closed"])
async def test_checkpoints_that_are_no_directory(
    make_writer: MakeWriter, root: Path, kind: str
) -> None:
    """A session whose checkpoints are in no directory is told."""
    writer = make_writer(files=Closed("checkpoints") if kind == "closed" else None)
    (root / "s").mkdir(parents=True)
    place = root / "s" / "checkpoints"
    match kind:
        case "file":
            place.write_text("")
        case "symlink":
            place.symlink_to(root)
        case _:
            place.mkdir()
    found, error = await told(writer)
    assert (found, isinstance(error, StorageError)) == ([], True)
    [finding] = await writer.check()
    assert (finding.kind, finding.session_id) == ("unreadable", "s")
    assert finding.path == place


async def test_a_session_without_a_name(make_writer: MakeWriter) -> None:
    """Of a session whose id only its checkpoints tell, damage to all of them is told."""
    writer = make_writer()
    lost = ["x" * 300, "y" * 300]
    for session_id in (*lost, "s"):
        await writer.save(record(session_id, "only"))
    paths = [path_of((await writer.list(session_id))[0]) for session_id in lost]
    await on_disk(writer)
    for path in paths:
        path.write_bytes(b"{}")
    places = sorted(path.parents[1] for path in paths)
    for _ in range(2):
        found, error = await told(writer)
        assert found == ["s"]
        assert isinstance(error, LostIdError)
        assert Path(error.path) in paths
        assert [Path(error.location), *(Path(e.location) for e in _lost(error))] == places
        assert len(error.__notes__) == 1  # also of a second time
    findings = await writer.check()
    assert sorted(f.path for f in findings if f.kind == "lost-id" and f.path) == places
    assert sorted(f.path for f in findings if f.kind == "damaged" and f.path) == sorted(paths)
    for session_id in lost:  # which the application knows
        assert len((await writer.recover(session_id)).quarantined) == 1
    assert await told(writer) == (["s"], None)
    assert await writer.check() == ()


def _lost(error: CheckpointError) -> list[LostIdError]:
    return [other for other in error.others if isinstance(other, LostIdError)]


@pytest.mark.parametrize("session_id", ["x" * 300, 'quoted \\ "' * 40, "客" * 100])
@pytest.mark.parametrize("kept", ["file", "backup"])
async def test_damage_that_leaves_the_id(
    make_writer: MakeWriter, session_id: str, kept: str
) -> None:
    """What is left of a damaged file, or of its backup, names its session; no other text does."""
    writer = make_writer()
    for key in ("old", "new"):
        data = CheckpointData(session_id=session_id, checkpoint_id=key)
        data.messages = [{"session_id": "another"}]
        await writer.save(data)
    paths = [path_of(meta) for meta in await writer.list(session_id)]
    await on_disk(writer)
    [backup] = paths[0].parent.glob("*.backup")  # a second name of the older file
    text = backup.read_bytes()
    for path in paths:
        path.unlink()
        path.write_bytes(b"\0" * len(text))
    if kept == "file":
        paths[1].write_bytes(text.replace(b"another", b"an0ther"))
        backup.unlink()
    assert await told(writer) == ([session_id], None)
    findings = await writer.check()
    assert {(f.kind, f.session_id) for f in findings} == {("damaged", session_id)}
    report = await writer.recover(session_id)
    assert report.newest_valid_id == (None if kept == "file" else "old")


async def test_one_bad_directory_of_a_session(make_writer: MakeWriter, root: Path) -> None:
    """Blobs that cannot be opened do not hide what is wrong with the checkpoints."""
    writer = make_writer(record_type=Note)
    await writer.save(Note(session_id="s", checkpoint_id="x", blob_digests=(A,)), blobs={A: b"a"})
    await on_disk(writer)
    session_files(root, "s")[0].write_bytes(b"{}")
    reader = make_writer(record_type=Note, files=Closed("blobs"))
    assert {finding.kind for finding in await reader.check()} == {"damaged", "unreadable"}


# Files


async def test_large_newest_in_list(make_writer: MakeWriter) -> None:
    """What is over the limit of who looks is listed all the same, and nothing takes it for old."""
    application = make_writer(max_bytes=400_000)
    month_ago = datetime.now(UTC) - timedelta(days=60)
    await application.save(
        CheckpointData(session_id="s", checkpoint_id="old", created_at=month_ago)
    )
    await application.save(
        CheckpointData(session_id="s", checkpoint_id="today", messages=["x" * 300_000])
    )
    cron = make_writer(max_bytes=200_000)
    for _ in range(2):
        newest, old = await cron.list("s")
        assert (newest.checkpoint_id, old.checkpoint_id) == ("today", "old")
        assert newest.created_at - old.created_at > timedelta(days=59)
        assert "max_bytes" in str(newest.problem)
        assert old.problem is None
        assert await cron.ids("s") == ("today", "old")
        with pytest.raises(CheckpointTooLargeError):
            await cron.load("s")
        await on_disk(application)  # and again from its file
    assert [finding.kind for finding in await cron.check()] == ["unreadable"]


class Note(BlobRecord):
    """A record with blobs, whose ends tell no id where it is large."""

    aaa: str = ""
    zzz: str = ""


A = blob_digest(b"a")


async def test_large_ones_whose_ends_tell_nothing(make_writer: MakeWriter) -> None:
    """A large file of which nothing can be told is listed by its name."""
    writer = make_writer(record_type=Note)
    wide = "x" * 9000
    await writer.save(Note(session_id="s", checkpoint_id="x", aaa=wide, zzz=wide))
    await writer.save(Note(session_id="s", checkpoint_id="y" * 300, aaa=wide, zzz=wide))
    await on_disk(writer)
    small = make_writer(record_type=Note, max_bytes=10_000)
    long, short = await small.list("s")
    assert short.checkpoint_id == "x"
    assert datetime.now(UTC) - short.created_at < timedelta(minutes=10)
    assert "max_bytes" in str(short.problem)
    assert long.checkpoint_id in path_of(long).name
    with pytest.raises(CheckpointTooLargeError):  # one is missing, and nobody can tell which
        await small.ids("s")


@pytest.mark.parametrize("kind", ["empty", "directory", "symlink", "fifo", "foreign", "closed"])
async def test_each_bad_file_is_listed(make_writer: MakeWriter, root: Path, kind: str) -> None:
    """A file that is none any more is listed where it stands, and hides none of the others."""
    writer = make_writer()
    await save_many(writer, "s", "n", 3)
    await on_disk(writer)
    path = session_files(root, "s")[1]
    content = path.read_bytes()
    if kind != "closed":
        path.unlink()
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "directory":
            path.mkdir()
        case "symlink":
            path.symlink_to("latest.json")
        case "fifo":
            os.mkfifo(path)
        case "foreign":
            path.write_bytes(content.replace(b'"session_id": "s"', b'"session_id": "t"'))
        case _:
            pass
    reader = make_writer(files=Closed(path.name))
    metas = await reader.list("s")
    assert [meta.checkpoint_id for meta in metas] == ["n2", "n1", "n0"]
    assert [meta.problem is None for meta in metas] == [True, False, True]
    assert path.name in str(metas[1].problem)
    assert await reader.ids("s") == ("n2", "n1", "n0")
    with pytest.raises(CheckpointError):
        await reader.load("s", "n1")
    assert [finding.path for finding in await reader.check()] == [path]


# What deletes, or takes a session for empty


@pytest.fixture(name="blind")
async def _blind(
    make_writer: MakeWriter, root: Path, no_flushing: None
) -> AsyncCheckpointWriter[Note]:
    """Return a writer that cannot list session `s`, of which it has a save in the journal."""
    writer = make_writer(record_type=Note)
    await writer.save(Note(session_id="s", checkpoint_id="x", blob_digests=(A,)), blobs={A: b"a"})
    await on_disk(writer)
    await writer.save(Note(session_id="s", checkpoint_id="y"))
    return make_writer(record_type=Note, files=Closed("checkpoints"))


async def test_an_unseen_checkpoint_is_not_absent(blind: AsyncCheckpointWriter[Note]) -> None:
    """Where a session cannot be listed, nothing answers that it has no such checkpoint."""
    for call in (
        blind.load("s", "x"),
        blind.list("s"),
        blind.ids("s"),
        blind.delete("s", "x"),
        blind.delete_many("s", ["x"]),
        blind.delete_session("s"),
        blind.copy_session("s", "t"),
        blind.recover("s"),
    ):
        with pytest.raises(StorageError):
            await call
    assert await blind.delete("s", "y")
    with pytest.raises(StorageError):
        await blind.load("s")
    with pytest.raises(StorageError):
        await blind.read("s", lambda session: session.saved_ids(limit=1))
    with pytest.raises(StorageError):
        await blind.save(Note(session_id="s", checkpoint_id="z"), expected=None)


async def test_blobs_of_an_unseen_checkpoint_stay(
    blind: AsyncCheckpointWriter[Note], root: Path, make_writer: MakeWriter
) -> None:
    """A delete removes no blob that a checkpoint it could not see may refer to."""
    assert await blind.delete("s", "y")
    with pytest.raises(StorageError):
        await blind.aclose()
    writer = make_writer(record_type=Note)
    await on_disk(writer)
    assert (root / "s" / "blobs" / A).read_bytes() == b"a"
    loaded = await writer.load("s")
    assert loaded is not None
    assert await writer.load_blobs("s", [A]) == {A: b"a"}


async def test_blobs_of_a_bad_checkpoint_are_not_unused(
    make_writer: MakeWriter, root: Path
) -> None:
    """While one checkpoint cannot be read, nobody says of a blob that nothing refers to it."""
    writer = make_writer(record_type=Note)
    for name, text in (("x", "x" * 900), ("y", "")):
        note = Note(session_id="s", checkpoint_id=name, blob_digests=(A,), aaa=text)
        await writer.save(note, blobs={A: b"a"})
    await writer.delete("s", "y")
    await on_disk(writer)
    small = make_writer(record_type=Note, max_bytes=600)
    assert [finding.kind for finding in await small.check()] == ["unreadable"]
    await small.save(Note(session_id="s", checkpoint_id="z"))
    assert await small.delete("s", "z")
    await on_disk(small)
    assert (root / "s" / "blobs" / A).exists()


async def test_retention_counts_the_unreadable(make_writer: MakeWriter, root: Path) -> None:
    """A limit of checkpoints removes the oldest, also beside one that cannot be read."""
    writer = make_writer()
    await save_many(writer, "s", "n", 3)
    await on_disk(writer)
    session_files(root, "s")[2].write_bytes(b"")
    limited = make_writer(max_checkpoints=3)
    await limited.save(record("s", "n3"))
    assert [meta.checkpoint_id for meta in await limited.list("s")] == ["n3", "n2", "n1"]


async def test_misplaced_files_are_refused(make_writer: MakeWriter, root: Path) -> None:
    """A session that is refused as a whole, since it was renamed, is listed as a whole."""
    writer = make_writer()
    await save_many(writer, "s", "n", 2)
    await on_disk(writer)
    (root / "s").rename(root / "t")
    assert await list_sessions(writer) == ["t"]
    assert [meta.problem is not None for meta in await writer.list("t")] == [True, True]
    with pytest.raises(CheckpointMismatchError):
        await writer.load("t")
