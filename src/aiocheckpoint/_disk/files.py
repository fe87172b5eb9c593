"""The only module that touches the operating system; synchronous, with named failpoints.

`LocalFiles` is a set of small operations on names within an open directory, so that no path is
ever resolved twice and no symlink followed. Tests subclass it to inject faults or to record.

Deliberately not done: no read-back after a write, since the page cache would answer it; no
retry of a failed fsync, since the kernel marks the pages clean and the next one "succeeds".
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
import time
from collections.abc import Callable, Collection, Generator
from itertools import count
from typing import NamedTuple, ParamSpec, TypeVar, cast

from aiocheckpoint._disk import system
from aiocheckpoint.errors import (
    CheckpointTooLargeError,
    FileSizeLimitError,
    NotACheckpointError,
    StorageError,
    StorageFullError,
)
from aiocheckpoint.models import reseed_ids

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
OpenedT = TypeVar("OpenedT", bound="Directory | None")

_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600
# A disk may be mounted there (EBUSY), what is above may be another user's, or it is a file.
_STAYS = frozenset(
    {
        errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.EBUSY, errno.EACCES, errno.EPERM,
        errno.ENOTDIR,
    }
)  # fmt: skip
NOT_FOLLOWED = "it is a symlink, which is not followed; put the directory itself there"
NO_FILE = "it is no regular file; move it away, and put back the file that was there, if any"
_OPEN_DIRECTORY = os.O_RDONLY | system.O_DIRECTORY | system.O_CLOEXEC
_SAFELY = system.O_NOFOLLOW | system.O_CLOEXEC | system.O_BINARY
_CREATE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | _SAFELY
# Without O_NONBLOCK, opening a FIFO that somebody named like a file of ours would wait for ever.
_OPEN_TO_READ = os.O_RDONLY | system.O_NONBLOCK | _SAFELY
_LINK_ITSELF: dict[str, bool] = (
    {"follow_symlinks": False} if os.link in os.supports_follow_symlinks else {}
)
_READ_LINK = cast("Callable[..., str]", os.readlink)  # of bytes, too
_SETS_TIMES = os.utime in os.supports_fd
_TICK_NS = 12_000_000
_COARSE_NS = 2_100_000_000
_NOT_KNOWN_THERE = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_NO_SYNC_OF_DIRECTORIES = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
_MISSING = frozenset({errno.ENOENT})
_GONE = frozenset({errno.ENOENT, errno.ENAMETOOLONG})
_EXISTS = frozenset({errno.EEXIST})
_NO_SYMLINK = frozenset({errno.ENOENT, errno.EINVAL})
_OF_OTHERS: dict[int | None, str] = {
    errno.ELOOP: "a symlink",
    errno.ENXIO: "not a regular file",
    errno.EISDIR: "not a regular file",
}
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_LINK = _NOT_KNOWN_THERE | {
    errno.EEXIST,
    errno.ENOENT,
    errno.EMLINK,
    errno.ENAMETOOLONG,
}


class Directory(NamedTuple):
    """
    An open directory.

    Attributes:
        path: for messages, and for systems without directory descriptors.
        descriptor: None on Windows.
        owner: user and group that new entries are given; None for those of the process.
    """

    path: str
    descriptor: int | None
    owner: tuple[int, int] | None = None

    def join(self, *names: str) -> str:
        """Return the path of an entry, or of one below it."""
        return os.sep.join((self.path, *names))  # os.path.join takes 20 times as long


class FileStatus(NamedTuple):
    """
    Which file a name stands for; equal values mean an unchanged file.

    Attributes:
        device: number of the file system it is on.
        inode: its number.
        modified_ns: time of its last change, ns since 1970.
        size_bytes: its size.
        is_directory: whether it is a directory.
    """

    device: int
    inode: int
    modified_ns: int
    size_bytes: int
    is_directory: bool

    @property
    def identity(self) -> tuple[int, int]:
        """Which file it is; an inode alone is also in the copy of a disk."""
        return self.device, self.inode


class FreeRoom(NamedTuple):
    """
    What a disk has left for this process; a lot where nobody can tell.

    Attributes:
        size_bytes: for data.
        inodes: for files and directories.
    """

    size_bytes: int = sys.maxsize
    inodes: int = sys.maxsize


def _status(found: os.stat_result) -> FileStatus:
    is_directory = stat.S_ISDIR(found.st_mode)
    return FileStatus(found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size, is_directory)


_process_id = os.getpid()  # asked for once, not in each call


def process_id() -> int:
    """Return the id of this process, to notice a fork."""
    return _process_id


def this_process() -> tuple[int, str]:
    """Return the id of this process, and the name of the machine that it is one of."""
    return os.getpid(), os.uname().nodename


def max_open_directories() -> int:
    """Return how many directories one store may keep open."""
    return system.max_open_directories()


def max_file_bytes() -> int:
    """Return how large the system lets a file of this process become."""
    return system.max_file_bytes()


def absolute(path: str) -> str:
    """Return a path that holds wherever the process goes; symlinks in it stay as they are."""
    return os.path.abspath(path)


def printable(text: str) -> str:
    """Return a text that UTF-8 can hold, of one with a path in it that it cannot."""
    return text.encode(errors="backslashreplace").decode()


def parent_of(path: str) -> str:
    """Return the path of the directory that a path is in."""
    return os.path.dirname(path)


def storage_error(operation: str, path: str, cause: OSError) -> StorageError:
    """Return the error of the tree that stands for `cause`."""
    kind = StorageFullError if cause.errno in _FULL else StorageError
    if cause.errno == errno.EFBIG:
        kind = FileSizeLimitError
    return kind(operation, path, cause.errno, cause.strerror or str(cause))


def is_settled(modified_ns: int) -> bool:
    """
    Tell whether a change made now would show by another time of last change.

    That is what a file system's clock tells apart: a tick of the kernel; with times of whole
    seconds, as of ext4 with small inodes or of FAT, two seconds.
    """
    resolution_ns = _TICK_NS if modified_ns % 1_000_000_000 else _COARSE_NS
    return abs(time.time_ns() - modified_ns) > resolution_ns


def now_microseconds() -> int:
    """Return the time, in microseconds since 1970."""
    return time.time_ns() // 1000


def monotonic_seconds() -> float:
    """Return a time that never goes back."""
    return time.monotonic()


def random_bytes(count: int) -> bytes:
    """Return random bytes."""
    return secrets.token_bytes(count)


# Counted from a secret start: asking the system each time would let go of the GIL.
_unguessable = count(secrets.randbits(63))


def random_name(prefix: str) -> str:
    """Return a name nobody can guess and nothing has: the prefix and 16 hex digits."""
    return f"{prefix}{next(_unguessable):016x}"


def random_number(limit: int) -> int:
    """Return a number from 0 and below a limit, another one each time."""
    return next(_unguessable) % limit


class _ClosedIfFailed:
    """
    Closes a file that was opened where something fails, which outdoes an error of that.

    No generator, which would take longer than what it surrounds.
    """

    def __init__(self, files: LocalFiles, descriptor: int, path: str) -> None:
        self._files = files
        self._descriptor = descriptor
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            with contextlib.suppress(StorageError):
                self._files.close(self._descriptor, self._path)


class LocalFiles:
    """
    File operations on a local disk.

    Every method raises `StorageError` with the operation and the path; a missing file is
    None or False where the signature says so.
    """

    def reached(self, failpoint: str) -> None:
        """Do nothing; tests override it to fail or to die at a named moment."""

    def pause(self, seconds: float) -> None:
        """Let a short time pass; tests need not."""
        time.sleep(seconds)

    def call(
        self,
        operation: str,
        path: str,
        function: Callable[P, ResultT],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ResultT:
        """Make one system call; the one place where an `OSError` becomes ours."""
        try:
            return function(*args, **kwargs)
        except OSError as error:
            raise storage_error(operation, path, error) from error
        except ValueError as error:  # a path with a NUL in it
            raise StorageError(operation, path, None, str(error)) from error

    def _at(
        self, operation: str, directory: Directory, name: str, function: Callable[..., ResultT],
        *args: object, **kwargs: object,
    ) -> ResultT:  # fmt: skip
        """Make one system call on an entry of a directory."""
        path, descriptor = directory.join(name), directory.descriptor
        place = path if descriptor is None else name
        return self.call(operation, path, function, place, *args, dir_fd=descriptor, **kwargs)

    def _found(
        self, absences: Collection[int | None], operation: str, directory: Directory, name: str,
        function: Callable[..., ResultT], *args: object, **kwargs: object,
    ) -> ResultT | None:  # fmt: skip
        """Make one, and return what it finds; None where it fails in one of these ways."""
        # The lines of `_at`: each look at a file passes here, and a call more is felt.
        path, descriptor = directory.join(name), directory.descriptor
        place = path if descriptor is None else name
        try:
            return self.call(operation, path, function, place, *args, dir_fd=descriptor, **kwargs)
        except StorageError as error:
            if error.errno in absences:
                return None
            raise

    def _is_done(
        self, absences: Collection[int | None], operation: str, directory: Directory, name: str,
        function: Callable[..., None],
    ) -> bool:  # fmt: skip
        """Make one, and tell whether it did not fail in one of these ways."""
        try:
            self._at(operation, directory, name, function)
        except StorageError as error:
            if error.errno in absences:
                return False
            raise
        return True

    # Directories

    def find_root(self, path: str) -> Directory | None:
        """
        Open the root; None when it is not there.

        Raises:
            StorageError: also when it, or a parent, is a file.
        """
        try:
            return self.open_path(os.path.abspath(path))
        except StorageError as error:
            if error.errno == errno.ENOENT:
                return None
            raise

    def make_root(self, path: str) -> Directory:
        """
        Open the root, making it and its missing parents, each 0700 and synced into its parent.

        It is synced into its parent also when it was there: its maker may have died before.

        Raises:
            StorageError: also when it, or a parent, is a file.
        """
        path = os.path.abspath(path)
        if os.path.isdir(path):
            self._sync_above(path)
        missing: list[str] = []
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        directory = self.open_path(path)
        for above in reversed(missing):
            with self.closing(directory):
                self.make_subdirectory(directory, os.path.basename(above))
                self.sync_directory(directory)
            directory = self.open_path(above)
        return directory

    def _sync_above(self, path: str) -> None:
        try:
            above = self.open_path(os.path.dirname(path))
        except StorageError as error:
            # Then it was not made by the likes of us. macOS says EPERM.
            if error.errno in (errno.EACCES, errno.EPERM):
                return
            raise
        with self.closing(above):
            self.sync_directory(above)

    @contextlib.contextmanager
    def closing(self, directory: OpenedT) -> Generator[OpenedT]:
        """Close a directory, if there is one, at the end of a block."""
        try:
            yield directory
        finally:
            if directory is not None:
                self.close_directory(directory)

    def open_path(self, path: str) -> Directory:
        """Open a directory by its path, symlinks followed."""
        if system.IS_WINDOWS:
            return Directory(path, None)
        descriptor = self.call("open directory", path, os.open, path, _OPEN_DIRECTORY)
        return self._opened(path, descriptor)

    def _opened(self, path: str, descriptor: int) -> Directory:
        _not_for_children.add(descriptor)
        opened = Directory(path, descriptor)
        if not _is_root():
            return opened
        try:
            found = self.call("stat", path, os.fstat, descriptor)
        except BaseException:
            self.close_directory(opened)
            raise
        owner = (found.st_uid, found.st_gid)
        return opened._replace(owner=owner) if found.st_uid != 0 else opened

    def open_subdirectory(self, parent: Directory, name: str) -> Directory | None:
        """Open a directory in a directory, not following a symlink; None when it is not there."""
        path = parent.join(name)
        if system.IS_WINDOWS:
            return Directory(path, None) if os.path.isdir(path) else None
        flags = _OPEN_DIRECTORY | system.O_NOFOLLOW
        try:
            descriptor = self._found(_MISSING, "open directory", parent, name, os.open, flags)
        except StorageError as error:
            is_other = error.errno in (errno.ENOTDIR, errno.ELOOP)
            if is_other and self.pointed_at(parent, name) is not None:
                raise StorageError("open directory", path, errno.ELOOP, NOT_FOLLOWED) from error
            raise
        return None if descriptor is None else self._opened(path, descriptor)

    def subdirectory(
        self, parent: Directory, name: str
    ) -> contextlib.AbstractContextManager[Directory | None]:
        """Open a directory in a directory for the time of a block; None when it is not there."""
        return self.closing(self.open_subdirectory(parent, name))

    def require_subdirectory(self, parent: Directory, name: str) -> Directory:
        """Open a directory in a directory that was made just now."""
        opened = self.open_subdirectory(parent, name)
        if opened is None:
            reason = "it was removed; try again"
            raise StorageError("open directory", parent.join(name), errno.ENOENT, reason)
        return opened

    def make_subdirectory(self, parent: Directory, name: str) -> bool:
        """Make a directory, 0700; return False when it was there. Sync `parent` afterwards."""
        is_made = self._is_done(_EXISTS, "make directory", parent, name, _make_directory)
        if is_made:
            self._give_to_owner(parent, name)
        return is_made

    def _give_to_owner(self, directory: Directory, name: str) -> None:
        """Give a new entry to the owner of its directory, where root makes it for somebody else."""
        if directory.owner is not None:
            owner = directory.owner
            self._at("change owner", directory, name, os.chown, *owner, follow_symlinks=False)

    def remove_subdirectory(self, parent: Directory, name: str) -> bool:
        """Remove an empty directory; False when it cannot be: it is not empty, or not ours to."""
        return self._is_done(_STAYS, "remove directory", parent, name, os.rmdir)

    def close_directory(self, directory: Directory) -> None:
        """
        Close a directory; closing drops its lock.

        It never fails: the descriptor is gone whatever the system says, and nothing was
        written through it that could be lost.
        """
        if directory.descriptor is not None:
            _not_for_children.discard(directory.descriptor)
            with contextlib.suppress(StorageError):
                self.call("close directory", directory.path, os.close, directory.descriptor)

    def sync_directory(self, directory: Directory) -> None:
        """
        Make the entries of a directory durable (fsync); nothing on Windows, which cannot.

        Where directories have no sync of their own, the whole disk is synced, if that can be.
        """
        if directory.descriptor is None:
            return
        try:
            self.call("sync directory", directory.path, os.fsync, directory.descriptor)
        except StorageError as error:
            if error.errno not in _NO_SYNC_OF_DIRECTORIES:
                raise
            self.sync_everything(directory)

    def directory_status(self, directory: Directory) -> FileStatus:
        """Return the status of an open directory."""
        return _status(self.call("stat", directory.path, os.stat, _handle(directory)))

    def status_of_path(self, path: str) -> FileStatus | None:
        """Return the status of what a path leads to; None when it leads nowhere."""
        try:
            return _status(self.call("stat", path, os.stat, path))
        except StorageError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise

    def still_leads_to(self, path: str, held: FileStatus) -> bool:
        """Tell whether a path leads to what had a status."""
        try:
            found = self.call("stat", path, os.stat, path)
        except StorageError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return False
            raise
        return found.st_ino == held.inode and found.st_dev == held.device

    def file_system_type(self, status: FileStatus) -> str:
        """Return the type of the file system that something is on; `""` where unknown."""
        try:
            path = "/proc/self/mountinfo"
            return self.call("read", path, system.file_system_type, status.device)
        except StorageError:
            return ""

    def free_room(self, directory: Directory) -> FreeRoom:
        """Return how much there is room for on a disk."""
        try:
            found = self.call("stat", directory.path, system.free_room, directory.descriptor)
        except StorageError:
            return FreeRoom()
        return FreeRoom(*found)

    def scan(self, directory: Directory) -> list[str]:
        """Return the names in a directory, in no order."""
        return self.call("list directory", directory.path, _names_in, _handle(directory))

    # Files

    def create(self, directory: Directory, name: str) -> int:
        """Create a file that must not exist, 0600, and return its descriptor."""
        descriptor = self._at("create", directory, name, _open_file, _CREATE)
        if directory.owner is not None:
            with _ClosedIfFailed(self, descriptor, directory.join(name)):
                self._give_to_owner(directory, name)
        return descriptor

    @contextlib.contextmanager
    def created(self, directory: Directory, name: str) -> Generator[int]:
        """Create a file and close it; an error in between outdoes one of closing."""
        descriptor, path = self.create(directory, name), directory.join(name)
        with _ClosedIfFailed(self, descriptor, path):
            yield descriptor
        self.close(descriptor, path)

    def write_new(self, directory: Directory, name: str, data: bytes, modified_ns: int) -> int:
        """
        Create a file with a content and a time of last change, and return its descriptor.

        Args:
            directory: open.
            name: must not exist; the file is removed again when something fails.
            data: its content.
            modified_ns: ns since 1970, 0 for now.
        """
        path = directory.join(name)
        descriptor = self._at("create", directory, name, _open_file, _CREATE)
        try:
            if directory.owner is not None:
                self._give_to_owner(directory, name)
            self.write_at(descriptor, data, 0, path)
            if modified_ns:
                self.set_modified(descriptor, modified_ns, path)
        except BaseException:
            self.discard(directory, name)
            with contextlib.suppress(StorageError):
                self.close(descriptor, path)
            raise
        return descriptor

    def replace(self, directory: Directory, name: str, data: bytes) -> None:
        """Give a name to a new file with a content, in the place of what has it; durable."""
        temporary = random_name(".tmp_cp_")
        descriptor, path = self.write_new(directory, temporary, data, 0), directory.join(temporary)
        try:
            with _ClosedIfFailed(self, descriptor, path):
                self.sync_file(descriptor, path)
            self.close(descriptor, path)
            self.rename(directory, temporary, name)
        except BaseException:
            self.discard(directory, temporary)
            raise
        self.sync_directory(directory)

    def set_modified(self, descriptor: int, modified_ns: int, path: str) -> None:
        """Set the time of an open file's last change, ns since 1970."""
        if _SETS_TIMES:
            self.call("set time", path, os.utime, descriptor, ns=(modified_ns, modified_ns))

    def sync_file(self, descriptor: int, path: str) -> None:
        """Make a file's content durable: fsync, and F_FULLFSYNC where there is one (macOS)."""
        self.call("sync file", path, system.full_sync, descriptor)

    def close(self, descriptor: int, path: str) -> None:
        """Close a file; closing drops its lock."""
        _not_for_children.discard(descriptor)
        self.call("close", path, os.close, descriptor)

    def rename(self, directory: Directory, old: str, new: str) -> None:
        """Give a file another name in the same directory, replacing what has it; atomic."""
        self.move(directory, old, directory, new)

    def move(self, source: Directory, old: str, target: Directory, new: str) -> None:
        """Give a file another name in another directory of the same disk; atomic."""
        self.call(
            "rename", source.join(old), os.replace, _place(source, old), _place(target, new),
            src_dir_fd=source.descriptor, dst_dir_fd=target.descriptor,
        )  # fmt: skip

    def move_if_there(self, source: Directory, old: str, target: Directory, new: str) -> bool:
        """
        Move a file into another directory, also of another disk; False when it is not there.

        The new name is durable before the old one goes: a crash leaves one of them, or both.
        """
        try:
            if self.link(source, old, target, new):
                self.sync_directory(target)
                self.unlink(source, old)
                return True
            if self.status(source, old) is None:
                return False
            self.move(source, old, target, new)
        except StorageError as error:
            if error.errno != errno.EXDEV:
                raise
            return self._move_across(source, old, target, new)
        return True

    def _move_across(self, source: Directory, old: str, target: Directory, new: str) -> bool:
        data = self.read(source, old, sys.maxsize)
        if data is None:
            return False
        self.replace(target, new, data)
        self.unlink(source, old)
        return True

    def is_copy(self, one: Directory, one_name: str, other: Directory, other_name: str) -> bool:
        """Tell whether two files on different disks have the same content."""
        statuses = [self.status(one, one_name), self.status(other, other_name)]
        if len({status and status.device for status in statuses}) < 2:
            return False
        content = self.read(one, one_name, sys.maxsize)
        return content is not None and content == self.read(other, other_name, sys.maxsize)

    def link(self, source: Directory, old: str, target: Directory, new: str) -> bool:
        """Give a file a second name; False where the name is taken or the disk has no links."""
        try:
            self.call(
                "link", target.join(new), os.link, _place(source, old), _place(target, new),
                src_dir_fd=source.descriptor, dst_dir_fd=target.descriptor, **_LINK_ITSELF,
            )  # fmt: skip
        except StorageError as error:
            if error.errno in _NO_LINK:
                return False
            raise
        return True

    def point(self, directory: Directory, name: str, target: str, data: bytes) -> bool:
        """
        Make `name` stand for the file `target`: a symlink, or a copy of `data` on Windows.

        It is a hint for people and for Rust: atomic, not synced on its own; False where the
        disk has no symlinks.
        """
        temporary = random_name(".tmp_cp_")
        try:
            if directory.descriptor is None:
                with self.created(directory, temporary) as descriptor:
                    self.write_at(descriptor, data, 0, directory.join(temporary))
            else:
                self.call(
                    "symlink", directory.join(temporary), os.symlink, target, temporary,
                    dir_fd=directory.descriptor,
                )  # fmt: skip
                self._give_to_owner(directory, temporary)
            self.reached("before_rename_pointer")
            self.rename(directory, temporary, name)
        except BaseException as error:
            self.discard(directory, temporary)
            if isinstance(error, StorageError) and _has_no_symlinks(error):
                return False
            raise
        return True

    def pointed_at(self, directory: Directory, name: str) -> str | None:
        """Return what a symlink names; None when there is none, or a plain file instead."""
        return self._found(_NO_SYMLINK, "read link", directory, name, _READ_LINK)

    def unlink(self, directory: Directory, name: str) -> bool:
        """Remove a file; False when it is not there."""
        return self._is_done(_GONE, "remove", directory, name, os.unlink)

    def discard(self, directory: Directory, name: str) -> None:
        """Remove a file on the way out of an error, which stays the one reported."""
        with contextlib.suppress(StorageError):
            self.unlink(directory, name)

    def status(self, directory: Directory, name: str) -> FileStatus | None:
        """Return the status of an entry, not following a symlink; None when it is not there."""
        found = self._found(_MISSING, "stat", directory, name, os.stat, follow_symlinks=False)
        return found and _status(found)

    def read(self, directory: Directory, name: str, max_bytes: int) -> bytes | None:
        """
        Return the content of a regular file; None when it is not there.

        Raises:
            NotACheckpointError: for a directory, FIFO, device or symlink.
            CheckpointTooLargeError: over `max_bytes`, before anything is read.
        """
        descriptor = self._open_to_read(directory, name)
        if descriptor is None:
            return None
        path = directory.join(name)
        try:
            size = self._regular_size(descriptor, path)
            if size > max_bytes:
                raise CheckpointTooLargeError(path, size, max_bytes)
            return self.read_at(descriptor, size, 0, path)
        finally:
            self.close(descriptor, path)

    def read_ends(
        self, directory: Directory, name: str, end_bytes: int
    ) -> tuple[bytes, bytes] | None:
        """Return the first and the last bytes of a regular file, the whole of a short one first."""
        descriptor = self._open_to_read(directory, name)
        if descriptor is None:
            return None
        path = directory.join(name)
        try:
            size = self._regular_size(descriptor, path)
            if size <= 2 * end_bytes:
                return self.read_at(descriptor, size, 0, path), b""
            head = self.read_at(descriptor, end_bytes, 0, path)
            return head, self.read_at(descriptor, end_bytes, size - end_bytes, path)
        finally:
            self.close(descriptor, path)

    # Files that stay open: the log's

    def open_file(
        self, directory: Directory, name: str, *, write: bool = False, create: bool = False
    ) -> int | None:
        """
        Open a file to read, or to write as well, anywhere in it; 0600 if it is made.

        Returns:
            its descriptor, None when it is not there; a forked child closes it.

        Raises:
            StorageError: also of what is no file: a lock of such a thing would be nobody's.
        """
        flags = (os.O_RDWR if write else os.O_RDONLY) | system.O_NONBLOCK | _SAFELY
        flags |= os.O_CREAT if create else 0
        path = directory.join(name)
        try:
            descriptor = self._found(_MISSING, "open", directory, name, _open_file, flags)
        except StorageError as error:
            if error.errno not in _OF_OTHERS:
                raise
            raise StorageError("open", path, error.errno, NO_FILE) from error
        if descriptor is None:
            return None
        _not_for_children.add(descriptor)
        with _ClosedIfFailed(self, descriptor, path):
            if not stat.S_ISREG(self.call("stat", path, os.fstat, descriptor).st_mode):
                raise StorageError("open", path, None, NO_FILE)
            if create:
                self._give_to_owner(directory, name)
        return descriptor

    def lock_file(self, descriptor: int, path: str) -> None:
        """Lock an open file against all others, waiting as long as it takes."""
        self.call("lock", path, system.lock_file, descriptor)

    def try_lock_file(self, descriptor: int, path: str, *, shared: bool = False) -> bool:
        """Lock an open file, shared or alone; False when that is not possible now."""
        return self.call("lock", path, system.try_lock_file, descriptor, shared=shared)

    def await_lock(self, path: str, seconds: float) -> None:
        """Let a while pass in which somebody else may give a lock back."""
        self.call("lock", path, system.await_lock, seconds)

    def is_lock_free(self, descriptor: int, path: str) -> bool:
        """Tell whether nobody has an open file locked alone, without holding it for a moment."""
        return self.call("lock", path, system.is_lock_free, descriptor)

    def unlock_file(self, descriptor: int, path: str) -> None:
        """Give back the lock of an open file."""
        self.call("unlock", path, system.unlock_file, descriptor)

    def is_locked(self, directory: Directory, name: str) -> bool:
        """Tell whether somebody has a file locked alone; False where it is not there."""
        descriptor = self.open_file(directory, name)
        if descriptor is None:
            return False
        path = directory.join(name)
        try:
            return not self.try_lock_file(descriptor, path, shared=True)
        finally:
            self.close(descriptor, path)

    def leads_to(self, path: str, descriptor: int) -> bool:
        """Tell whether a path leads to an open file."""
        return self.still_leads_to(path, self.open_status(descriptor, path))

    def open_status(self, descriptor: int, path: str) -> FileStatus:
        """Return the status of an open file."""
        return _status(self.call("stat", path, os.fstat, descriptor))

    def read_at(self, descriptor: int, size: int, offset: int, path: str) -> bytes:
        """Return bytes of an open file, fewer at its end."""
        data = self.call("read", path, system.read_at, descriptor, size, offset)
        if len(data) == size or not data:
            return data
        pieces = [data]
        while data and (size := size - len(data)):
            offset += len(data)
            data = self.call("read", path, system.read_at, descriptor, size, offset)
            pieces.append(data)
        return b"".join(pieces)

    def write_at(self, descriptor: int, data: bytes | memoryview, offset: int, path: str) -> None:
        """Write all of `data` at an offset; the kernel may take it in pieces."""
        while data:
            written = self.call("write", path, system.write_at, descriptor, data, offset)
            if written == len(data):
                return
            if written == 0:
                raise StorageError("write", path, None, "the system wrote 0 bytes")
            data = memoryview(data)[written:]
            offset += written

    def sync_data(self, descriptor: int, path: str) -> None:
        """Make a file's content durable, its size too, its times not: fdatasync."""
        self.call("sync data", path, system.data_sync, descriptor)

    # Syncing what is closed

    def sync_name(self, directory: Directory, name: str) -> None:
        """Make the content of a file durable, if it is there."""
        descriptor = self._open_to_read(directory, name)
        if descriptor is not None:
            path = directory.join(name)
            try:
                self.sync_file(descriptor, path)
            finally:
                self.close(descriptor, path)

    def sync_everything(self, directory: Directory) -> bool:
        """
        Make everything on the disk of an open directory durable, in one call.

        Returns:
            False where the system has no `syncfs` that reports errors (it does since
            Linux 5.8): sync each file then.
        """
        if system.syncfs is None or directory.descriptor is None:
            return False
        self.call("sync disk", directory.path, system.syncfs, directory.descriptor)
        return True

    def _open_to_read(self, directory: Directory, name: str) -> int | None:
        try:
            return self._found(_MISSING, "open", directory, name, os.open, _OPEN_TO_READ)
        except StorageError as error:
            kind = _OF_OTHERS.get(error.errno)
            if kind is not None:
                raise NotACheckpointError(error.path, kind) from error
            raise

    def _regular_size(self, descriptor: int, path: str) -> int:
        found = self.call("stat", path, os.fstat, descriptor)
        if not stat.S_ISREG(found.st_mode):
            kind = "a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file"
            raise NotACheckpointError(path, kind)
        return found.st_size


