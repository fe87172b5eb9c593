"""What a file system is asked to do, in operations small enough to survive a crash one by one.

Files, directories and symlinks are nodes with numbers of their own, so that an operation still
means the same file after renames, and although the system uses inode numbers again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

BLOCK_BYTES = 4096
OUTER = 0
"""The node of the directory that holds the store's root; it was always there."""


class Directory(NamedTuple):
    """The kind of a directory's node."""


class File(NamedTuple):
    """The kind of a file's node."""


class Symlink(NamedTuple):
    """The kind of a symlink's node."""

    target: str


Kind: TypeAlias = Directory | File | Symlink


class Made(NamedTuple):
    """A name for a new node: mkdir, create, symlink."""

    directory: int
    name: str
    node: int
    kind: Kind


class Linked(NamedTuple):
    """A further name for a file."""

    directory: int
    name: str
    node: int


class Renamed(NamedTuple):
    """Another name for a node, replacing what had it."""

    source: int
    old: str
    target: int
    new: str
    node: int


class Removed(NamedTuple):
    """A name gone: unlink, rmdir."""

    directory: int
    name: str
    node: int


class Written(NamedTuple):
    """Bytes in a file."""

    node: int
    offset: int
    data: bytes


class Zeroed(NamedTuple):
    """Many zero bytes in a file, written or preallocated."""

    node: int
    offset: int
    length: int


class Truncated(NamedTuple):
    """A file's size, set."""

    node: int
    size: int


class Synced(NamedTuple):
    """An fsync of a file or a directory, or an fdatasync of a file."""

    node: int
    data_only: bool = False


class SyncedAll(NamedTuple):
    """A syncfs: everything there is."""


class SyncFailed(NamedTuple):
    """A file's sync that failed: its bytes so far may be lost, whatever is synced later."""

    node: int


class Began(NamedTuple):
    """A call of the API begins."""

    call: int


class Acknowledged(NamedTuple):
    """A call of the API has returned."""

    call: int


EntryOperation: TypeAlias = Made | Linked | Renamed | Removed
DataOperation: TypeAlias = Written | Zeroed | Truncated
Mark: TypeAlias = Began | Acknowledged
Operation: TypeAlias = EntryOperation | DataOperation | Synced | SyncedAll | SyncFailed | Mark

MARKS = (Began, Acknowledged)
ENTRY_OPERATIONS = (Made, Linked, Renamed, Removed)
DATA_OPERATIONS = (Written, Zeroed, Truncated)


