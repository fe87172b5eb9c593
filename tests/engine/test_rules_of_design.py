"""The ten rules of the engine's design, one test for each."""

from __future__ import annotations

import contextlib
import errno
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePath

import pytest

from aiocheckpoint import (
    CheckpointCorruptError,
    DurabilityUnknownError,
    SessionChangedError,
    StorageError,
)
from aiocheckpoint._engine.changes import Save, Wake
from aiocheckpoint._format import documents, log, names
from tests.engine.conftest import SLOT_BYTES
from tests.engine.disk import Disk
from tests.engine.files import Call, KilledError
from tests.engine.kernel import CONTROL_PATH
from tests.engine.ledger import Ledger
from tests.engine.nodes import NOTHING
from tests.engine.process import Process, outcome

pytestmark = pytest.mark.blocking

_JOURNAL_BYTES = 128 << 10


def _directory(disk: Disk, session: str) -> Path:
    return Path(disk.outer, "state", session, "checkpoints")


def _log(disk: Disk) -> Path:
    return Path(disk.outer, CONTROL_PATH).with_name("log.0")


def test_rule_1_one_order(disk: Disk) -> None:
    """All processes decide by what all others have committed, and see it in one order."""
    processes = [Process(disk) for _ in range(3)]
    newest: str | None = None
    for serial in range(9):
        process, late = processes[serial % 3], processes[(serial + 1) % 3]
        process.save("s", f"c{serial}", serial, expected=newest)
        error = outcome(partial(late.save, "s", "no", expected=newest))
        assert isinstance(error, SessionChangedError)
        newest = f"c{serial}"
        assert error.newest_id == newest
    views = {process.seen("s") for process in processes}
    assert views == {tuple((f"c{serial}", serial) for serial in range(9))}


def _damages() -> list[int]:
    return [log.BLOCK_BYTES * block for block in range(7)]


@pytest.mark.parametrize("offset", _damages())
def test_rule_2_damage_is_told_from_a_torn_end(disk: Disk, offset: int) -> None:
    """Whatever block of the log is damaged, nothing older is returned silently."""
    process = Process(disk)
    process.save("s", "a")
    process.save("s", "large", 1, size=6_000)  # three blocks
    process.save("s", "b", 2)
    expected = process.seen("s")
    image = disk.image(NOTHING)
    ((path, (node, data)),) = [
        (path, found) for path, found in image.entries.items() if path.endswith("log.0")
    ]
    damaged = data[:offset] + b"\xa5" * log.BLOCK_BYTES + data[offset + log.BLOCK_BYTES :]
    image.entries[path] = (node, damaged)
    disk.install(image, disk.controls[-1], CONTROL_PATH)
    for process in (Process(disk), Process(disk)):
        process.to_write()
        reader = process.reader()
        losses = 0
        for checkpoint_id, serial in [(None, expected[-1][1]), *expected]:
            with contextlib.suppress(CheckpointCorruptError):
                losses += 1
                record = reader.load("s", checkpoint_id)
                assert record is not None
                assert record.iteration == serial
                losses -= 1
        kinds = {finding.kind for finding in process.findings()}
        assert not losses or kinds & {"damaged", "damaged-journal"}, (
            "what cannot be loaded is not reported"
        )


@pytest.mark.parametrize("number", [0, 1], ids=["of the first segment", "of the second"])
def test_rule_2_a_damaged_header(disk: Disk, number: int) -> None:
    """What stands in a segment is found, though its header is damaged, and is safe from then on."""
    process = Process(disk)
    process.save("s", "a")
    if number == 1:
        process.save("s", "large", 1, size=4 * SLOT_BYTES)
    process.save("s", "b", 2)
    expected = process.seen("s")
    image = disk.image(NOTHING)
    path = str(PurePath(CONTROL_PATH).with_name(f"log.{number}"))
    node, data = image.entries[path]
    image.entries[path] = (node, b"\xa5" * log.HEADER_BYTES + data[log.HEADER_BYTES :])
    disk.install(image, disk.controls[-1], CONTROL_PATH)
    process, reader = Process(disk), Process(disk)
    assert reader.seen("s") == process.seen("s") == expected
    process.save("s", "c", 3)
    for control in (b"", bytes(512)):
        disk.install(disk.image(NOTHING), control, CONTROL_PATH)
        assert Process(disk).seen("s") == (*expected, ("c", 3))


