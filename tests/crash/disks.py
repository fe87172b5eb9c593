"""Small real disks: ext4 on a loop device, and tmpfs. For root on Linux."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TOOLS = ("mount", "umount", "mkfs.ext4", "losetup")
_LOOKS = 1000


def _run(*command: str | Path) -> None:
    subprocess.run([*map(str, command)], check=True, capture_output=True)


def _let_go(path: Path) -> None:
    """Unmount at once, or when a test that failed lets go of its files."""
    if path.is_mount():
        _run("umount", "--lazy", path)


class Disk:
    """
    An ext4 on a loop device.

    Args:
        directory: an empty one, for the image and the mount point.
        size_bytes: of the disk.
        options: of `mkfs.ext4`.

    Attributes:
        path: where it is mounted.
    """

    def __init__(self, directory: Path, size_bytes: int, *options: str) -> None:
        self._image = directory / "disk.img"
        self.path = directory / "disk"
        self.path.mkdir()
        with self._image.open("wb") as image:
            image.truncate(size_bytes)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", *options, self._image)

    def attach(self) -> None:
        """Mount it; the file system replays its own journal."""
        _run("mount", "-o", "loop", self._image, self.path)

    def detach(self) -> None:
        """Unmount it, and see that the loop device goes too, or it would be mounted as it is."""
        if self.path.is_mount():
            _run("umount", self.path)
        for _ in range(_LOOKS):
            if not subprocess.run(
                ["losetup", "-j", self._image], capture_output=True, check=True
            ).stdout:
                return


@contextmanager
def ext4(directory: Path, size_bytes: int, *options: str) -> Iterator[Disk]:
    """Mount a new ext4 and unmount it in the end."""
    disk = Disk(directory, size_bytes, *options)
    disk.attach()
    try:
        yield disk
    finally:
        _let_go(disk.path)


@contextmanager
def tmpfs(directory: Path, size_bytes: int) -> Iterator[Path]:
    """Mount a new tmpfs and unmount it in the end."""
    path = directory / "disk"
    path.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", path)
    try:
        yield path
    finally:
        _let_go(path)


@contextmanager
def filled(directory: Path, leaving_bytes: int = 0) -> Iterator[None]:
    """Fill the disk of a directory up to so many bytes, and free it again."""
    filler = directory / "filler"
    free = shutil.disk_usage(directory).free
    with filler.open("wb", buffering=0) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, max(free - leaving_bytes, 1))
            while not leaving_bytes and file.write(bytes(4096)):
                pass
        except OSError:
            assert not leaving_bytes
    try:
        yield
    finally:
        filler.unlink()


def why_no_disks(directory: Path) -> str:
    """Return why no disk can be mounted here; `""` if one can."""
    if not sys.platform.startswith("linux"):
        return "loop devices and the shutdown ioctl are Linux's"
    if os.geteuid() != 0:
        return "only root may mount a disk"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"there is no {', '.join(missing)}"
    try:
        with ext4(directory, 16 << 20):
            return ""
    except subprocess.CalledProcessError as error:
        return f"no loop device can be mounted: {error.stderr.decode().strip()}"
