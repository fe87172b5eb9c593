"""`aiocheckpoint flush ROOT`, and roots that belong to another version of the library."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aiocheckpoint import CheckpointError
from tests.command import run_command
from tests.promises import tasks
from tests.promises.conftest import Start
from tests.promises.places import holding, plain_ids, plain_newest
from tests.promises.records import record
from tests.trees import snapshot

_OLD_JOURNAL = "journal-0123456789abcdef"


def _flush(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    if not command:
        return run_command("flush", root)
    return subprocess.run(
        [*command, "flush", str(root)], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("is_script", [False, True], ids=["module", "script"])
@pytest.mark.few(1)
def test_after_a_kill(start: Start, root: Path, *, is_script: bool) -> None:
    """After a kill the command writes the files of all that was acknowledged, for other tools."""
    owner = start()
    owner.save(record("other", "x"))
    with holding(root, "applier"):  # so that nothing is written before
        owner.call(tasks.save_many, "s", "n", 20)
        owner.delete("s", "n3")
        owner.save(record("s", "n5", 100))
        owner.save(record("dropped", "a"))
        owner.call("delete_session", "dropped")
        owner.kill()
        assert plain_ids(root, "s") == []

    script = str(Path(sys.executable).with_name("aiocheckpoint"))
    done = _flush(root, *([script] if is_script else [sys.executable, "-m", "aiocheckpoint"]))
    assert (done.returncode, done.stderr) == (0, "")
    assert plain_ids(root, "s") == [*(f"n{n}" for n in range(20) if n not in (3, 5)), "n5"]
    assert plain_newest(root, "s") == "n5"
    assert plain_ids(root, "dropped") == []
    before = snapshot(root / "s")

    assert _flush(root).returncode == 0  # again: there is nothing to do
    assert snapshot(root / "s") == before
    assert start().listed_ids("s")[0] == "n5"


def test_beside_a_living_owner(start: Start, root: Path) -> None:
    """The command may be run beside processes that use the root."""
    owner = start()
    owner.save(record("other", "x"))
    saving = owner.begin(tasks.save_many, "s", "n", 150)
    while not saving.is_done(0):
        assert _flush(root).returncode == 0
    assert _flush(root).returncode == 0
    assert plain_ids(root, "s") == [f"n{number}" for number in range(150)]
    owner.close()


def test_where_there_is_no_root(tmp_path: Path) -> None:
    """The command says what is wrong with a root that is not there, and makes none."""
    done = _flush(tmp_path / "nothing")
    assert done.returncode != 0
    assert "nothing" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(name="old_root")
def _old_root(start: Start, root: Path) -> Path:
    """Return a root with files of saves and the journal of a process that ran version 0.1."""
    owner = start()
    owner.call(tasks.save_many, "s", "n", 3)
    owner.close()
    shutil.rmtree(root / ".aiocheckpoint")
    (root / ".aiocheckpoint").mkdir(0o700)
    (root / ".aiocheckpoint" / _OLD_JOURNAL).write_bytes(b"\0an old journal" * 1000)
    return root


def test_a_journal_of_version_0_1(start: Start, old_root: Path) -> None:
    """A root with a journal of version 0.1 is refused by name, and nothing in it is touched."""
    before = snapshot(old_root)
    worker = start()
    for target, *args in (
        ("save", record("s", "more")),
        ("load", "s"),
        ("list", "s"),
        ("delete", "s", "n1"),
        ("delete_session", "s"),
    ):
        with pytest.raises(CheckpointError) as refused:
            worker.call(target, *args)
        assert type(refused.value) is not CheckpointError
        assert _OLD_JOURNAL in str(refused.value)
    done = _flush(old_root)
    assert done.returncode != 0
    assert _OLD_JOURNAL in done.stderr
    assert "Traceback" not in done.stderr
    worker.kill()
    assert snapshot(old_root) == before

    (old_root / ".aiocheckpoint" / _OLD_JOURNAL).unlink()  # as whoever settled it has done
    second = start()
    assert second.listed_ids("s") == ("n2", "n1", "n0")
    second.save(record("s", "more"))
    second.close()
