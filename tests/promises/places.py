"""What is on the disk: what plain tools see of a store, and the locks that a test may hold."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aiocheckpoint import AsyncCheckpointWriter

GUARD_SECONDS = 100.0


async def on_disk(writer: AsyncCheckpointWriter[Any]) -> None:
    """Wait until the files of all that was acknowledged are there, for whoever looks at them."""
    await writer.flush()


def session_files(root: Path, session_id: str) -> list[Path]:
    """Return the checkpoint files of a session with a safe id, oldest first."""
    return sorted((root / session_id / "checkpoints").glob("cp_*.json"))


def read_plainly(path: Path) -> dict[str, Any]:
    """Read a checkpoint file as docs/reference/format.md tells, without this library."""
    document: dict[str, Any] = json.loads(path.read_bytes())
    claimed = document.pop("_checksum")
    assert document.pop("_version") == "1.0"
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(text.encode()).hexdigest() == claimed, path
    return document


def plain_ids(root: Path, session_id: str) -> list[str]:
    """Return the ids in the files of a session, oldest first; each must be intact."""
    return [read_plainly(path)["checkpoint_id"] for path in session_files(root, session_id)]


def plain_newest(root: Path, session_id: str) -> str:
    """Return the id in the file that `latest.json` leads to."""
    newest: str = read_plainly(root / session_id / "checkpoints" / "latest.json")["checkpoint_id"]
    return newest


def files_with(root: Path, marker: str) -> list[Path]:
    """Return the files under a root that hold some text, whatever they are."""
    return [
        path
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink() and marker.encode() in path.read_bytes()
    ]


def log_bytes(root: Path) -> int:
    """Return how large the slots of the log are together."""
    total = 0
    for slot in (root / ".aiocheckpoint").glob("log.*"):
        with contextlib.suppress(FileNotFoundError):
            total += slot.stat().st_size
    return total


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Look until something holds; a bound, not a rhythm, so a slow machine only takes longer."""
    end = time.monotonic() + GUARD_SECONDS
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {GUARD_SECONDS} s"
        time.sleep(0.001)


def wait_for_tick(directory: Path, probe: Path) -> None:
    """Wait until a change made now has another time than the last one of a directory."""
    last = directory.stat().st_mtime_ns

    def has_passed() -> bool:
        probe.write_bytes(b"")
        os.utime(probe)
        return probe.stat().st_mtime_ns > last

    wait_until(has_passed, "the clock of the file system goes on")


# The locks under `.aiocheckpoint`: `lock` is held by who commits, `applier` by who writes files


@contextlib.contextmanager
def holding(root: Path, name: str) -> Iterator[None]:
    """Hold a lock of a store, as a process does that was stopped with it."""
    descriptor = os.open(root / ".aiocheckpoint" / name, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_held(root: Path, name: str) -> bool:
    """Tell whether some process holds a lock of a store."""
    try:
        descriptor = os.open(root / ".aiocheckpoint" / name, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def holders(root: Path, name: str) -> set[int] | None:
    """Return which processes hold a lock of a store; None where the system does not tell."""
    inode = os.stat(root / ".aiocheckpoint" / name).st_ino
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return None
    held = [line.split() for line in lines if "->" not in line]  # which marks who waits
    return {int(pid) for _, _, _, _, pid, file, *_ in held if file.endswith(f":{inode}")}
