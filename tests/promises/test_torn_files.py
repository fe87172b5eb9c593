"""Files that a power cut left half written are made whole from the log, and never handed out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aiocheckpoint import blob_digest
from tests.on_disk import path_of
from tests.promises.conftest import Start
from tests.promises.places import holding, plain_ids, read_plainly
from tests.promises.records import Note, by_digest, note
from tests.promises.workers import Worker

_BLOB = b"a large value " * 3000
_SESSION_IDS = ["n0", "n1", "n2"]

# What may be in a file whose name is durable and whose content is not.
_TORN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "half": lambda content: content[: len(content) // 2],
    "half-zeros": lambda content: content[:512] + bytes(len(content) - 512),
}


@pytest.fixture(name="paths")
def _paths(start: Start, root: Path) -> list[Path]:
    """Return where the files of three notes and of their blob belong; a dead process saved them."""
    worker = start(record_type=Note)
    worker.save(note("other", "x"))
    worker.call("flush")
    with holding(root, "applier"):
        for name in _SESSION_IDS:
            worker.save(note("s", name, _BLOB, text=name * 1000), blobs=by_digest(_BLOB))
        paths = [path_of(meta) for meta in worker.list("s")]
        worker.kill()
    return [*paths, root / "s" / "blobs" / blob_digest(_BLOB)]


def _assert_whole(worker: Worker) -> None:
    assert worker.listed_ids("s") == tuple(reversed(_SESSION_IDS))
    for name in _SESSION_IDS:
        assert worker.call("load", "s", name) == note("s", name, _BLOB, text=name * 1000)
    assert worker.call("load_blobs", "s", [blob_digest(_BLOB)]) == by_digest(_BLOB)


@pytest.mark.parametrize("tear", _TORN.values(), ids=_TORN)
@pytest.mark.few(2)
def test_torn_by_a_power_cut(
    start: Start, root: Path, paths: list[Path], tear: Callable[[bytes], bytes]
) -> None:
    """What is torn under its own name is read from the log, and whole after a flush."""
    with holding(root, "applier"):
        _assert_whole(start(record_type=Note))  # nothing of it is a file yet
    other = root.with_name("other-root")
    _save_the_same(start, other)
    for path in paths:
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        if path.parent.name == "blobs":
            path.write_bytes(tear(_BLOB))
        else:
            checkpoint_id = path.stem.rsplit("_", 1)[1]
            path.write_bytes(tear(_file_of(other, checkpoint_id)))

    first = start(record_type=Note)
    _assert_whole(first)
    first.call("flush")
    _assert_whole(first)
    first.kill()
    assert plain_ids(root, "s") == _SESSION_IDS
    (blob,) = (root / "s" / "blobs").iterdir()
    assert blob.read_bytes() == _BLOB
    _assert_whole(start(record_type=Note))


def _save_the_same(start: Start, root: Path) -> None:
    worker = start(root, record_type=Note)
    for name in _SESSION_IDS:
        worker.save(note("s", name, _BLOB, text=name * 1000), blobs=by_digest(_BLOB))
    worker.close()


def _file_of(root: Path, checkpoint_id: str) -> bytes:
    (path,) = (root / "s" / "checkpoints").glob(f"cp_*_{checkpoint_id}.json")
    assert read_plainly(path)["checkpoint_id"] == checkpoint_id
    return path.read_bytes()
