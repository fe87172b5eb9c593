"""A session whose directory cannot be written: others do not notice, and it loses nothing."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from aiocheckpoint import CheckpointError, StorageError
from aiocheckpoint.testing.faults import Fault, FaultyFiles
from tests.conftest import MakeWriter
from tests.promises import tasks
from tests.promises.conftest import Start
from tests.promises.places import holding, plain_ids, plain_newest, session_files, wait_until
from tests.promises.records import assert_whole, record
from tests.promises.workers import Worker

_JOURNAL_BYTES = 1 << 20
_SIZE = 30_000
_SESSIONS = [f"s{number}" for number in range(8)]
# Ten times the journal, and what the stuck session has is a small part of it.
_SAVES = 10 * _JOURNAL_BYTES // (_SIZE * len(_SESSIONS)) + 1


def _unprivileged() -> list[str]:
    """Return a command to run a process that the modes of files apply to."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root is not bound by permissions, and there is no setpriv to become so")
    return ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]


class Obstacle(NamedTuple):
    """
    What makes a session's directory impossible to write.

    Attributes:
        place: puts it in the way, given the root.
        mend: takes it away.
        is_known_before: whether the session has files already.
    """

    place: Callable[[Path], None]
    mend: Callable[[Path], None]
    is_known_before: bool


def _mode(mode: int) -> Callable[[Path], None]:
    return lambda root: (root / "stuck" / "checkpoints").chmod(mode)


_OBSTACLES = {
    "made-a-file": Obstacle(
        lambda root: (root / "stuck").touch(exist_ok=False),
        lambda root: (root / "stuck").unlink(),
        is_known_before=False,
    ),
    "not-to-be-written": Obstacle(_mode(0o500), _mode(0o700), is_known_before=True),
    "not-to-be-entered": Obstacle(_mode(0), _mode(0o700), is_known_before=True),
}


@pytest.fixture(name="obstacle", params=_OBSTACLES)
def _obstacle(request: pytest.FixtureRequest) -> Obstacle:
    return _OBSTACLES[request.param]


@pytest.fixture(name="worker")
def _worker(start: Start, root: Path, obstacle: Obstacle) -> Worker:
    """Return a process with checkpoints a and b of `stuck` that cannot be written as files."""
    worker = start(
        prefix=_unprivileged(), max_journal_bytes=_JOURNAL_BYTES, lock_timeout_seconds=20
    )
    worker.save(record("other", "x"))
    if obstacle.is_known_before:
        worker.save(record("stuck", "old"))
    worker.call("flush")
    with holding(root, "applier"):
        worker.save(record("stuck", "a"))
        worker.save(record("stuck", "b"))
        obstacle.place(root)
    return worker


def _try_to_save(worker: Worker, attempted: list[str]) -> str:
    """Save to the session; return its error's name, or `""` and note the id."""
    name = f"try{len(attempted)}"
    try:
        worker.save(record("stuck", name))
    except CheckpointError as error:
        refused = error
    else:
        attempted.append(name)
        return ""
    assert type(refused) is not CheckpointError
    assert "stuck" in str(refused)
    return type(refused).__name__


@pytest.mark.some(1)
@pytest.mark.long
def test_others_go_on(start: Start, root: Path, worker: Worker, obstacle: Obstacle) -> None:
    """Others save on; its own saves fail by name, its acknowledged ones load, and none is lost."""
    acknowledged: list[str] = []
    wait_until(lambda: _try_to_save(worker, acknowledged), "a save to the session is refused")
    saving = worker.begin(tasks.save_at_once, _SESSIONS, _SAVES, _SIZE)
    assert saving.result() == _SAVES * len(_SESSIONS)

    with pytest.raises(CheckpointError) as refused:
        worker.call("flush")
    assert "stuck" in str(refused.value)
    assert _try_to_save(worker, acknowledged)
    for name in ("a", "b", *acknowledged):
        assert_whole(worker.load("stuck", name))
    assert assert_whole(worker.load("stuck")).checkpoint_id == ("b", *acknowledged)[-1]
    assert len(session_files(root, "s0")) == _SAVES

    obstacle.mend(root)
    worker.call("flush")
    before = ["old"] * obstacle.is_known_before + ["a", "b", *acknowledged]
    assert plain_ids(root, "stuck") == before
    assert plain_newest(root, "stuck") == before[-1]
    worker.save(record("stuck", "after"))
    worker.close()
    assert plain_ids(root, "stuck") == [*before, "after"]


