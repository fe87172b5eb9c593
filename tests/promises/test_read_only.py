"""A root that may not be written: all that was acknowledged is there, saving says why it fails."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from aiocheckpoint import CheckpointError
from tests.command import run_command
from tests.crash.disks import ext4
from tests.promises import tasks
from tests.promises.conftest import Start
from tests.promises.places import holding
from tests.promises.records import record
from tests.promises.workers import Worker

_DISK_BYTES = 64 << 20


class Mount(NamedTuple):
    """
    A root that is written, and how to have it read-only.

    Attributes:
        root: may be written, until it is not any more.
        protect: returns where the same root may only be read.
    """

    root: Path
    protect: Callable[[], Path]


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def _remounted(directory: Path) -> Iterator[Mount]:
    """Mount a disk, which can be made read-only as a whole."""
    with ext4(directory, _DISK_BYTES) as disk:
        root = disk.path / "state"

        def protect() -> Path:
            _run("mount", "-o", "remount,ro", disk.path)
            return root

        yield Mount(root, protect)


@contextmanager
def _bound(directory: Path) -> Iterator[Mount]:
    """Show a root in a second place, where it may only be read."""
    root, place = directory / "state", directory / "read-only"
    place.mkdir()
    with ExitStack() as stack:

        def protect() -> Path:
            _run("mount", "--bind", root, place)
            stack.callback(_run, "umount", place)
            _run("mount", "-o", "remount,bind,ro", place)
            return place

        yield Mount(root, protect)


# Tests name these before `start`: then the processes are gone before it is unmounted.


@pytest.fixture(name="mount", params=[_remounted, _bound], ids=["remounted", "bound"])
def _mount(request: pytest.FixtureRequest, disk_directory: Path) -> Iterator[Mount]:
    with request.param(disk_directory) as mount:
        yield mount


@pytest.fixture(name="bound")
def _bound_mount(disk_directory: Path) -> Iterator[Mount]:
    with _bound(disk_directory) as mount:
        yield mount


def _fill(writer: Worker) -> None:
    """Do a bit of everything: `s` has a1 and b, `t` has 30, `dropped` has none."""
    writer.save(record("dropped", "x"))
    for name in ("a", "gone", "b"):
        writer.save(record("s", name, size=5000))
    writer.call("delete", "s", "gone")
    writer.call(tasks.save_many, "t", "n", 30)
    writer.call("delete_session", "dropped")
    writer.save(record("s", "a", 1))


def _assert_filled(reader: Worker) -> None:
    assert reader.listed_ids("s") == ("a", "b")
    assert reader.load("s") == record("s", "a", 1)
    assert reader.load("s", "b") == record("s", "b", size=5000)
    assert reader.load("s", "gone") is None
    assert reader.ids("s") == ("b", "a")
    assert reader.list("dropped") == ()
    assert reader.listed_ids("t") == tuple(f"n{number}" for number in reversed(range(30)))
    for number in range(30):
        assert reader.load("t", f"n{number}") == record("t", f"n{number}", number)
    assert reader.call(tasks.list_sessions) == ["s", "t"]


def _assert_only_read(reader: Worker) -> None:
    reader.call("check")  # what it finds depends on how far the files were written
    for target, *args in (
        ("save", record("s", "refused")),
        ("delete", "s", "a"),
        ("delete_session", "s"),
    ):
        with pytest.raises(CheckpointError) as refused:
            reader.call(target, *args)
        assert type(refused.value) is not CheckpointError
        assert str(reader.root) in str(refused.value)
    _assert_filled(reader)
    with suppress(CheckpointError):  # it could not even tell that it came
        reader.call("aclose")
    reader.end()


@pytest.mark.damages_store  # by then the disk is gone
@pytest.mark.parametrize("durability", ["journal", "file", "none"])
def test_after_the_last_owner_was_killed(mount: Mount, start: Start, durability: str) -> None:
    """Read-only, a root whose last owner was killed shows every acknowledged save."""
    owner = start(mount.root, durability=durability)
    _fill(owner)
    owner.kill()
    place = mount.protect()

    for _ in range(2):
        reader = start(place)
        _assert_filled(reader)
        reader.close()
        _assert_only_read(start(place))


@pytest.mark.damages_store
def test_beside_a_living_owner(bound: Mount, start: Start) -> None:
    """Through a read-only mount everything is there as soon as the owner has acknowledged it."""
    owner = start(bound.root)
    owner.save(record("first", "x"))
    reader = start(bound.protect())
    assert reader.call(tasks.list_sessions) == ["first"]
    owner.call("delete_session", "first")
    _fill(owner)
    _assert_filled(reader)
    for number in range(30):
        owner.save(record("s", "a", number))
        assert reader.load("s") == record("s", "a", number)
    owner.save(record("s", "a", 1))
    _assert_only_read(reader)
    owner.close()


@pytest.mark.damages_store
def test_a_backup(bound: Mount, start: Start, tmp_path: Path) -> None:
    """A copy of a flushed root without `.aiocheckpoint` is a whole store, also read-only."""
    original = tmp_path / "original"
    owner = start(original)
    _fill(owner)
    owner.call("flush")
    ignored = shutil.ignore_patterns(".aiocheckpoint")
    shutil.copytree(original, bound.root, symlinks=True, ignore=ignored)
    reader = start(bound.protect())
    _assert_filled(reader)
    assert reader.call("check") == ()
    _assert_only_read(reader)
    second = start(bound.root)
    _assert_filled(second)
    second.save(record("s", "b", 1))
    assert second.listed_ids("s") == ("b", "a")
    second.close()


def _snapshot(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (status.st_size, status.st_mtime_ns)
        for path in (root, *root.rglob("*"))
        for status in [path.lstat()]
    }


@pytest.mark.damages_store
def test_the_command_line(mount: Mount, start: Start, tmp_path: Path) -> None:
    """Each verb that looks works, also where a process was killed; one that writes says why not."""
    owner = start(mount.root)
    owner.save(record("dropped", "x"))
    with holding(mount.root, "applier"):  # or there is nothing to write
        _fill(owner)
        owner.kill()
    place = mount.protect()
    before = _snapshot(place)

    listed = run_command("list", place, "s", "--json")
    assert listed.returncode == 0, listed.stderr
    assert [meta["checkpoint_id"] for meta in json.loads(listed.stdout)] == [
        "a",
        "b",
    ]
    shown = run_command("show", place, "s", "a", "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["checkpoint_id"] == "a"
    sessions = run_command("sessions", place)
    assert sessions.returncode == 0, sessions.stderr
    assert "s" in sessions.stdout.split()
    assert run_command("verify", place).returncode == 0
    copied = run_command("copy", place, tmp_path / "copy")
    assert copied.returncode == 0, copied.stderr
    for verb in (("flush", place), ("recover", place, "s")):
        refused = run_command(*verb)
        assert refused.returncode in (1, 2)
        assert str(place) in refused.stderr
        assert "Traceback" not in refused.stderr
    assert _snapshot(place) == before
    reader = start(tmp_path / "copy")
    _assert_filled(reader)
    reader.close()
