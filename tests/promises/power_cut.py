"""
Power cuts of a real ext4 while two processes work on one root; for root on Linux.

    python -m tests.promises.power_cut --rounds 100 [--new-boot-id] [--durability file]

A round: two processes save, replace, delete and drop, each in sessions of its own and in one that
both share; they are killed and the file system is shut down without a flush, or the other way
round; it is unmounted and mounted again. Everything acknowledged must be there, whatever was
deleted must be gone, and of what was under way either is right. It exits with 1 if something is
not. Disk, mounts and boot id are its own: it runs in a mount namespace, which takes them with it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import math
import os
import random
import selectors
import shutil
import struct
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec

from aiocheckpoint import AsyncCheckpointWriter
from tests.crash.disks import Disk, why_no_disks
from tests.promises.places import plain_ids, plain_newest, session_files
from tests.promises.power_cut_oracle import Oracle, View
from tests.promises.power_cut_process import Failed, Line, Step, blobs_of, step

_PROJECT = Path(__file__).parents[2]
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_EXT4_IOC_SHUTDOWN = 0x8004587D
_WITHOUT_FLUSH = struct.pack("I", 2)
_DISK_BYTES = 512 << 20
_MOST_CALLS = 1500
_SHARE_LOOKED_AT = 0.7
_GUARD_SECONDS = 60.0
# What a crash may leave behind, and nobody is hurt by.
_REMAINS = frozenset({"leftover", "unused-blob"})


class BrokenPromiseError(AssertionError):
    """What is seen contradicts itself."""


def _require(kept: object, *what: object) -> None:
    if not kept:
        raise BrokenPromiseError(" ".join(map(str, what)))


async def look(root: Path) -> View:
    """
    Open the root, read everything, and close it.

    Raises:
        BrokenPromiseError: what one way of reading shows another does not.
    """
    async with AsyncCheckpointWriter(root, record_type=Step) as writer:
        session_ids = [session_id async for session_id in writer.sessions()]
        view = {session_id: await _look_at(writer, session_id) for session_id in session_ids}
        await writer.flush()
        findings = [found for found in await writer.check() if found.kind not in _REMAINS]
        _require(not findings, findings)
    return view


async def _look_at(writer: AsyncCheckpointWriter[Step], session_id: str) -> list[tuple[str, int]]:
    seen = []
    for meta in await writer.list(session_id):
        found = await writer.load(session_id, meta.checkpoint_id)
        _require(found is not None, f"{meta.checkpoint_id} is listed and does not load")
        assert found is not None
        made = step(session_id, meta.checkpoint_id, found.serial)
        _require(found == made, f"{meta.checkpoint_id} is not what was saved")
        blobs = await writer.load_blobs(session_id, found.blob_digests)
        _require(blobs == blobs_of(found.serial), f"blobs of {meta.checkpoint_id}")
        seen.append((meta.checkpoint_id, found.serial))
    ids = [checkpoint_id for checkpoint_id, _ in seen]
    told = list(await writer.ids(session_id))
    _require(sorted(ids, reverse=True) == told, f"{session_id} lists {ids}, ids gives {told}")
    newest = await writer.load(session_id)
    _require((newest.checkpoint_id if newest else None) == (ids[0] if ids else None), "newest")
    return seen


def require_plain(root: Path, view: View) -> None:
    """
    See that tools that are not this library find the same files.

    Raises:
        BrokenPromiseError: they do not.
    """
    for session_id, seen in view.items():
        ids = [checkpoint_id for checkpoint_id, _ in seen]
        plain = plain_ids(root, session_id)
        _require(plain == ids[::-1], f"files of {session_id} are {plain}, listed was {ids}")
        _require(not ids or plain_newest(root, session_id) == ids[0], "latest.json", session_id)
    for directory in root.glob("*/checkpoints"):
        name = directory.parent.name
        _require(name in view or not session_files(root, name), f"{name} has files: not listed")


class Machine:
    """
    A disk, what works on it, and what it must hold.

    Args:
        directory: an empty one, for the disk.
        durability: of the processes.
        seed: of all choices.

    Attributes:
        oracle: what it must hold.
        wrong: what was found not to be as promised.
    """

    def __init__(self, directory: Path, durability: str, seed: int) -> None:
        self.oracle = Oracle()
        self.wrong: list[str] = []
        self._dice = random.Random(seed)
        self._durability = durability
        self._directory = directory
        self._disk = Disk(directory, _DISK_BYTES)
        self._disk.attach()
        self._root = self._disk.path / "state"

    def live(self, number: int) -> None:
        """Let two processes work until the power goes."""
        goal = round(math.exp(self._dice.uniform(0, math.log(_MOST_CALLS))))
        is_cut_first = self._dice.random() < 0.5
        with tempfile.TemporaryFile(dir=self._directory) as errors:
            processes = [self._start(number, name, errors.fileno()) for name in ("p0", "p1")]
            lines = _lines_until(processes, goal)
            if is_cut_first:
                self._cut()
            for process in processes:
                process.kill()
            if not is_cut_first:
                for process in processes:
                    process.wait(_GUARD_SECONDS)
                self._cut()
            for process in processes:
                with process:  # its pipe ends when it is dead
                    assert process.stdout is not None
                    lines[process.pid] += process.stdout.read()
        told = [
            msgspec.json.decode(line, type=Line) for t in lines.values() for line in t.splitlines()
        ]
        for line in told:
            if isinstance(line, Failed) and (not is_cut_first or "Assertion" in line.error):
                self.wrong.append(f"in round {number} {line.task} failed: {line.error}")
        self.wrong += self.oracle.lived(told)

    def _start(self, number: int, name: str, errors: int) -> subprocess.Popen[bytes]:
        serial = number * 10_000_000 + int(name[1:]) * 1_000_000
        arguments = [self._root, name, self._dice.random(), serial, self._durability]
        command = [sys.executable, "-m", "tests.promises.power_cut_process"]
        return subprocess.Popen(
            [*command, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=_PROJECT,
            bufsize=0,
        )

    def _cut(self) -> None:
        descriptor = os.open(self._disk.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _EXT4_IOC_SHUTDOWN, _WITHOUT_FLUSH)
        finally:
            os.close(descriptor)

    def restart(self) -> None:
        """Mount the disk again."""
        self._disk.detach()
        self._disk.attach()

    def inspect(self, number: int, keep: Path | None) -> None:
        """See that everything is as promised; if not, leave a copy of the root as it was found."""
        if keep:
            shutil.copytree(self._root, keep / str(number), symlinks=True)
        count = len(self.wrong)
        try:
            view = asyncio.run(look(self._root))
            self.wrong += [f"round {number}: {what}" for what in self.oracle.saw(view)]
            require_plain(self._root, view)
            _require(asyncio.run(look(self._root)) == view, "opening it again shows something else")
        except Exception as error:  # noqa: BLE001 - whatever it is: the promise is broken
            self.wrong.append(f"round {number}: {type(error).__name__}: {error}")
        if keep and len(self.wrong) == count:
            shutil.rmtree(keep / str(number))

    def close(self) -> None:
        """Unmount the disk."""
        self._disk.detach()


def _lines_until(processes: list[subprocess.Popen[bytes]], goal: int) -> dict[int, bytes]:
    """Read what processes tell until so many calls were acknowledged, or one has ended."""
    told = {process.pid: b"" for process in processes}
    acknowledged = 0
    with selectors.DefaultSelector() as selector:
        for process in processes:
            assert process.stdout is not None
            selector.register(process.stdout, selectors.EVENT_READ, process)
        while acknowledged < goal:
            ready = selector.select(_GUARD_SECONDS)
            assert ready, f"nothing was told for {_GUARD_SECONDS} s"
            for key, _ in ready:
                chunk = os.read(key.fd, 1 << 16)
                told[key.data.pid] += chunk
                acknowledged += chunk.count(b'"Returned"')
                if not chunk:
                    return told
    return told


@contextlib.contextmanager
def own_boot_id(directory: Path) -> Iterator[Path]:
    """Have this process and its children see a boot id that is in a file."""
    path = directory / "boot_id"
    path.write_text(f"{uuid.uuid4()}\n")
    subprocess.run(["mount", "--bind", path, _BOOT_ID], check=True)
    try:
        assert _BOOT_ID.read_text() == path.read_text()
        yield path
    finally:
        subprocess.run(["umount", _BOOT_ID], check=True)


def run(directory: Path, options: argparse.Namespace) -> int:
    """Run the rounds and print what came of them; return the exit status."""
    keep = Path(options.keep) if options.keep else None
    looks = 0
    with contextlib.ExitStack() as stack:
        boot = stack.enter_context(own_boot_id(directory)) if options.new_boot_id else None
        machine = Machine(directory, options.durability, options.seed)
        stack.callback(machine.close)
        dice = random.Random(options.seed)
        for number in range(1, options.rounds + 1):
            machine.live(number)
            machine.restart()
            if boot:
                boot.write_text(f"{uuid.uuid4()}\n")
            if number == options.rounds or dice.random() < _SHARE_LOOKED_AT:
                machine.inspect(number, keep)
                looks += 1
    print(*machine.wrong, sep="\n", end="\n" if machine.wrong else "")
    print(
        f"{options.rounds} rounds, {'each with a' if boot else 'without a'} new boot id, "
        f"{machine.oracle.acknowledged:,} acknowledged calls, looked at {looks} times, "
        f"{len(machine.wrong)} violations"
    )
    return 1 if machine.wrong else 0


def main() -> int:
    """Run it in a mount namespace of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new-boot-id", action="store_true", help="a new one after each cut")
    parser.add_argument("--durability", choices=["journal", "file"], default="journal")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", help="an empty directory for the roots that show a violation")
    parser.add_argument("--is-private", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.is_private:
        command = [sys.executable, "-m", "tests.promises.power_cut", *sys.argv[1:], "--is-private"]
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", *command])
    with tempfile.TemporaryDirectory() as directory:
        (probe := Path(directory) / "probe").mkdir()
        if why := why_no_disks(probe):
            sys.exit(why)
        (place := Path(directory) / "machine").mkdir()
        return run(place, options)


if __name__ == "__main__":
    sys.exit(main())
