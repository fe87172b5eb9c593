"""Two processes on one root: whatever one has acknowledged is so for the other, at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import BlobNode, CheckpointCorruptError, MissingBlobError, blob_digest
from tests.on_disk import path_of
from tests.promises.conftest import Start
from tests.promises.places import holding
from tests.promises.records import Note, by_digest, note, record
from tests.promises.tasks import list_sessions
from tests.promises.workers import Worker

_FATES: dict[str, Callable[[Worker], None]] = {
    "running": lambda worker: None,
    "killed": Worker.kill,
    "stopped": Worker.stop_without_locks,
}


@pytest.fixture(name="first")
def _first(start: Start) -> Worker:
    """Return the process that has made the root."""
    worker = start()
    worker.save(record("other", "x"))
    return worker


@pytest.fixture(name="meet", params=_FATES)
def _meet(request: pytest.FixtureRequest) -> Callable[[Worker], None]:
    """Return what happens to the first process right after its last acknowledgement."""
    return _FATES[request.param]


@pytest.fixture(name="no_files", params=[False, True], ids=["", "nothing-applied"])
def _no_files(request: pytest.FixtureRequest, root: Path, first: Worker) -> Iterator[None]:
    """See to it that no file is written meanwhile, in one of two runs."""
    with holding(root, "applier") if request.param else contextlib.nullcontext():
        yield


@pytest.mark.parametrize("has_looked", [False, True], ids=["first-look", "has-looked"])
@pytest.mark.usefixtures("no_files")
@pytest.mark.some
def test_saves_are_seen(
    start: Start, first: Worker, meet: Callable[[Worker], None], *, has_looked: bool
) -> None:
    """What one process has acknowledged the other loads, lists and counts at once."""
    second = start()
    if has_looked:
        assert second.list("s") == ()
    saved = [record("s", name, number) for number, name in enumerate(("a", "c", "b"))]
    for data in saved:
        first.save(data)
    meet(first)

    assert second.load("s") == saved[-1]
    assert [second.load("s", data.checkpoint_id) for data in saved] == saved
    assert second.load("s", "d") is None
    assert second.listed_ids("s") == ("b", "c", "a")
    assert [meta.iteration for meta in second.list("s")] == [2, 1, 0]
    assert second.ids("s") == ("c", "b", "a")
    assert second.call("load_many", "s", ["a", "b"]) == (saved[0], saved[2])
    assert second.call(list_sessions) == ["other", "s"]


@pytest.mark.usefixtures("no_files")
@pytest.mark.some
def test_changes_are_made_to_them(
    start: Start, first: Worker, meet: Callable[[Worker], None]
) -> None:
    """What one process has acknowledged the other deletes, replaces, drops and copies."""
    for name in ("a", "b", "c", "d", "e"):
        first.save(record("s", name))
    first.save(record("dropped", "a"))
    meet(first)

    second = start()
    assert second.delete("s", "a")
    assert not second.delete("s", "a")
    assert second.save(record("s", "b", 1)) == "b"
    assert second.call("delete_many", "s", ["c", "d", "x"]) == 2
    assert second.call("delete_session", "dropped")
    assert not second.call("delete_session", "dropped")
    assert second.call("copy_session", "s", "copy") == 2

    first.go_on()
    for some in (second, start(), *([first] if first.is_alive else [])):
        assert _state(some, "s") == {"b": record("s", "b", 1), "e": record("s", "e")}
        assert _state(some, "dropped") == {}
        assert list(_state(some, "copy")) == ["b", "e"]
        assert some.call(list_sessions) == ["copy", "other", "s"]


def _state(worker: Worker, session_id: str) -> dict[str, Any]:
    """Return what is loaded by each id that is listed, newest first."""
    listed = worker.listed_ids(session_id)
    assert sorted(listed, reverse=True) == list(worker.ids(session_id))
    newest = worker.load(session_id)
    assert (newest.checkpoint_id if newest else None) == (listed[0] if listed else None)
    return {name: worker.load(session_id, name) for name in listed}


# Who ends how, in this order.
_ENDS: dict[str, list[tuple[str, Callable[[Worker], None]]]] = {
    "saver-closed-last": [("deleter", Worker.close), ("saver", Worker.close)],
    "deleter-closed-last": [("saver", Worker.close), ("deleter", Worker.close)],
    "both-killed": [("saver", Worker.kill), ("deleter", Worker.kill)],
    "deleter-killed-last": [("saver", Worker.close), ("deleter", Worker.kill)],
    "saver-killed-last": [("deleter", Worker.close), ("saver", Worker.kill)],
}


@pytest.mark.parametrize("ends", _ENDS.values(), ids=_ENDS)
@pytest.mark.some(2)
def test_a_delete_is_final(
    start: Start, first: Worker, ends: list[tuple[str, Callable[[Worker], None]]]
) -> None:
    """What was deleted does not come back, whoever wrote it, and however both processes end."""
    deleter = start()
    for name in ("gone", "kept", "replaced"):
        first.save(record("s", name))
    first.save(record("dropped", "a"))
    first.save(record("anew", "a"))
    assert deleter.delete("s", "gone")
    deleter.save(record("s", "replaced", 1))
    assert deleter.call("delete_session", "dropped")
    assert deleter.call("delete_session", "anew")
    first.save(record("anew", "b"))
    for who, end in ends:
        end({"saver": first, "deleter": deleter}[who])

    for _ in range(2):
        reader = start()
        assert list(_state(reader, "s")) == ["replaced", "kept"]
        assert reader.load("s", "replaced") == record("s", "replaced", 1)
        assert list(_state(reader, "dropped")) == []
        assert list(_state(reader, "anew")) == ["b"]
        assert reader.call(list_sessions) == ["anew", "other", "s"]
        reader.close()


def test_a_root_is_made_once(start: Start, tmp_path: Path) -> None:
    """Processes that make one root at the same moment share it: nothing of any is lost."""
    for attempt in range(3):
        workers = [start(tmp_path / f"new{attempt}" / "root") for _ in range(4)]
        saves = [w.begin("save", record("s", f"n{n}", n)) for n, w in enumerate(workers)]
        saves += [w.begin("save", record(f"s{n}", "x")) for n, w in enumerate(workers)]
        for save in saves:
            save.result()
        for worker in workers:
            assert worker.ids("s") == ("n3", "n2", "n1", "n0")
            worker.kill()
        reader = start(tmp_path / f"new{attempt}" / "root")
        assert sorted(reader.listed_ids("s")) == ["n0", "n1", "n2", "n3"]
        assert reader.call(list_sessions) == ["s", "s0", "s1", "s2", "s3"]


def test_one_order(start: Start, first: Worker) -> None:
    """Saves of two processes to one session are listed in the order of their acknowledgements."""
    second = start()
    for number in range(6):
        (first, second)[number % 2].save(record("s", f"n{number % 4}", number))

    for some in (first, second, start()):
        assert some.listed_ids("s") == ("n1", "n0", "n3", "n2")
        assert [meta.iteration for meta in some.list("s")] == [5, 4, 3, 2]


def test_recovery_is_shared(start: Start) -> None:
    """What one process has recovered the other reads as it is now, and goes on from there."""
    first, second = start(), start()
    for number, name in enumerate(("a", "b", "c")):
        first.save(record("s", name, number))
    first.call("flush")
    (newest, *_) = second.list("s")
    path_of(newest).write_bytes(path_of(newest).read_bytes().replace(b"c/2", b"c/3"))
    for some in (first, second, start()):
        with pytest.raises(CheckpointCorruptError) as refused:
            some.load("s")
        assert refused.value.newest_valid_id == "b"

    report = second.call("recover", "s")
    assert report.newest_valid_id == "b"
    assert [Path(path).is_file() for path in report.quarantined] == [True]
    for some in (first, second, start()):
        assert some.load("s") == record("s", "b", 1)
        assert some.listed_ids("s") == ("b", "a")
        assert some.load("s", "c") is None
    first.save(record("s", "c", 4))
    assert second.load("s") == record("s", "c", 4)


def test_blobs_below_others_are_shared(start: Start) -> None:
    """What one process builds upon another's blobs stays, whoever deletes; the rest goes."""
    first, second = start(record_type=Note), start(record_type=Note)
    pages = [b"%d" % number * 1000 for number in range(3)]
    below = BlobNode(map(blob_digest, pages[:2]), b"below")
    top = BlobNode(map(blob_digest, (below, pages[2])), b"top")
    first.save(note("s", "a", top), blobs=by_digest(top, below, *pages))
    other = BlobNode([blob_digest(below)], b"other")
    second.save(note("s", "b", other), blobs=by_digest(other))
    assert first.delete("s", "a")

    for some in (first, second, start(record_type=Note)):
        reached = by_digest(other, below, *pages[:2])
        assert some.call("load_blobs", "s", list(reached)) == reached
        for gone in (top, pages[2]):
            with pytest.raises(MissingBlobError):
                some.call("load_blobs", "s", [blob_digest(gone)])
        with pytest.raises(MissingBlobError):
            some.save(note("s", "c", top))
    assert second.delete("s", "b")
    first.call("flush")
    assert first.call("check") == ()
    with pytest.raises(MissingBlobError):
        first.save(note("s", "c", below))


def test_blobs_are_shared(start: Start) -> None:
    """A blob that one process has stored the other loads and refers to, and it stays for it."""
    first, second = start(record_type=Note), start(record_type=Note)
    blob = b"seen by both" * 1000
    first.save(note("s", "a", blob), blobs=by_digest(blob))
    (digest,) = by_digest(blob)

    assert second.call("load_blobs", "s", [digest]) == {digest: blob}
    second.save(note("s", "b", blob))
    assert first.delete("s", "a")

    for some in (first, second, start(record_type=Note)):
        assert some.call("load", "s") == note("s", "b", blob)
        assert some.call("load_blobs", "s", [digest]) == {digest: blob}
