"""File systems as they are: saving works on those that lack something, or says what is missing."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aiocheckpoint import CheckpointData, FileSizeLimitError
from tests.conftest import MakeWriter
from tests.crash.disks import ext4
from tests.faults import RefusingFiles
from tests.on_disk import path_of
from tests.promises.places import on_disk, plain_ids
from tests.promises.records import record
from tests.promises.tasks import save_many

pytestmark = pytest.mark.blocking
DURABILITIES = pytest.mark.parametrize("durability", ["journal", "file", "none"])


class Lacking(RefusingFiles):
    """
    A disk on which some operations do not exist.

    Args:
        error_number: what it says then.
        operations: as in `StorageError.operation`.
        path: where they do not; `""` for everywhere.
    """

    def __init__(self, error_number: int, *operations: str, path: str = "") -> None:
        super().__init__(error_number)
        self.operations = operations
        self.path = path

    def is_refused(self, operation: str, path: str) -> bool:
        """Tell so of the operations, there."""
        return operation in self.operations and self.path in ("", path)


# Without symlinks


@DURABILITIES
@pytest.mark.parametrize(
    "number", [errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP], ids=errno.errorcode.get
)
async def test_without_links(
    make_writer: MakeWriter, root: Path, durability: str, number: int
) -> None:
    """On a disk without symlinks and hard links all works; `latest.json` and backups are hints."""
    files = Lacking(number, "symlink", "link")
    writer = make_writer(durability=durability, files=files)
    await save_many(writer, "s", "n", 3)
    await writer.save(record("s", "n1", 10))
    assert await writer.delete("s", "n0")
    await on_disk(writer)
    assert files.refused
    assert await asyncio.to_thread(plain_ids, root, "s") == ["n2", "n1"]
    assert not await asyncio.to_thread((root / "s/checkpoints/latest.json").exists)
    reader = make_writer()
    assert await reader.load("s") == record("s", "n1", 10)
    assert await reader.check() == ()
    assert await writer.delete_session("s")


@pytest.mark.damages_store
async def test_recovering_without_links(make_writer: MakeWriter, root: Path) -> None:
    """A damaged file is moved aside on a disk without links, too."""
    writer = make_writer(files=Lacking(errno.EPERM, "symlink", "link"))
    await save_many(writer, "s", "n", 2)
    await on_disk(writer)
    (_, newest) = sorted((root / "s/checkpoints").glob("cp_*.json"))
    newest.write_bytes(b"{}")
    report = await writer.recover("s")
    assert report.newest_valid_id == "n0"
    assert [Path(path).read_bytes() for path in report.quarantined] == [b"{}"]
    assert await writer.check() == ()


async def test_a_hint_of_somebody_else_does_not_stay(make_writer: MakeWriter, root: Path) -> None:
    """Where no symlink can be made, none that names an older checkpoint is left either."""
    writer = make_writer()
    await save_many(writer, "s", "n", 2)
    await writer.aclose()
    writer = make_writer(files=Lacking(errno.ENOSYS, "symlink"))
    await writer.save(record("s", "n2"))
    await on_disk(writer)
    assert not (root / "s/checkpoints/latest.json").is_symlink()


# Without syncs of directories


@DURABILITIES
async def test_parent_without_directory_sync(
    make_writer: MakeWriter, tmp_path: Path, durability: str
) -> None:
    """The root may be a mount point in a file system that cannot sync directories."""
    files = Lacking(errno.EINVAL, "sync directory", path=str(tmp_path))
    (tmp_path / "state").mkdir()
    writer = make_writer(durability=durability, files=files)
    await writer.save(record("s", "x"))
    assert files.refused
    assert await make_writer().load("s") == record("s", "x")


@DURABILITIES
async def test_no_directory_sync_at_all(make_writer: MakeWriter, durability: str) -> None:
    """Where directories have no sync of their own, the whole disk is synced in its place."""
    files = Lacking(errno.EINVAL, "sync directory")
    writer = make_writer(durability=durability, files=files)
    await save_many(writer, "s", "n", 3)
    assert await writer.delete("s", "n0")
    await on_disk(writer)
    assert 0 < files.refused <= files.count("sync disk")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM], ids=errno.errorcode.get)
async def test_parent_that_may_not_be_opened(
    make_writer: MakeWriter, tmp_path: Path, number: int
) -> None:
    """The directory above the root need not be one that may be opened."""
    files = Lacking(number, "open directory", path=str(tmp_path))
    (tmp_path / "state").mkdir()
    writer = make_writer(files=files)
    await writer.save(record("s", "x"))
    assert files.refused


# With a limit of file sizes


@contextmanager
def _files_up_to(max_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@DURABILITIES
async def test_small_file_size_limit(make_writer: MakeWriter, root: Path, durability: str) -> None:
    """Under a limit of file sizes the journal is as large as it may be, and all works."""
    with _files_up_to(512 << 10):
        writer = make_writer(durability=durability)
        saves = [writer.save(record("s", f"n{number}", size=50_000)) for number in range(40)]
        await asyncio.gather(*saves)
        assert await writer.delete("s", "n0")
        await on_disk(writer)
        slots = [path.stat().st_size for path in (root / ".aiocheckpoint").glob("log.*")]
        assert max(slots) <= 512 << 10
        assert await writer.delete_session("s")
        await writer.aclose()


async def test_what_is_over_the_file_size_limit(make_writer: MakeWriter) -> None:
    """What no file may hold is refused by a name that tells the limit; everything else goes on."""
    indented = CheckpointData(session_id="s", checkpoint_id="pretty", messages=[[0] * 60_000])
    with _files_up_to(512 << 10):
        writer = make_writer()
        await writer.save(record("s", "x"))
        for large in (record("s", "large", size=600_000), indented):
            with pytest.raises(FileSizeLimitError, match=r"52\d{4}.*ulimit"):
                await writer.save(large)
        await writer.save(record("s", "y"))
        await on_disk(writer)
        assert [meta.checkpoint_id for meta in await writer.list("s")] == ["y", "x"]
        await writer.aclose()
    assert await make_writer().load("s") == record("s", "y")


async def test_a_journal_made_without_the_limit(make_writer: MakeWriter, root: Path) -> None:
    """A process whose files may be small uses the first part of a journal that is larger."""
    writer = make_writer(max_journal_bytes=1 << 30)
    for number in range(3):
        await writer.save(record("s", f"big{number}", size=3 << 20))
    await on_disk(writer)
    assert max(path.stat().st_size for path in (root / ".aiocheckpoint").glob("log.*")) > 2 << 20
    with _files_up_to(512 << 10):
        limited = make_writer()
        for number in range(12):
            await limited.save(record("s", f"n{number}", size=100_000))
        await on_disk(limited)
        await limited.aclose()
    assert len(await writer.list("s")) == 15


# With a strict umask


@contextmanager
def _umask(mode: int) -> Iterator[None]:
    before = os.umask(mode)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o777, 0o377, 0o077, 0], ids=oct)
async def test_umask_of_files(make_writer: MakeWriter, root: Path, mask: int) -> None:
    """Files are 0600 and directories 0700, whatever the umask."""
    with _umask(mask):
        writer = make_writer()
        await save_many(writer, "s", "n", 3)
        assert await writer.load("s", "n2") == record("s", "n2", 2)
        await on_disk(writer)
        path = path_of((await writer.list("s"))[0])
        path.write_bytes(b"{}")
        await writer.recover("s")
        await writer.aclose()
    found = {
        (stat.S_ISDIR(mode), oct(stat.S_IMODE(mode)))
        for path in [root, *root.rglob("*")]
        if stat.S_ISREG(mode := path.lstat().st_mode) or stat.S_ISDIR(mode)
    }
    assert found == {(True, "0o700"), (False, "0o600")}


# With times of whole seconds


@pytest.fixture(name="small_inodes")
def _small_inodes(disk_directory: Path) -> Iterator[Path]:
    """Mount an ext4 whose inodes have no room for parts of a second."""
    with ext4(disk_directory, 64 << 20, "-I", "128") as disk:
        yield disk.path


@pytest.mark.damages_store  # by then the disk is gone
async def test_times_of_whole_seconds(small_inodes: Path, make_writer: MakeWriter) -> None:
    """On ext4 with small inodes all that others change within a second is found."""
    other = make_writer(small_inodes / "other", max_backups=0)
    reader = make_writer(small_inodes / "state")
    place = small_inodes / "state" / "s" / "checkpoints"
    place.mkdir(parents=True)
    for number in range(4):
        for iteration in range(3):  # as Rust, which writes an id again in the same second
            await other.save(record("s", "x", iteration))
            await on_disk(other)
            [path] = (small_inodes / "other" / "s" / "checkpoints").glob("cp_*.json")
            target = place / f"cp_20260101_00000{number}_x.json"
            shutil.copyfile(path, target)
            assert target.stat().st_mtime_ns % 1_000_000_000 == 0
            assert [meta.iteration for meta in await reader.list("s")] == [iteration]
            assert await reader.load("s") == record("s", "x", iteration)
        target.unlink()
        assert await reader.list("s") == ()
    for writer in (reader, other):
        await writer.aclose()
