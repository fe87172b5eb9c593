"""What differs between operating systems; called through `files` alone."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import time
from collections import deque
from collections.abc import Callable

IS_WINDOWS: bool = sys.platform == "win32"
if sys.platform == "win32":
    import msvcrt
else:
    import fcntl
    import resource

    _LOCK_AND_UNLOCK = (fcntl.LOCK_SH | fcntl.LOCK_NB, fcntl.LOCK_UN)

O_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
O_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
O_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
O_BINARY = getattr(os, "O_BINARY", 0)
O_DIRECTORY = getattr(os, "O_DIRECTORY", 0)

_MOUNTS_PATH = "/proc/self/mountinfo"
_BUSY = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK})


def max_open_directories() -> int:
    """Return how many directories may stay open: a third of what the system grants a process."""
    if sys.platform == "win32":
        return 0
    granted, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 512 if granted == resource.RLIM_INFINITY else min(granted // 3, 512)


def max_file_bytes() -> int:
    """Return how large the system lets a file of this process become."""
    if sys.platform == "win32":
        return sys.maxsize
    granted, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return sys.maxsize if granted == resource.RLIM_INFINITY else granted


def lock_file(descriptor: int) -> None:
    """Lock an open file against all others, waiting as long as it takes."""
    if sys.platform == "win32":
        while not try_lock_file(descriptor, shared=False):
            pass  # each try waits for ten seconds
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def await_lock(seconds: float) -> None:
    """Let a while pass in which somebody else may give a lock back."""
    time.sleep(seconds)


def try_lock_file(descriptor: int, *, shared: bool) -> bool:
    """Lock an open file, shared or alone, if nobody has it; Windows knows no shared locks."""
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True


def is_lock_free(descriptor: int) -> bool:
    """Tell whether nobody has an open file locked alone; the handler of no signal sees it held."""
    if sys.platform == "win32":
        is_free = try_lock_file(descriptor, shared=True)
        if is_free:
            unlock_file(descriptor)
        return is_free
    try:  # in one step of the interpreter
        deque(map(fcntl.flock, (descriptor, descriptor), _LOCK_AND_UNLOCK), maxlen=0)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True


def unlock_file(descriptor: int) -> None:
    """Give back the lock of an open file."""
    if sys.platform == "win32":
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Return up to `size` bytes of an open file."""
    if sys.platform == "win32":
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, size)
    return os.pread(descriptor, size, offset)


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> int:
    """Write into an open file, and return how much the system took."""
    if sys.platform == "win32":
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.write(descriptor, data)
    return os.pwrite(descriptor, data, offset)


def data_sync(descriptor: int) -> None:
    """Make a file's content durable, its size too, its times not."""
    if sys.platform.startswith("linux"):
        os.fdatasync(descriptor)
    else:
        full_sync(descriptor)


def full_sync(descriptor: int) -> None:
    """Make a file or directory durable: fsync, and F_FULLFSYNC where there is one (macOS)."""
    if sys.platform == "darwin":
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
        else:
            return
    os.fsync(descriptor)


def _find_syncfs() -> Callable[[int], None] | None:
    """Return `syncfs`, where it is there and reports what it could not write (Linux 5.8)."""
    if not sys.platform.startswith("linux"):
        return None
    release = tuple(int(part) for part in os.uname().release.split(".")[:2] if part.isdigit())
    function = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if function is None or release < (5, 8):
        return None

    def syncfs(descriptor: int) -> None:
        if function(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return syncfs


syncfs = _find_syncfs()


def free_room(descriptor: int | None) -> tuple[int, int]:
    """
    Return how many bytes and inodes this process may still take; `sys.maxsize` where unknown.

    Some file systems count no inodes: Btrfs has 0 in all, CephFS -1 free.
    """
    if sys.platform == "win32" or descriptor is None:
        return sys.maxsize, sys.maxsize
    found = os.fstatvfs(descriptor)
    is_root = os.geteuid() == 0
    blocks = found.f_bfree if is_root else found.f_bavail
    inodes = found.f_ffree if is_root else found.f_favail
    free_bytes = blocks * found.f_frsize if found.f_blocks else sys.maxsize
    return free_bytes, inodes if found.f_files and inodes >= 0 else sys.maxsize


def file_system_type(device: int) -> str:
    """Return the type of a mounted file system, as `"ext4"`; `""` where it cannot be told."""
    if not sys.platform.startswith("linux"):
        return ""
    number = f"{os.major(device)}:{os.minor(device)}"
    with open(_MOUNTS_PATH, encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            fields = line.split(" ")
            if fields[2] == number:
                return fields[fields.index("-") + 1]
    return ""
