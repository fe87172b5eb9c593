"""What people do to directories in use: what was acknowledged afterwards is there afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from aiocheckpoint import CheckpointError
from tests.promises import tasks
from tests.promises.conftest import Start
from tests.promises.places import holding, plain_ids, wait_until
from tests.promises.records import record
from tests.promises.workers import Worker
from tests.trees import remove


def _saved(worker: Worker, name: str) -> bool:
    try:
        worker.save(record("s", name))
    except CheckpointError:
        return False
    return True


@pytest.mark.parametrize("part", ["", ".aiocheckpoint"], ids=["root", "private"])
def test_removed_while_in_use(start: Start, root: Path, part: str) -> None:
    """After an `rm -r` of the root, or of `.aiocheckpoint`, saves are not lost in what is gone."""
    one, two = start(), start()
    one.save(record("s", "before"))
    assert two.listed_ids("s") == ("before",)
    one.call("flush")
    remove(root / part)

    saved: list[str] = []
    for worker in (one, two):

        def saves(worker: Worker = worker) -> bool:
            name = f"n{len(saved)}"
            if _saved(worker, name):
                saved.append(name)
            return name in saved

        wait_until(saves, "a save works again")
    for some in (one, two, start()):
        expected = (*reversed(saved), *(["before"] if part else []))
        assert some.listed_ids("s") == expected
    for worker in (one, two):
        worker.kill()
    reader = start()
    assert reader.listed_ids("s") == expected
    reader.call("flush")
    assert plain_ids(root, "s") == list(reversed(expected))


def test_moved_away_while_in_use(start: Start, root: Path) -> None:
    """After a root was moved saves go to where its name leads; the moved one is a whole store."""
    one = start()
    one.call(tasks.save_many, "s", "n", 5)
    moved = root.with_name("moved")
    root.rename(moved)

    wait_until(lambda: _saved(one, "after"), "a save works again")
    assert start().ids("s") == ("after",)
    assert start(moved).listed_ids("s") == ("n4", "n3", "n2", "n1", "n0")


def test_copied_after_a_kill(start: Start, root: Path) -> None:
    """A copy of a whole root that nobody uses is a store like the first, and independent of it."""
    first = start()
    first.call(tasks.save_many, "s", "n", 5)
    first.delete("s", "n2")
    first.kill()
    copy = root.with_name("copy")
    shutil.copytree(root, copy, symlinks=True)

    in_copy, in_first = start(copy), start()
    for worker in (in_copy, in_first):
        assert worker.listed_ids("s") == ("n4", "n3", "n1", "n0")
    in_copy.save(record("s", "copied"))
    in_first.save(record("s", "first"))
    assert in_copy.delete("s", "n0")
    assert start(copy).listed_ids("s") == ("copied", "n4", "n3", "n1")
    assert start().listed_ids("s") == ("first", "n4", "n3", "n1", "n0")


def _without_a_bit_of_its_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)


_LACKS: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "a bit of the header": _without_a_bit_of_its_header,
    "no header": lambda path: path.write_bytes(bytes(4096) + path.read_bytes()[4096:]),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:6000]),
}


@pytest.mark.parametrize("lack", [None, *_LACKS.values()], ids=["whole", *_LACKS])
@pytest.mark.few(2)
def test_copied_with_a_part_of_the_journal(
    start: Start, root: Path, lack: Callable[[Path], object] | None
) -> None:
    """Of a copy that lacks acknowledged saves `check` says so; a whole one has them all."""
    first = start()
    first.save(record("s", "old"))
    first.call("flush")
    with holding(root, "applier"):
        first.call(tasks.save_many, "s", "n", 20, 1000)
        first.kill()
    copy = root.with_name("copy")
    shutil.copytree(root, copy, symlinks=True)
    if lack is not None:
        for part in (copy / ".aiocheckpoint").glob("log.*"):
            lack(part)
    in_copy = start(copy)
    kinds = {finding.kind for finding in in_copy.call("check")}
    assert ("damaged-journal" in kinds) == (lack is not None)
    assert (len(in_copy.listed_ids("s")) == 21) == (lack is None)
    assert {finding.kind for finding in start().call("check")} == {"unflushed-journal"}


@pytest.mark.damages_store
@pytest.mark.parametrize("is_open", [False, True], ids=["before", "beside a writer"])
@pytest.mark.parametrize("name", ["lock", "turn", "applier", "control", "log.0", "log.9"])
@pytest.mark.some(6)
def test_fifo_in_the_place_of_a_file_of_ours(
    start: Start, root: Path, tmp_path: Path, name: str, *, is_open: bool
) -> None:
    """Nobody waits for somebody to write into it: each call ends, and no error is a lie."""
    worker = start(lock_timeout_seconds=0.1)
    worker.save(record("s", "before"))
    worker.call("flush")
    if not is_open:
        worker.call("aclose")
        worker = start(lock_timeout_seconds=0.1)
    place = root / ".aiocheckpoint" / name
    aside = tmp_path / name
    if place.exists():
        place.rename(aside)
    os.mkfifo(place)
    saved = [name for name in ("one", "two") if _saved(worker, name)]
    for call in ("load", "flush", "check"):
        arguments = ["s"] if call == "load" else []
        with contextlib.suppress(CheckpointError):
            worker.call(call, *arguments)
    worker.kill()
    place.unlink()
    if aside.exists():
        aside.rename(place)
    assert {*saved, "before"} <= {*start().ids("s")}
