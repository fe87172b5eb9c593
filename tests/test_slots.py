"""The files of the journal, in one process that looks at them in several threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aiocheckpoint._disk.files import Directory, LocalFiles
from aiocheckpoint._disk.slots import FIRST_SLOT_BYTES, Slots


class _Meanwhile(LocalFiles):
    """Does something right after a directory was read, as another thread may."""

    action: Callable[[], object] | None = None
    closed = 0

    def close(self, descriptor: int, path: str) -> None:
        """Close, and count it."""
        self.closed += 1
        super().close(descriptor, path)

    def scan(self, directory: Directory) -> list[str]:
        """Read, then act once."""
        found = super().scan(directory)
        action, self.action = self.action, None
        if action is not None:
            action()
        return found


def test_what_is_made_while_others_look_stays_open(tmp_path: Path) -> None:
    """A listing that began before a slot was made, or made again, takes none for removed."""
    files = _Meanwhile()
    directory = files.find_root(str(tmp_path))
    assert directory is not None
    slots = Slots(files, directory, writable=True)
    files.action = lambda: slots.create(FIRST_SLOT_BYTES, 0)
    assert slots.numbers() == []
    assert files.closed == 0  # or its maker would write into what has its number by then
    slots.write(0, b"written after it was listed", 0)

    def make_again() -> None:
        slots.remove(0)
        slots.create(FIRST_SLOT_BYTES, 0)
        slots.write(0, b"written anew", 0)

    files.action = make_again
    slots.numbers()
    assert files.closed == 1  # by who removed it
    assert slots.read(0, 12, 0) == b"written anew"
    (tmp_path / "log.0").unlink()
    assert slots.numbers() == []
    assert not slots.has(0)
    slots.close()
    files.close_directory(directory)