def test_rule_3_whole_frames_may_be_kept_and_refused_ones_not(disk: Disk) -> None:
    """A frame whose process died is counted by all or by none; one that was refused by none."""
    ledger = Ledger()
    one, two = Process(disk), Process(disk)
    ledger.save(one, "s", "a")
    one.files.before = _die_before_sync
    assert isinstance(ledger.save(one, "s", "whole"), KilledError)
    ledger.check(two, Process(disk))
    two.files.before = _refuse_sync(disk)
    assert isinstance(ledger.save(two, "s", "refused"), StorageError)
    two.files.before = None
    ledger.check(two, Process(disk))
    assert ledger.save(two, "s", "b") is None
    ledger.check(two, Process(disk))


def _die_before_sync(call: Call) -> None:
    if call.is_log_sync:
        call.owner.kill()
        raise KilledError


def _refuse_sync(disk: Disk) -> Callable[[Call], None]:
    is_over = False

    def before(call: Call) -> None:
        nonlocal is_over
        if call.is_log_sync and not is_over:
            is_over = True
            disk.fail_sync(call.descriptor)
            raise OSError(errno.EIO, "injected")

    return before


def test_rule_4_readers_change_nothing_and_wait_for_nobody(disk: Disk) -> None:
    """Who only reads sees all that was acknowledged, and neither writes nor locks out anybody."""
    writer = Process(disk)
    writer.save("s", "a", 1)
    writer.tenure()
    writer.save("s", "b", 2)
    writer.save("s", "a", 3)
    writer.kill()
    reader = Process(disk)
    steps = disk.steps
    calls: Counter[str] = Counter()
    reader.files.before = lambda call: calls.update([call.function])
    assert reader.seen("s") == (("b", 2), ("a", 3))
    assert disk.steps == steps
    assert calls["lock_file"] == 0
    other = Process(disk)
    with other.to_write().log.locked():  # it has looked: a lock that is held is not its concern
        assert reader.seen("s") == (("b", 2), ("a", 3))


def test_rule_5_what_was_removed_again_is_never_written(disk: Disk) -> None:
    """Of what is replaced, deleted and pruned before it is applied no file is made."""
    process = Process(disk, max_checkpoints=3, max_backups=1)
    for serial in range(6):
        process.save("s", f"c{serial}", serial)
    process.save("s", "c5", 9)
    process.save("s", "gone")
    process.delete("s", "gone")
    calls: Counter[str] = Counter()
    process.files.before = lambda call: calls.update([call.function] * ("/s/" in call.path))
    process.tenure()
    assert [key for key, _ in process.seen("s")] == ["c4", "c5"]
    assert calls["symlink"] == 1, "latest.json is set once a session and round"
    assert calls["replace"] == 2 + 1, "a file for each that is left, and the pointer"
    process.files.before = None
    before = disk.steps
    process.tenure()
    assert disk.steps == before, "applying again what is flushed changes nothing"


def test_rule_6_only_a_completed_flush_drops_frames(disk: Disk) -> None:
    """Until the files are durable the log has everything, wherever the applier ends."""
    for step in range(40):
        disk.wipe()
        process = Process(disk)
        process.save("s", "a", 1)
        process.files.dies_at = disk.steps + step
        error = outcome(process.tenure)
        disk.install(disk.image(NOTHING), [*disk.controls, b""][-1], CONTROL_PATH)
        assert Process(disk).seen("s") == (("a", 1),), f"after a kill at step {step}"
        if error is None:
            return
    pytest.fail("the applier does not end")


