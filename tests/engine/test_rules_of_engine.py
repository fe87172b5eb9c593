"""The five rules (a to e) that remove most cases, one test for each."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from aiocheckpoint import StorageError
from aiocheckpoint._format import log
from aiocheckpoint._format.log import Header
from tests.engine.disk import Disk
from tests.engine.files import Call, KilledError
from tests.engine.kernel import CONTROL_PATH
from tests.engine.ledger import Ledger
from tests.engine.nodes import EVERYTHING, FAILED_TOO, NOTHING
from tests.engine.process import Process, outcome

pytestmark = pytest.mark.blocking


def _private(disk: Disk) -> Path:
    return Path(disk.outer, CONTROL_PATH).parent


def _fail_next_sync(process: Process, *, kills: bool = False) -> None:
    """Let the next sync of the log fail, once."""

    def before(call: Call) -> None:
        if call.is_log_sync:
            process.files.before = None
            process.files.disk.fail_sync(call.descriptor)
            if kills:
                process.kill()
                raise KilledError
            raise OSError(errno.EIO, "injected")

    process.files.before = before


def _header(disk: Disk, number: int) -> Header:
    path = _private(disk) / f"log.{number}"
    header = log.parse_header(path.read_bytes(), str(path))
    assert header is not None
    return header


def _frames(disk: Disk, number: int) -> dict[int, bytes]:
    """Return the offsets of all blocks in a slot at which a frame of its segment begins."""
    data = (_private(disk) / f"log.{number}").read_bytes()
    segment = _header(disk, number).id
    blocks = range(log.HEADER_BYTES, len(data), log.BLOCK_BYTES)
    return {
        offset: data[offset : offset + log.BLOCK_BYTES]
        for offset in blocks
        if log.head_end(data[offset : offset + log.HEAD_BYTES], segment, offset)
    }


def test_rule_a_positions_are_lower_bounds(disk: Disk) -> None:
    """Who appends starts at the end of the valid chain, whatever the shared positions say."""
    ledger = Ledger()
    process = Process(disk)
    for serial in range(4):
        ledger.save(process, "s", f"c{serial}")
    image, (earliest, *_) = disk.image(NOTHING), disk.controls
    for control in (earliest, bytes(512), b"garbage" * 100, None):
        disk.install(image, control, CONTROL_PATH)
        other = Process(disk)
        assert ledger.copy().save(other, "s", "c4") is None
        frames = [*_frames(disk, 0)]
        assert len(frames) == 5
        assert [key for key, _ in other.seen("s")] == [f"c{serial}" for serial in range(5)]


def test_rule_b_a_descriptor_vouches_for_what_was_written_since(disk: Disk) -> None:
    """What was there before it was opened is written again, same bytes, before its first sync."""
    Process(disk).save("s", "first")
    victim = Process(disk)
    victim.seen("s")
    _fail_next_sync(victim, kills=True)
    assert isinstance(outcome(lambda: victim.save("s", "lost")), KilledError)
    frames = _frames(disk, 0)
    last = max(frames)

    written: list[tuple[str, bytes]] = []

    def before(call: Call) -> None:
        if call.is_log_sync:
            written.append(("sync", b""))
        elif call.function == "write_at" and "/log." in call.path:
            written.append(("write", b""))

    other = Process(disk)
    other.files.before = before
    other.save("s", "next")
    assert [kind for kind, _ in written[:2]] == ["write", "sync"]
    assert _frames(disk, 0)[last] == frames[last]
    disk.install(disk.image(NOTHING))
    assert [key for key, _ in Process(disk).seen("s")] == ["first", "lost", "next"]


def test_rule_c_nothing_is_applied_before_it_is_synced(disk: Disk) -> None:
    """With `"none"`, too, a session's directory is touched only when the log is durable."""
    process = Process(disk, wake="written")
    process.save("s", "a")
    process.tenure()
    process.save("s", "a", 1)
    process.save("t", "b", 1)
    touched: list[str] = []

    def before(call: Call) -> None:
        is_written = call.function == "write_at" and "/.aiocheckpoint/" not in call.path
        if is_written or call.function in ("symlink", "replace", "unlink", "_make_directory"):
            node = disk.node_of(str(_private(disk) / "log.0"))
            assert node is not None
            assert not node.dirty, f"{call.operation} {call.path} before the log is durable"
            touched.append(call.path)

    assert disk.node_of(str(_private(disk) / "log.0")).dirty  # type: ignore[union-attr]
    process.files.before = before
    process.tenure()
    assert any("/s/checkpoints/" in path for path in touched)


def test_rule_d_what_is_applied_is_not_shared(disk: Disk) -> None:
    """What is applied and not flushed is answered from the log, whatever its file holds."""
    process = Process(disk)
    process.save("s", "a", 1)
    process.files.before = _die_before_flush
    assert isinstance(outcome(process.tenure), KilledError)
    (path,) = Path(disk.outer, "state", "s", "checkpoints").glob("cp_*.json")
    disk.remove(path)
    disk.put(path, b"{ torn")
    other = Process(disk)
    assert other.seen("s") == (("a", 1),)
    other.flush()
    assert other.findings() == []
    disk.install(disk.image(NOTHING))
    assert Process(disk).seen("s") == (("a", 1),)


def _die_before_flush(call: Call) -> None:
    if call.function == "before_flush":
        call.owner.kill()
        raise KilledError


def test_rule_e_a_header_says_where_its_predecessor_ends(disk: Disk) -> None:
    """A broken segment is closed by its successor, and what is beyond its end counts for nobody."""
    process = Process(disk)
    process.save("s", "a")
    end = max(_frames(disk, 0)) + log.BLOCK_BYTES
    _fail_next_sync(process)
    assert isinstance(outcome(lambda: process.save("s", "refused")), StorageError)
    first, second = _header(disk, 0), _header(disk, 1)
    assert (second.previous_id, second.previous_end) == (first.id, end)
    assert max(_frames(disk, 0)) == end  # the frame that was refused is there, whole
    process.save("s", "b")
    for choice in (NOTHING, EVERYTHING, FAILED_TOO):
        image = disk.image(choice)
        for control in (b"", bytes(512), *disk.controls):
            disk.install(image, control, CONTROL_PATH)
            assert [key for key, _ in Process(disk).seen("s")] == ["a", "b"]
        disk.install(image)