@pytest.mark.few(1)
def test_others_go_on_beside_as_much_as_the_journal_may_hold(
    start: Start, root: Path, obstacle: Obstacle
) -> None:
    """What waits for a session's files takes no room from others, however much it is."""
    worker = start(
        prefix=_unprivileged(), max_journal_bytes=_JOURNAL_BYTES, lock_timeout_seconds=20
    )
    worker.save(record("stuck" if obstacle.is_known_before else "other", "old"))
    worker.call("flush")
    with holding(root, "applier"):
        worker.save(record("stuck", "large", size=_JOURNAL_BYTES))
        obstacle.place(root)

    for number in range(20):
        worker.save(record("other", str(number), size=_SIZE))
    assert_whole(worker.load("stuck"))

    obstacle.mend(root)
    worker.call("flush")
    assert plain_newest(root, "stuck") == "large"


@pytest.mark.some(1)
@pytest.mark.long
def test_it_outlasts_its_process(
    start: Start, root: Path, worker: Worker, obstacle: Obstacle
) -> None:
    """After a kill the next process has what was acknowledged, and writes it after the mend."""
    acknowledged: list[str] = []
    wait_until(lambda: _try_to_save(worker, acknowledged), "a save to the session is refused")
    worker.call(tasks.save_at_once, _SESSIONS, _SAVES, _SIZE)
    worker.kill()

    second = start(prefix=_unprivileged(), max_journal_bytes=_JOURNAL_BYTES)
    assert second.load("s0") == record("s0", f"n{_SAVES - 1}", _SAVES - 1, size=_SIZE)
    second.save(record("s0", "more"))
    with pytest.raises(CheckpointError, match="stuck"):
        second.call("flush")
    second.kill()

    obstacle.mend(root)
    third = start()
    expected = ["old"] * obstacle.is_known_before + ["a", "b", *acknowledged]
    assert list(third.listed_ids("stuck")) == expected[::-1]
    third.call("flush")
    assert plain_ids(root, "stuck") == expected
    third.close()


@pytest.mark.some(1)
def test_the_next_process_saves_to_it_alone(
    start: Start, root: Path, worker: Worker, obstacle: Obstacle
) -> None:
    """After a kill and the mend a process that saves to nothing else gets through, and soon."""
    acknowledged: list[str] = []
    wait_until(lambda: _try_to_save(worker, acknowledged), "a save to the session is refused")
    worker.kill()
    obstacle.mend(root)
    second = start()
    wait_until(lambda: not _try_to_save(second, acknowledged), "a save gets through")
    second.close()
    assert plain_ids(root, "stuck") == ["old"] * obstacle.is_known_before + [
        "a",
        "b",
        *acknowledged,
    ]


# What cannot be looked into cannot be told from what somebody else has put there.
@pytest.mark.parametrize("obstacle", ["made-a-file", "not-to-be-written"], indirect=True)
@pytest.mark.some(1)
def test_its_deletes_work(root: Path, worker: Worker, obstacle: Obstacle) -> None:
    """What cannot be written can be deleted, and is not written after the mend."""
    wait_until(lambda: _try_to_save(worker, []), "a save to the session is refused")
    assert worker.delete("stuck", "a")
    assert worker.load("stuck", "a") is None

    obstacle.mend(root)
    worker.call("flush")
    assert "a" not in plain_ids(root, "stuck")
    assert "b" in plain_ids(root, "stuck")


@pytest.mark.blocking
@pytest.mark.damages_store
async def test_in_a_directory_whose_name_is_no_text(
    make_writer: MakeWriter,
    tmp_path: Path,
    no_flushing: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A session stays stuck, and loses nothing, where the path of its files is not UTF-8."""
    root = tmp_path / os.fsdecode(b"st\xe4te")
    try:
        root.mkdir()
    except OSError:
        pytest.skip("names have to be UTF-8 here")
    disk = FaultyFiles()
    writer = make_writer(root, files=disk)
    await writer.save(record("s", "a"))
    disk.arm(Fault(errno.EIO, "create", for_ever=True))
    for some in (writer, writer):
        with pytest.raises(StorageError) as refused:
            await some.flush()
        assert refused.value.errno == errno.EIO
    other = make_writer(root)
    with pytest.raises(StorageError, match=r"st.*te/s/checkpoints"):
        await other.save(record("s", "b"))
    [finding] = await other.check()
    assert (finding.kind, finding.is_damage) == ("unwritten-session", False)
    assert finding.session_id == "s"
    assert "te/s/checkpoints" in caplog.text
    for told in (finding.detail, caplog.text):
        told.encode()
    disk.arm(None)
    await writer.flush()
    await other.save(record("s", "b"))
    assert [meta.checkpoint_id for meta in await other.list("s")] == ["b", "a"]
