"""Where numbers come from: machine, kernel, disk, versions; and how the disk feels just now."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from msgspec import Struct

_PACKAGES = (
    "aiocheckpoint",
    "msgspec",
    "aiofiles",
    "anyio",
    "langgraph",
    "langgraph-checkpoint-sqlite",
    "lmdb",
    "rocksdict",
)
_IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_PROBE_BYTES = bytes(8192)


class FileSystem(Struct, frozen=True):
    """
    What a directory lives on.

    Attributes:
        kind: `"ext4"`; `"unknown"` where the system does not tell.
        device: as the kernel calls it.
        options: of the mount.
        is_journaled: whether an ext file system has a journal; None for others.
    """

    kind: str
    device: str
    options: str
    is_journaled: bool | None

    @property
    def is_in_memory(self) -> bool:
        """Whether nothing on it is durable."""
        return self.kind in _IN_MEMORY


def file_system(directory: Path) -> FileSystem:
    """Return what a directory lives on, as the Linux kernel tells it."""
    found = directory.stat().st_dev
    number = f"{os.major(found)}:{os.minor(found)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return FileSystem("unknown", "unknown", "", None)
    for mount in mounts:
        left, _, right = mount.partition(" - ")
        if left.split()[2] == number:
            kind, device, options = right.split()[:3]
            name = Path(device).name
            journaled = any(Path("/proc/fs/jbd2").glob(f"{name}-*"))
            return FileSystem(kind, device, options, journaled if kind.startswith("ext") else None)
    return FileSystem("unknown", number, "", None)


class Probe(Struct, frozen=True):
    """
    How long the disk takes for the two things that everything is made of, in microseconds.

    Attributes:
        create_file: a new file of no bytes, closed; not synced.
        floor: 8 KiB written in place and `fdatasync`.
        load_average: of the last minute.
    """

    create_file: float
    floor: float
    load_average: float


def probe(directory: Path, repeats: int) -> Probe:
    """Measure the disk under `directory`."""
    directory = directory / f"probe-{time.monotonic_ns()}"
    directory.mkdir()
    created = [_timed((directory / f"{number}").touch) for number in range(repeats)]
    descriptor = os.open(directory / "synced", os.O_CREAT | os.O_RDWR)

    def write(number: int) -> None:
        os.pwrite(descriptor, _PROBE_BYTES, number * len(_PROBE_BYTES))
        os.fdatasync(descriptor)

    try:
        os.pwrite(descriptor, _PROBE_BYTES * repeats, 0)
        os.fsync(descriptor)
        written = [_timed(partial(write, number)) for number in range(repeats)]
    finally:
        os.close(descriptor)
    load = os.getloadavg()[0]
    return Probe(statistics.median(created) * 1e6, statistics.median(written) * 1e6, load)


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


class Environment(Struct, frozen=True):
    """What a reader needs to judge the numbers."""

    machine: str
    processor: str
    cpus: int
    system: str
    file_system: FileSystem
    python: str
    packages: dict[str, str]

    @classmethod
    def of(cls, directory: Path) -> Environment:
        """Return the environment of a run in `directory`."""
        return cls(
            machine=platform.machine(),
            processor=_processor(),
            cpus=_usable_cpus(),
            system=f"{platform.system()} {platform.release()}",
            file_system=file_system(directory),
            python=f"{platform.python_implementation()} {platform.python_version()}"
            + ("" if getattr(sys, "_is_gil_enabled", lambda: True)() else " without GIL"),
            packages={package: _installed(package) for package in _PACKAGES},
        )

    def lines(self) -> list[str]:
        """Return it for people."""
        disk = self.file_system
        journal = {True: ", with journal", False: ", WITHOUT JOURNAL", None: ""}[disk.is_journaled]
        memory = ", IN MEMORY: NOTHING HERE IS DURABLE" if disk.is_in_memory else ""
        return [
            f"- machine: {self.processor}, {self.machine}, {self.cpus} CPUs, {self.system}",
            f"- file system: {disk.kind} on {disk.device}{journal}{memory} ({disk.options})",
            f"- {self.python}; " + ", ".join(f"{k} {v}" for k, v in self.packages.items()),
        ]


def probe_line(moment: str, found: Probe) -> str:
    """Return a probe for people."""
    return (
        f"- {moment}: creating a file {found.create_file:.0f} us, "
        f"floor (pwrite of 8 KiB and fdatasync) {found.floor:.0f} us, "
        f"load average {found.load_average:.2f}"
    )
