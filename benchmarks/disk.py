"""The disk to measure: a directory, or a new file system on a loop device."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAKERS: dict[str, list[str]] = {
    # Everything is written at once: a thread of the kernel would do it while we measure.
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q"],
}
_IMAGE_BYTES = 6 << 30
_UNMOUNT_TRIES = 20


class DiskError(Exception):
    """The disk cannot be made; the text says why and what to do."""


@contextmanager
def empty_directory(disk: str) -> Iterator[Path]:
    """
    Make an empty directory to measure in, and remove it afterwards.

    Args:
        disk: a directory on it, which is made when it is not there; `"ext4"` or `"xfs"`: a new
            one, with a journal, for root.

    Raises:
        DiskError: it cannot be made.
    """
    if disk in MAKERS:
        with _mounted(disk) as directory:
            yield directory
        return
    parent = Path(disk).resolve()
    was_there = parent.exists()
    try:
        parent.mkdir(exist_ok=True)
    except OSError as error:
        raise DiskError(str(error)) from error
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)
        if not was_there:
            parent.rmdir()


@contextmanager
def _mounted(kind: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as scratch:
        image, mount_point = Path(scratch, "image"), Path(scratch, "mounted")
        mount_point.mkdir()
        device = _loop_device(image, MAKERS[kind])
        try:
            _run("mount", device, str(mount_point))
        finally:
            # Both are gone with the mount, however this process ends.
            _run("losetup", "--detach", device)
            image.unlink()
        try:
            yield Path(tempfile.mkdtemp(prefix="run-", dir=mount_point))
        finally:
            _unmount(mount_point)


def _loop_device(image: Path, maker: list[str]) -> str:
    with image.open("wb") as file:
        file.truncate(_IMAGE_BYTES)
    _run(*maker, str(image))
    # Direct, or the file beneath is a second cache, and each sync writes all of it.
    return _run("losetup", "--find", "--show", "--direct-io=on", str(image))


def _unmount(mount_point: Path) -> None:
    for _ in range(_UNMOUNT_TRIES):
        try:
            _run("umount", str(mount_point))
        except DiskError:
            time.sleep(0.1)  # a child that was killed may still be dying
        else:
            return
    _run("umount", "--lazy", str(mount_point))


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise DiskError(f"{command[0]} is not installed") from error
    except subprocess.CalledProcessError as error:
        message = error.stderr.strip()
        raise DiskError(f"{' '.join(command)}: {message} (needs root)") from error
    return done.stdout.strip()
