"""List 8: a segment is replayed from its start, once or more, after what others did since."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from aiocheckpoint import CheckpointError
from aiocheckpoint._disk.files import Directory
from aiocheckpoint._engine.apply import Files
from aiocheckpoint._engine.sync import Touched
from tests.engine.disk import Disk
from tests.engine.files import KilledError
from tests.engine.kernel import CONTROL_PATH
from tests.engine.nodes import EVERYTHING, Image
from tests.engine.process import RECORDS, Process, Seen, make_record, outcome
from tests.formats import seal

pytestmark = pytest.mark.blocking

_LOG = "/.aiocheckpoint/log."
_ZEROES = bytes(512)
_SECOND_NS = 1_000_000_000
_RUST_STAMP = "29991123_101500"
_RUST_TIME = 32500001700 * _SECOND_NS


def _directory(disk: Disk, session: str) -> Path:
    return Path(disk.outer, "state", session, "checkpoints")


def _rust_saves(disk: Disk, session: str, checkpoint_id: str, serial: int) -> None:
    """Save as the Rust crate does, later than we did."""
    data = seal(RECORDS.draft(make_record(session, checkpoint_id, serial)))
    path = _directory(disk, session) / f"cp_{_RUST_STAMP}_{checkpoint_id}.json"
    disk.put(path, data, _RUST_TIME)


# What came to pass; each returns what is seen of the session afterwards, by the log and by Rust.


def _drop_and_rust(disk: Disk, process: Process) -> Seen:
    for key in ("a", "b"):
        process.save("s", key)
    process.tenure()
    process.drop("s")
    process.tenure()
    _rust_saves(disk, "s", "r", 1)
    return (("r", 1),)


def _drop_of_rust_and_rust(disk: Disk, process: Process) -> Seen:
    process.save("s", "a")
    process.tenure()
    _rust_saves(disk, "s", "old", 1)
    process.drop("s")
    process.tenure()
    _rust_saves(disk, "s", "a", 2)
    return (("a", 2),)


def _delete_and_rust(disk: Disk, process: Process) -> Seen:
    for key in ("a", "b"):
        process.save("s", key)
    process.tenure()
    process.delete("s", "a")
    process.tenure()
    _rust_saves(disk, "s", "a", 1)
    return (("b", 0), ("a", 1))


def _recovery(disk: Disk, process: Process) -> Seen:
    """Restore a damaged checkpoint from its backup, and quarantine one that has none."""
    for key in ("a", "b", "c"):
        process.save("s", key)
        process.tenure()  # so that the one before gets its backup
    backed, newest = (_file_of(disk, key) for key in ("b", "c"))
    for path in (backed, newest):
        disk.remove(path)
        disk.put(path, b"{ damaged")
    process.recover("s")
    return (("a", 0), ("b", 0))


def _file_of(disk: Disk, key: str) -> Path:
    (path,) = _directory(disk, "s").glob(f"cp_*_{key}.json")
    return path


def _drop_and_anew(disk: Disk, process: Process) -> Seen:
    for key in ("a", "b"):
        process.save("s", key)
    process.tenure()
    process.drop("s")
    process.save("s", "a", 1)
    process.tenure()
    return (("a", 1),)


def _drop_apart_and_anew(disk: Disk, process: Process) -> Seen:
    for key in ("a", "b"):
        process.save("s", key)
    process.drop("s")
    process.tenure()
    process.save("s", "c", 1)
    process.save("s", "a", 2)
    process.tenure()
    return (("c", 1), ("a", 2))


_STORIES = (
    _drop_and_rust, _drop_of_rust_and_rust, _delete_and_rust, _recovery, _drop_and_anew,
    _drop_apart_and_anew,
)  # fmt: skip


def _files(image: Image) -> dict[str, bytes]:
    """Return what others see: the sessions' files, and what each symlink names."""
    return {
        path: data or node.target.encode()
        for path, (node, data) in image.entries.items()
        if node.kind != "directory" and "/.aiocheckpoint/" not in path
    }


def _quarantined(image: Image) -> list[str]:
    return [p for p, (node, _) in image.entries.items() if "/quarantine/" in p if node.size]


def _with_log_of(image: Image, before: Image) -> Image:
    """Return an image with the log of an earlier one."""
    entries = {path: found for path, found in image.entries.items() if _LOG not in path}
    entries |= {path: found for path, found in before.entries.items() if _LOG in path}
    return Image(dict(sorted(entries.items())))


def _replay(disk: Disk, before: Image, step: int | None = None) -> bool:
    """Lose the shared positions, and apply all of an earlier log; tell whether it was killed."""
    image = _with_log_of(disk.image(EVERYTHING), before)
    disk.install(image, _ZEROES, CONTROL_PATH)
    process = Process(disk)
    process.to_write()
    process.files.dies_at = None if step is None else disk.steps + step
    error = outcome(process.flush)
    assert error is None or isinstance(error, KilledError)
    return error is not None


def _require_same(disk: Disk, expected: Seen, before: Image) -> None:
    after = disk.image(EVERYTHING)
    process = Process(disk)
    assert process.seen("s") == expected
    assert process.findings() == []
    assert _own(_files(after)) == _own(_files(before))
    assert len(_quarantined(after)) == len(_quarantined(before))


def _own(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the same without second names, which `check` sees to."""
    return {p: data for p, data in files.items() if not p.endswith((".backup", "latest.json"))}


@pytest.mark.parametrize("story", _STORIES)
def test_replayed(disk: Disk, story: Callable[[Disk, Process], Seen]) -> None:
    """What is replayed changes nothing, however often, whatever others have done since."""
    expected = story(disk, Process(disk))
    before = disk.image(EVERYTHING)
    assert Process(disk).seen("s") == expected
    for _ in range(3):
        _replay(disk, before)
        _require_same(disk, expected, before)


@pytest.mark.parametrize(
    "every", [2, pytest.param(1, marks=pytest.mark.campaign)], ids=["some", "all"]
)
@pytest.mark.parametrize("story", _STORIES)
@pytest.mark.some
@pytest.mark.few(2)
def test_replayed_and_killed(
    disk: Disk, story: Callable[[Disk, Process], Seen], every: int
) -> None:
    """It holds when the replay is cut off anywhere, and begun again."""
    expected = story(disk, Process(disk))
    before = disk.image(EVERYTHING)
    for step in itertools.count(step=every):
        disk.install(before)
        is_killed = _replay(disk, before, step)
        assert Process(disk).seen("s") == expected, f"after a kill at step {step}"
        _replay(disk, before)
        _require_same(disk, expected, before)
        if not is_killed:
            break


def _drop_whatever_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    remove = Files._remove

    def remove_all(
        files: Files, session: str, directory: Directory, wanted: object, touched: Touched
    ) -> None:
        if wanted.drops_session:  # type: ignore[attr-defined]
            for name in files._files.scan(directory):
                files._files.unlink(directory, name)
        remove(files, session, directory, wanted, touched)  # type: ignore[arg-type]

    monkeypatch.setattr(Files, "_remove", remove_all)


@pytest.mark.parametrize("story", [_drop_and_rust, _drop_and_anew])
def test_mutant_is_noticed(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, story: Callable[[Disk, Process], Seen]
) -> None:
    """A drop that removes whatever is there takes away what came after it."""
    _drop_whatever_is_there(monkeypatch)
    with pytest.raises((AssertionError, CheckpointError)):
        test_replayed(disk, story)