@pytest.mark.parametrize("wake", ["written", "synced", "flushed"])
def test_rule_7_a_durability_is_when_the_caller_wakes(disk: Disk, wake: Wake) -> None:
    """One pipeline: the caller wakes when the frame is written, is synced, or has its file."""
    process = Process(disk, wake=wake)
    process.save("s", "first")
    process.tenure()
    process.save("s", "a", 1)
    slot = disk.node_of(str(_log(disk)))
    assert slot is not None
    assert bool(slot.dirty) == (wake == "written")
    assert bool([*_directory(disk, "s").glob("cp_*_a.json")]) == (wake == "flushed")
    others = Process(disk)
    assert others.seen("s") == process.seen("s")
    disk.install(disk.image(NOTHING))
    seen = Process(disk).seen("s")
    assert seen == ((("first", 0),) if wake == "written" else (("first", 0), ("a", 1)))


def test_rule_8_it_is_bounded(disk: Disk) -> None:
    """Saves wait when so much is unflushed; removals do not; any single change passes at last."""
    process = Process(disk, max_journal_bytes=_JOURNAL_BYTES)
    count = 0
    while True:
        save = process.new_save("s", f"c{count}", size=8_000)
        process.commit(save)
        if not save.job.is_over:
            break
        count += 1
    unflushed = process.to_write().log.unflushed_bytes()
    assert _JOURNAL_BYTES // 2 < unflushed <= _JOURNAL_BYTES + 16_000
    assert process.delete("s", "c0") == 1
    assert process.drop("s") == count - 1
    assert not save.job.is_over
    process.tenure()
    process.commit(*_waiting(process))
    assert (save.job.is_over, save.job.error) == (True, None)
    process.save("s", "huge", size=3 * _JOURNAL_BYTES)
    assert [key for key, _ in process.seen("s")] == [f"c{count}", "huge"]


def _waiting(process: Process) -> list[Save]:
    waiting = [*process._committer._waiting]
    process._committer._waiting.clear()
    return waiting  # type: ignore[return-value]  # nothing else waits


def test_rule_9_nothing_acknowledged_fails_late(disk: Disk) -> None:
    """Files that cannot be written are tried again; reads go on, `flush` raises, `check` tells."""
    process, other = Process(disk), Process(disk)
    process.save("s", "a", 1)

    def before(call: Call) -> None:
        if call.operation == "create" and "/s/" in call.path:
            raise OSError(errno.EROFS, "injected")

    process.files.before = before
    for _ in range(3):
        assert isinstance(outcome(process.flush), StorageError)
        assert process.seen("s") == other.seen("s") == (("a", 1),)
    assert {finding.kind for finding in other.findings()} >= {"unwritten-session"}
    process.files.before = None
    process.flush()
    assert process.findings() == other.findings() == []


def test_rule_9_an_error_that_is_unknown_says_so(disk: Disk) -> None:
    """Where even a refusal cannot be made sure, the error is the one that says so."""
    process = Process(disk)
    process.save("s", "a")

    def before(call: Call) -> None:
        if call.is_log_sync:
            disk.fail_sync(call.descriptor)
            raise OSError(errno.EIO, "injected")

    process.files.before = before
    assert isinstance(outcome(lambda: process.save("s", "b")), DurabilityUnknownError)
    process.files.before = None
    process.save("s", "c")
    assert {key for key, _ in process.seen("s")} in ({"a", "c"}, {"a", "b", "c"})


@pytest.mark.parametrize("wake", ["synced", "flushed"])
def test_rule_10_others_see_whole_files(disk: Disk, wake: Wake) -> None:
    """At every moment each file that is there is whole; with `"file"` it is there at once."""
    process = Process(disk, wake=wake)
    looks = 0

    def look() -> None:
        nonlocal looks
        for path in _directory(disk, "s").glob("cp_*.json*"):
            documents.identity(documents.verified(path.read_bytes(), str(path)), str(path))
            looks += 1
        pointer = _directory(disk, "s") / names.LATEST_NAME
        assert not pointer.is_symlink() or pointer.exists()

    disk.on_step = look
    for serial in range(3):
        process.save("s", f"c{serial}", serial)
        process.save("s", "x", serial)
        if wake == "flushed":
            assert len([*_directory(disk, "s").glob("cp_*.json")]) == serial + 2
    process.flush()
    disk.on_step = None
    assert looks > 5
    assert len([*_directory(disk, "s").glob("cp_*.json")]) == 4
