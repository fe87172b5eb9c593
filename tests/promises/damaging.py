"""Damage to what a journal holds."""

from __future__ import annotations

from pathlib import Path

from tests.promises.places import files_with

MARK = "this-is-where-it-is-damaged"
_PAGE_BYTES = 4096


def lose_page(slot: Path) -> None:
    """Overwrite the page with the mark in a file of the journal: nobody can tell what it held."""
    content = slot.read_bytes()
    begin = content.index(MARK.encode()) // _PAGE_BYTES * _PAGE_BYTES
    slot.write_bytes(content[:begin] + b"\xa5" * _PAGE_BYTES + content[begin + _PAGE_BYTES :])


def change_text(path: Path) -> None:
    """Change the mark in a file; in the journal what its frame tells of it stays right."""
    path.write_bytes(path.read_bytes().replace(MARK.encode(), MARK.upper().encode()))


def marked_slot(root: Path) -> Path:
    """Return the file of the journal that has the mark."""
    (slot,) = (path for path in files_with(root, MARK) if path.name.startswith("log."))
    return slot