@dataclass(slots=True)
class Content:
    """
    A file's bytes, sparse: blocks that hold only zeros are left out.

    Attributes:
        size: in bytes.
        blocks: by number; each of `BLOCK_BYTES` bytes.
    """

    size: int = 0
    blocks: dict[int, bytes] = field(default_factory=dict)

    def copy(self) -> Content:
        """Return a copy that can be changed."""
        return Content(self.size, dict(self.blocks))

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes at an offset."""
        self.size = max(self.size, offset + len(data))
        for at, piece in split_at_blocks(offset, data):
            number, start = divmod(at, BLOCK_BYTES)
            old = self.blocks.get(number, _ZERO_BLOCK)
            new = old[:start] + piece + old[start + len(piece) :]
            if new == _ZERO_BLOCK:
                self.blocks.pop(number, None)
            else:
                self.blocks[number] = new

    def zero(self, offset: int, length: int) -> None:
        """Put zeros at an offset."""
        end = offset + length
        self.size = max(self.size, end)
        for number in [
            n for n in self.blocks if offset < (n + 1) * BLOCK_BYTES and n * BLOCK_BYTES < end
        ]:
            start = max(offset, number * BLOCK_BYTES)
            stop = min(end, (number + 1) * BLOCK_BYTES)
            self.write(start, bytes(stop - start))

    def holds(self, offset: int, data: bytes) -> bool:
        """Tell whether some bytes stand at an offset."""
        return offset + len(data) <= self.size and all(
            self.blocks.get(at // BLOCK_BYTES, _ZERO_BLOCK).startswith(piece, at % BLOCK_BYTES)
            for at, piece in split_at_blocks(offset, data)
        )

    def truncate(self, size: int) -> None:
        """Cut or extend to a size."""
        if size < self.size:
            self.zero(size, self.size - size)
        self.size = size

    def apply(self, operation: DataOperation) -> None:
        """Do what an operation on this file does."""
        match operation:
            case Written(_, offset, data):
                self.write(offset, data)
            case Zeroed(_, offset, length):
                self.zero(offset, length)
            case Truncated(_, size):
                self.truncate(size)

    def read(self) -> bytes:
        """Return all bytes."""
        whole = bytearray(self.size)
        for number, block in self.blocks.items():
            start = number * BLOCK_BYTES
            whole[start : start + BLOCK_BYTES] = block[: self.size - start]
        return bytes(whole)

    def key(self) -> object:
        """Return what is equal for equal bytes."""
        return self.size, frozenset(self.blocks.items())


_ZERO_BLOCK = bytes(BLOCK_BYTES)


def split_at_blocks(
    offset: int, data: bytes, block_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[int, bytes]]:
    """Cut a write at block boundaries."""
    start = 0
    while start < len(data):
        stop = min(len(data), start + block_bytes - (offset + start) % block_bytes)
        yield offset + start, data[start:stop]
        start = stop


@dataclass(slots=True)
class Tree:
    """
    The directories and files under the outer directory.

    Attributes:
        kinds: of the nodes.
        entries: names in each directory.
        contents: of the files.
    """

    kinds: dict[int, Kind] = field(default_factory=lambda: {OUTER: Directory()})
    entries: dict[int, dict[str, int]] = field(default_factory=lambda: {OUTER: {}})
    contents: dict[int, Content] = field(default_factory=dict)

    def copy(self) -> Tree:
        """Return a copy that can be changed."""
        return Tree(
            dict(self.kinds),
            {directory: dict(names) for directory, names in self.entries.items()},
            {node: content.copy() for node, content in self.contents.items()},
        )

    def apply(self, operation: Operation) -> None:
        """Do what an operation does."""
        match operation:
            case Made() | Linked() | Renamed() | Removed():
                self.apply_entry(operation)
            case Written() | Zeroed() | Truncated():
                self.contents[operation.node].apply(operation)
            case Synced() | SyncedAll() | SyncFailed() | Began() | Acknowledged():
                pass

    def apply_entry(self, operation: EntryOperation) -> None:
        """Do what an operation on names does, where its directory's earlier ones may be missing."""
        match operation:
            case Made(directory, name, node, kind):
                self.know(node, kind)
                self.entries[directory][name] = node
            case Linked(directory, name, node):
                self.entries[directory][name] = node
            case Renamed(source, old, target, new, node):
                self.entries[source].pop(old, None)
                self.entries[target][new] = node
            case Removed(directory, name, _):
                self.entries[directory].pop(name, None)

    def know(self, node: int, kind: Kind) -> None:
        """Enter a node without a name."""
        self.kinds[node] = kind
        if isinstance(kind, Directory):
            self.entries.setdefault(node, {})
        elif isinstance(kind, File):
            self.contents.setdefault(node, Content())

    def walk(self, directory: int = OUTER, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield path and node of all that has a name, directories before what is in them."""
        for name in sorted(self.entries[directory]):
            node = self.entries[directory][name]
            yield prefix + name, node
            if node in self.entries:
                yield from self.walk(node, f"{prefix}{name}/")

    def shape(self) -> frozenset[tuple[str, int]]:
        """Return which names there are, and for which nodes."""
        return frozenset(self.walk())

    def key(self) -> object:
        """Return what is equal for trees that no reader can tell apart."""
        first: dict[int, str] = {}
        return frozenset(
            (path, first.setdefault(node, path), self._node_key(node)) for path, node in self.walk()
        )

    def _node_key(self, node: int) -> object:
        return self.contents[node].key() if node in self.contents else self.kinds[node]
