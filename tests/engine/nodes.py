"""What is on a disk, and what of it a power cut leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

PAGE_BYTES = 4096
_NO_PAGE = bytes(PAGE_BYTES)


@dataclass(eq=False, slots=True)
class Node:
    """
    A file, a directory or a symlink.

    Attributes:
        kind: which of them.
        inode: its number.
        device: of the file system it is on, as the library is to see it; 0 for the real one.
        target: of a symlink.
        grave: a second name, which keeps the inode when all others are gone.
        modified_ns: the time that was set; 0 for none.
        size: of a file, as everybody sees it.
        cache: its pages, as everybody sees them.
        durable_size: its size after a cut.
        durable: its pages after a cut.
        dirty: pages that the next good sync makes durable.
        lost: pages that are clean and not durable, since a sync failed.
        is_unseen: whether nobody was told of that yet.
        names: in a directory, as everybody sees them.
        durable_names: after a cut.
    """

    kind: str
    inode: int = 0
    device: int = 0
    target: str = ""
    grave: str = ""
    modified_ns: int = 0
    size: int = 0
    cache: dict[int, bytes] = field(default_factory=dict)
    durable_size: int = 0
    durable: dict[int, bytes] = field(default_factory=dict)
    dirty: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    is_unseen: bool = False
    names: dict[str, Node] = field(default_factory=dict)
    durable_names: dict[str, Node] = field(default_factory=dict)

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes into the cache."""
        end = offset + len(data)
        for page in range(offset // PAGE_BYTES, -(-end // PAGE_BYTES)):
            start = page * PAGE_BYTES
            old = self.cache.get(page, _NO_PAGE)
            before, after = max(offset - start, 0), min(end - start, PAGE_BYTES)
            piece = data[start + before - offset : start + after - offset]
            self.cache[page] = old[:before] + piece + old[after:]
            self.dirty.add(page)
            self.lost.discard(page)
        self.size = max(self.size, end)

    def sync(self) -> None:
        """Make what is dirty durable."""
        for page in self.dirty:
            self.durable[page] = self.cache[page]
        self.dirty.clear()
        self.durable_size = self.size

    def lose(self) -> None:
        """Let what is dirty be clean, and not durable."""
        self.lost |= self.dirty
        self.dirty.clear()


Named = tuple[Node, str, Node | None]


class Choice(NamedTuple):
    """
    What of all that is not durable a power cut leaves.

    Attributes:
        name: of the choice.
        names: tells, by their numbers from the oldest on, which changes of names.
        pages: tells which pages.
        lost: whether those of failed syncs too, which the disk may have taken all the same.
    """

    name: str
    names: Callable[[int], bool]
    pages: Callable[[int], bool]
    lost: bool = False


def _all(number: int) -> bool:
    return True


def _none(number: int) -> bool:
    return False


def _odd(number: int) -> bool:
    return number % 2 == 1


def _even(number: int) -> bool:
    return number % 2 == 0


NOTHING = Choice("nothing", _none, _none)
EVERYTHING = Choice("everything", _all, _all)
FAILED_TOO = Choice("failed-too", _all, _all, lost=True)
NAMES = Choice("names", _all, _none)
PAGES = Choice("pages", _none, _all)
ODD = Choice("odd", _odd, _odd)
EVEN = Choice("even", _even, _even)
CHOICES = (NOTHING, EVERYTHING, FAILED_TOO, NAMES, PAGES, ODD, EVEN)


def first_names(count: int, *, with_pages: bool) -> Choice:
    """Return the choice that leaves so many changes of names, and all pages or none."""
    pages = _all if with_pages else _none
    return Choice(f"first-{count}-names", lambda number: number < count, pages)


class Image(NamedTuple):
    """
    What is on a disk.

    Attributes:
        entries: by path below the outer directory: the node, and a file's content.
    """

    entries: dict[str, tuple[Node, bytes]]

    def key(self) -> object:
        """Return what is equal for images that no process can tell apart."""
        return frozenset(
            (path, node.kind, node.target, node.grave, data)
            for path, (node, data) in self.entries.items()
        )


def walk(directory: Node, *, durable: bool) -> Iterator[tuple[str, Node]]:
    """Yield all that is below a directory, as everybody sees it or as a cut leaves it."""
    found = directory.durable_names if durable else directory.names
    for name, node in [*found.items()]:
        yield name, node
        if node.kind == "directory":
            yield from walk(node, durable=durable)


def walk_all(top: Node, pending: list[list[Named]]) -> Iterator[tuple[str, Node]]:
    """Yield all that is, or may be, below a directory."""
    yield from walk(top, durable=False)
    yield from walk(top, durable=True)
    for change in pending:
        for directory, name, node in change:
            yield name, directory
            if node is not None:
                yield name, node


def enter_durably(change: list[Named]) -> None:
    """Make a change of names durable."""
    for directory, name, node in change:
        if node is None:
            directory.durable_names.pop(name, None)
        else:
            directory.durable_names[name] = node


def content_after(node: Node, choice: Choice) -> bytes:
    """Return what a cut leaves of a file."""
    pages = dict(node.durable)
    chosen = {page for page in node.dirty if choice.pages(page)}
    if choice.lost:
        chosen |= node.lost
    for page in chosen:
        pages[page] = node.cache[page]
    size = node.durable_size
    if chosen or choice.pages(0):
        size = node.size
    count = -(-size // PAGE_BYTES)
    return b"".join(pages.get(page, _NO_PAGE) for page in range(count))[:size]
