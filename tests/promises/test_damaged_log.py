"""A log that was damaged: nothing older is ever returned silently, nothing else is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from aiocheckpoint import CheckpointError
from tests.promises import tasks
from tests.promises.conftest import Start
from tests.promises.places import files_with, holding
from tests.promises.records import record
from tests.promises.workers import Worker

_MARK = "this-is-where-it-is-damaged"


@pytest.fixture(name="killed")
def _killed(start: Start, root: Path) -> Worker:
    """Return a dead process whose last saves are in the log alone; one of them has the mark."""
    worker = start(max_journal_bytes=1 << 20)
    worker.save(record("s", "old"))
    _keep_control(root, 0)
    for name in ("u", "v", "w"):  # much, so that the first parts of the log are used again
        worker.call(tasks.save_many, name, "n", 30, 50_000)
        worker.call("delete_session", name)
        worker.call("flush")
    _keep_control(root, 1)
    worker.save(record("t", "old"))
    worker.call("flush")
    _keep_control(root, 2)
    with holding(root, "applier"):
        worker.call(tasks.save_many, "t", "n", 5)
        data = record("s", "new")
        data.resume_hint = _MARK
        worker.save(data)
        worker.save(record("new-one", "x"))
        worker.call(tasks.save_many, "t", "m", 5)
        worker.delete("t", "m3")
        worker.kill()
    return worker


def _keep_control(root: Path, number: int) -> None:
    shutil.copy2(root / ".aiocheckpoint" / "control", root.with_name(f"control-{number}"))


def _earlier(number: int) -> Callable[[Path], object]:
    """Return what puts back an earlier content, as a power cut does: it is never synced."""
    return lambda path: path.write_bytes(
        path.parents[1].with_name(f"control-{number}").read_bytes()
    )


_HARMS: dict[str, Callable[[Path], object]] = {
    "absent": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * 16),
    "earliest": _earlier(0),
    "earlier": _earlier(1),
    "early": _earlier(2),
    "a-copy": lambda path: Path(shutil.copy2(path, path.with_name("copy"))).replace(path),
}


@pytest.mark.parametrize("harm", _HARMS.values(), ids=_HARMS)
@pytest.mark.some(4)
@pytest.mark.few(2)
def test_without_its_control_file(
    start: Start, root: Path, killed: Worker, harm: Callable[[Path], object]
) -> None:
    """Whatever became of the control file after a crash, all that was acknowledged is there."""
    control = root / ".aiocheckpoint" / "control"
    assert control.is_file()
    harm(control)

    for _ in range(2):
        worker = start()
        assert worker.listed_ids("s")[-2:] == ("new", "old")
        listed = worker.listed_ids("t")
        assert listed[-10:] == ("m4", "m2", "m1", "m0", "n4", "n3", "n2", "n1", "n0", "old")
        worker.save(record("s", f"more{len(worker.list('s'))}"))
        worker.save(record("t", f"more{len(worker.list('t'))}"))
        worker.kill()
    assert start().listed_ids("s") == ("more3", "more2", "new", "old")


_FIRST_LOOKS: dict[str, Callable[[Worker], object]] = {
    "load": lambda worker: worker.load("s") == worker.load("s", "new"),
    "load-by-id": lambda worker: worker.load("t", "m2") == record("t", "m2", 2),
    "load-deleted": lambda worker: worker.load("t", "m3") is None,
    "load_many": lambda worker: worker.call("load_many", "t", ["n1"]) == (record("t", "n1", 1),),
    "list": lambda worker: worker.listed_ids("s") == ("new", "old"),
    "ids": lambda worker: worker.ids("s") == ("old", "new"),
    "sessions": lambda worker: worker.call(tasks.list_sessions) == ["new-one", "s", "t"],
    "copy_session": lambda worker: worker.call("copy_session", "s", "copy") == 2,
    "delete": lambda worker: worker.delete("t", "m2") and not worker.delete("t", "m3"),
    "condition": lambda worker: worker.save(record("s", "x"), expected="new") == "x",
    "recover": lambda worker: worker.call("recover", "s").newest_valid_id == "new",
}


@pytest.mark.parametrize("look", _FIRST_LOOKS.values(), ids=_FIRST_LOOKS)
@pytest.mark.some(4)
@pytest.mark.few(2)
def test_a_first_look_is_exact(
    start: Start, root: Path, killed: Worker, look: Callable[[Worker], object]
) -> None:
    """Whatever a process asks first after a crash, the answer knows all that was acknowledged."""
    _HARMS["early"](root / ".aiocheckpoint" / "control")
    assert look(start())


@pytest.mark.parametrize("harm", ["absent", "earliest", "early"])
@pytest.mark.few(1)
def test_first_looks_at_once(start: Start, root: Path, killed: Worker, harm: str) -> None:
    """Processes that come at once after a crash each know all from their first look on."""
    _HARMS[harm](root / ".aiocheckpoint" / "control")
    workers = [start() for _ in range(4)]
    expected = tuple(sorted(("old", *(f"n{n}" for n in range(5)), "m0", "m1", "m2", "m4")))
    calls = [
        (worker.begin("save", record(f"own{number}", "x")), worker.begin("ids", "t"))
        for number, worker in enumerate(workers)
    ]
    for save, ids in calls:
        save.result()
        assert ids.result() == expected[::-1]
    for worker in workers:
        assert worker.listed_ids("s") == ("new", "old")
        assert len(worker.call(tasks.list_sessions)) == 3 + len(workers)


@pytest.mark.damages_store
def test_a_damaged_save(start: Start, root: Path, killed: Worker) -> None:
    """A save that is damaged in the log raises until `recover`; what came after it is there."""
    (slot,) = files_with(root, _MARK)
    content = slot.read_bytes()
    slot.write_bytes(content.replace(_MARK.encode(), _MARK.upper().encode()))

    for _ in range(2):
        reader = start()
        for checkpoint_id in (None, "new"):
            with pytest.raises(CheckpointError) as refused:
                reader.load("s", checkpoint_id)
            assert type(refused.value) is not CheckpointError
        assert reader.load("s", "old") == record("s", "old")
        assert reader.listed_ids("t") == (
            *("m4", "m2", "m1", "m0"),
            *("n4", "n3", "n2", "n1", "n0", "old"),
        )
        assert reader.load("t", "m4") == record("t", "m4", 4)
        assert [found for found in reader.call("check") if found.kind.startswith("damaged")]
        reader.kill()

    worker = start()
    assert worker.call("recover", "s").newest_valid_id == "old"
    for some in (worker, start()):
        assert some.load("s") == record("s", "old")
        assert some.listed_ids("s") == ("old",)
    worker.save(record("s", "new", 2))
    assert start().load("s") == record("s", "new", 2)


@pytest.mark.damages_store
def test_a_torn_end(start: Start, root: Path, killed: Worker) -> None:
    """Bytes that a crash left behind the last save are no damage, and nothing is lost by them."""
    for slot in (root / ".aiocheckpoint").glob("log.*"):
        content = slot.read_bytes()
        blank = len(content) - len(content.rstrip(b"\0"))
        if 8192 < blank < len(content):
            end = -(-(len(content) - blank) // 4096) * 4096
            slot.write_bytes(content[:end] + b"\xa5" * 4096 + content[end + 4096 :])

    worker = start()
    assert worker.listed_ids("s") == ("new", "old")
    assert len(worker.list("t")) == 10
    worker.save(record("s", "more"))
    worker.close()
    assert start().call("check") == ()