# A forked child shares its parent's locks for as long as it keeps these open: after the
# parent's death nobody could commit.
_not_for_children: set[int] = set()


def _close_in_child() -> None:
    for descriptor in _not_for_children:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _not_for_children.clear()
    global _unguessable, _process_id  # noqa: PLW0603 - the child must not go on as its parent
    _process_id = os.getpid()
    _unguessable = count(secrets.randbits(63))
    reseed_ids()


if not system.IS_WINDOWS:
    os.register_at_fork(after_in_child=_close_in_child)


def _is_root() -> bool:
    return not system.IS_WINDOWS and os.geteuid() == 0


def _place(directory: Directory, name: str) -> str:
    """Return how to call an entry: by name beside a descriptor, by path without one."""
    return directory.join(name) if directory.descriptor is None else name


def _handle(directory: Directory) -> int | str:
    return directory.path if directory.descriptor is None else directory.descriptor


def _names_in(target: int | str) -> list[str]:
    if isinstance(target, str):
        return os.listdir(target)
    # Threads that list one descriptor at a time share its place in the directory, and miss names.
    own = os.open(".", _OPEN_DIRECTORY, dir_fd=target)
    try:
        return os.listdir(own)
    finally:
        os.close(own)


def _make_directory(place: str, *, dir_fd: int | None) -> None:
    os.mkdir(place, _DIRECTORY_MODE, dir_fd=dir_fd)
    found = os.stat(place, dir_fd=dir_fd)
    if _DIRECTORY_MODE & ~found.st_mode:  # the umask took it from its owner
        os.chmod(place, _DIRECTORY_MODE, dir_fd=dir_fd)


def _open_file(place: str, flags: int, *, dir_fd: int | None) -> int:
    descriptor = os.open(place, flags, _FILE_MODE, dir_fd=dir_fd)
    try:
        is_made = flags & os.O_CREAT and not system.IS_WINDOWS
        if is_made and _FILE_MODE & ~os.fstat(descriptor).st_mode:  # see `_make_directory`
            os.fchmod(descriptor, _FILE_MODE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _has_no_symlinks(error: StorageError) -> bool:
    return error.operation == "symlink" and error.errno in _NOT_KNOWN_THERE
