"""A disk that forgets: what a power cut would leave is kept beside the real files.

Pages and names become durable by what is synced, as POSIX promises and no more. A failed sync
marks the pages clean: only who writes them again can make them durable, and each descriptor that
was open is told of the failure once. A power cut puts any part of what was not durable into the
place of the real files, whose inodes stay, so that the shared positions are still the log's own.

Everybody uses it from one thread; who would have to wait for a lock raises `WouldWaitError`.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, NamedTuple, ParamSpec, TypeVar

from aiocheckpoint._disk import system
from aiocheckpoint._disk.files import Directory as OpenDirectory
from aiocheckpoint._disk.files import FileStatus, LocalFiles
from aiocheckpoint._format.log import CONTROL_BYTES

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
PAGE_BYTES = 4096
_NO_PAGE = bytes(PAGE_BYTES)


class KilledError(BaseException):
    """The process that makes the call is dead."""


class WouldWaitError(BaseException):
    """Somebody else of this thread holds the lock, so that waiting would never end."""


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


@dataclass(slots=True)
class _Open:
    node: Node | None
    owner: DiskFiles
    has_failed: bool = False
    has_disk_failed: bool = False


class Call(NamedTuple):
    """
    A system call that is about to be made.

    Attributes:
        operation: as in the errors.
        path: of the file or directory.
        function: its name.
        descriptor: that it is made on, if it is one; or else -1.
        owner: who makes it.
    """

    operation: str
    path: str
    function: str
    descriptor: int
    owner: DiskFiles

    @property
    def is_log_sync(self) -> bool:
        """Whether it makes a slot of the log durable."""
        return self.function == "data_sync" and "/log." in self.path


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


class Disk:
    """
    A directory with all that is below it.

    Args:
        outer: an existing, empty directory; what is tested goes below it.

    Attributes:
        steps: how many calls so far have changed or synced something.
        on_step: called before each of them, if it is not None.
        controls: each content that the shared positions have had.
    """

    def __init__(self, outer: Path) -> None:
        self.outer = str(outer / "disk")
        self._graves = str(outer / "graves")
        Path(self.outer).mkdir()
        Path(self._graves).mkdir()
        self.steps = 0
        self.on_step: Callable[[], None] | None = None
        self.controls: list[bytes] = []
        self.devices: dict[str, int] = {}
        self.fds: dict[int, _Open] = {}
        self._dug = 0
        self._top = Node("directory", os.stat(self.outer).st_ino)
        self._pending: list[list[Named]] = []

    def close(self) -> None:
        """Close what is still open."""
        for descriptor in [*self.fds]:
            self._close(descriptor)

    def wipe(self) -> None:
        """Begin anew with nothing."""
        self.close()
        shutil.rmtree(self.outer)
        shutil.rmtree(self._graves)
        Path(self.outer).mkdir()
        Path(self._graves).mkdir()
        self.controls.clear()
        self._top = Node("directory", os.stat(self.outer).st_ino)
        self._pending = []

    def kill(self, owner: DiskFiles) -> None:
        """Close what a dead process had open, which gives its locks back."""
        for descriptor in [fd for fd, opened in self.fds.items() if opened.owner is owner]:
            self._close(descriptor)

    def _close(self, descriptor: int) -> None:
        del self.fds[descriptor]
        LocalFiles().close(descriptor, "")

    # Nodes

    def node_of(self, path: str) -> Node | None:
        """Return what a path stands for; None for what is not there, or not on this disk."""
        if path == self.outer:
            return self._top
        if not path.startswith(f"{self.outer}/"):
            return None
        node: Node | None = self._top
        for part in path[len(self.outer) + 1 :].split("/"):
            node = None if node is None else node.names.get(part)
        return node

    def _place(self, name: str, descriptor: int | None) -> tuple[Node | None, str]:
        if descriptor is not None:
            return self.fds[descriptor].node, name
        path = PurePath(name)
        return self.node_of(str(path.parent)), path.name

    def put(self, path: Path, data: bytes, modified_ns: int = 0) -> None:
        """Make a file, durable at once, as somebody else does."""
        for directory in reversed(path.parents):
            if self.node_of(str(directory)) is None and str(directory).startswith(self.outer):
                directory.mkdir()
                above = self.node_of(str(directory.parent))
                assert above is not None
                node = Node("directory", directory.stat().st_ino)
                above.names[directory.name] = above.durable_names[directory.name] = node
        path.write_bytes(data)
        if modified_ns:
            os.utime(path, ns=(modified_ns, modified_ns))
        above = self.node_of(str(path.parent))
        assert above is not None
        node = self._buried(path.stat().st_ino, path.name, str(path.parent))
        node.modified_ns = modified_ns
        node.write(0, data)
        node.sync()
        above.names[path.name] = above.durable_names[path.name] = node

    def remove(self, path: Path) -> None:
        """Remove a file, durably at once, as somebody else does."""
        path.unlink()
        above = self.node_of(str(path.parent))
        assert above is not None
        del above.names[path.name]
        above.durable_names.pop(path.name, None)

    def _buried(self, inode: int, name: str, directory: str | int) -> Node:
        """Return the node of a new file, which has a second name from now on."""
        self._dug += 1
        grave = f"{self._graves}/{self._dug}"
        if isinstance(directory, str):
            os.link(f"{directory}/{name}", grave)
        else:
            os.link(name, grave, src_dir_fd=directory)
        return Node("file", inode, grave=grave)

    # Calls

    def perform(
        self, owner: DiskFiles, name: str, function: Callable[P, ResultT], args: Any, kwargs: Any
    ) -> ResultT:
        """Make a call, and note what it does."""
        if name in _READING:
            return function(*args, **kwargs)
        if name in SYNCS:
            self._sync(args[0], whole=name == "syncfs")
            return None  # type: ignore[return-value]  # as these functions do
        if name == "close":
            del self.fds[args[0]]
            return function(*args, **kwargs)
        if name == "lock_file":
            if not system.try_lock_file(args[0], shared=False):
                raise WouldWaitError
            return None  # type: ignore[return-value]
        result = function(*args, **kwargs)
        _EFFECTS[name](self, owner, result, args, kwargs)
        return result

    def _opened(self, owner: DiskFiles, result: Any, args: Any, kwargs: Any) -> None:
        name, above = args[0], kwargs.get("dir_fd")
        if above is None:
            self.fds[result] = _Open(self.node_of(name), owner)
            return
        directory = self.fds[above].node
        assert directory is not None
        node = directory.names.get(name)
        if node is None:
            node = self._buried(os.fstat(result).st_ino, name, above)
            node.device = directory.device
            self._name([(directory, name, node)])
        self.fds[result] = _Open(node, owner)

    def _name(self, change: list[Named]) -> None:
        for directory, name, node in change:
            if node is None:
                directory.names.pop(name, None)
            else:
                directory.names[name] = node
        self._pending.append(change)

    def _written(self, owner: DiskFiles, result: Any, args: Any, kwargs: Any) -> None:
        node = self.fds[args[0]].node
        assert node is not None
        offset = args[2] if len(args) > 2 else os.lseek(args[0], 0, os.SEEK_CUR) - result
        data = bytes(args[1][:result])
        node.write(offset, data)
        if len(data) == CONTROL_BYTES and node is self.node_of(owner.control):
            self.controls.append(data)

    def _made(self, owner: DiskFiles, result: Any, args: Any, kwargs: Any) -> None:
        directory, name = self._place(args[0], args[1])
        if directory is not None:
            inode = os.stat(args[0], dir_fd=args[1]).st_ino
            device = self.devices.get(name, directory.device)
            self._name([(directory, name, Node("directory", inode, device))])

    def _linked(self, owner: DiskFiles, result: Any, args: Any, kwargs: Any) -> None:
        source, old = self._place(args[0], kwargs["src_dir_fd"])
        target, new = self._place(args[1], kwargs["dst_dir_fd"])
        assert source is not None
        assert target is not None
        self._name([(target, new, source.names[old])])

    def _symlinked(self, owner: DiskFiles, result: Any, args: Any, kwargs: Any) -> None:
        directory, name = self._place(args[1], kwargs["dir_fd"])
        assert directory is not None
        self._name([(directory, name, Node("symlink", target=args[0]))])

    def _renamed(self, owner: DiskFiles, result: Any, args: Any, kwargs: Any) -> None:
        source, old = self._place(args[0], kwargs["src_dir_fd"])
        target, new = self._place(args[1], kwargs["dst_dir_fd"])
        assert source is not None
        assert target is not None
        node = source.names[old]
        if source is target:
            self._name([(source, old, None), (target, new, node)])
        else:
            self._name([(target, new, node)])
            self._name([(source, old, None)])

    def _removed(self, owner: DiskFiles, result: Any, args: Any, kwargs: Any) -> None:
        directory, name = self._place(args[0], kwargs["dir_fd"])
        assert directory is not None
        self._name([(directory, name, None)])

    def _timed(self, owner: DiskFiles, result: Any, args: Any, kwargs: Any) -> None:
        node = self.fds[args[0]].node
        assert node is not None
        node.modified_ns = kwargs["ns"][1]

    # Syncing

    def _sync(self, descriptor: int, *, whole: bool) -> None:
        opened = self.fds[descriptor]
        node = opened.node
        if node is None:
            return
        has_failed = opened.has_disk_failed if whole else opened.has_failed
        if whole:
            opened.has_disk_failed = False
            for found in self._files_on(node.device):
                found.sync()
            self._make_names_durable(None, node.device)
        elif node.kind == "file":
            opened.has_failed = False
            node.sync()
        else:
            self._make_names_durable(node, node.device)
        if has_failed:
            raise OSError(errno.EIO, "an earlier write failed, injected")

    def fail_sync(self, descriptor: int, *, whole: bool = False) -> None:
        """Let a sync fail: what was to be synced is clean, and who has it open is told once."""
        caller = self.fds[descriptor]
        node = caller.node
        if node is None:
            return
        failing = [node] if node.kind == "file" else []
        if whole:
            failing = [found for found in self._files_on(node.device) if found.dirty]
        for opened in self.fds.values():
            if opened.node in failing:
                opened.has_failed = opened is not caller or opened.has_failed
            if failing and opened.node is not None and opened.node.device == node.device:
                opened.has_disk_failed = opened is not caller or not whole
        for found in failing:
            found.lose()

    def _files_on(self, device: int) -> list[Node]:
        found: dict[int, Node] = {}
        for opened in self.fds.values():
            if opened.node is not None:
                found[id(opened.node)] = opened.node
        for _, node in _walk(self._top, durable=False):
            found[id(node)] = node
        return [n for n in found.values() if n.kind == "file" and n.device == device]

    def _make_names_durable(self, directory: Node | None, device: int) -> None:
        remaining: list[list[Named]] = []
        for change in self._pending:
            of_it = change[0][0] is directory or (
                directory is None and change[0][0].device == device
            )
            if of_it:
                _enter_durably(change)
            else:
                remaining.append(change)
        self._pending = remaining

    @property
    def pending_names(self) -> int:
        """How many changes of names are not durable."""
        return len(self._pending)

    # Power cuts

    def image(self, choice: Choice) -> Image:
        """Return what a power cut would leave now."""
        kept = {id(self._top): dict(self._top.durable_names)}
        for _, node in _walk_all(self._top, self._pending):
            kept[id(node)] = dict(node.durable_names)
        for number, change in enumerate(self._pending):
            if choice.names(number):
                for directory, name, named in change:
                    if named is None:
                        kept[id(directory)].pop(name, None)
                    else:
                        kept[id(directory)][name] = named
        entries: dict[str, tuple[Node, bytes]] = {}
        self._enter(self._top, "", kept, choice, entries)
        return Image(entries)

    def _enter(
        self,
        directory: Node,
        prefix: str,
        kept: dict[int, dict[str, Node]],
        choice: Choice,
        entries: dict[str, tuple[Node, bytes]],
    ) -> None:
        for name, node in sorted(kept[id(directory)].items()):
            path = f"{prefix}{name}"
            entries[path] = (node, _content(node, choice) if node.kind == "file" else b"")
            if node.kind == "directory":
                self._enter(node, f"{path}/", kept, choice, entries)

    def install(self, image: Image, control: bytes | None = b"", at: str = "") -> None:
        """
        Kill all processes, and go on with what a cut left.

        Args:
            image: what that is.
            control: another content for the file `at`; None for none, `b""` to leave it.
            at: its path below the outer directory.
        """
        self.close()
        for name in os.listdir(self.outer):
            path = f"{self.outer}/{name}"
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        self.controls = []
        self._pending = []
        self._top = Node("directory", self._top.inode)
        nodes: dict[int, Node] = {}
        for path, (old, data) in image.entries.items():
            if path == at:
                if control is None:
                    continue
                data = control or data  # noqa: PLW2901
            above = self.node_of(str(PurePath(self.outer, path).parent))
            assert above is not None
            found = nodes.get(id(old))
            if found is None:
                found = nodes[id(old)] = self._revived(old, data, f"{self.outer}/{path}")
            else:
                os.link(found.grave, f"{self.outer}/{path}")
            name = PurePath(path).name
            above.names[name] = above.durable_names[name] = found

    def _revived(self, old: Node, data: bytes, path: str) -> Node:
        node = Node(
            old.kind, old.inode, old.device, old.target, old.grave, old.modified_ns
        )  # fmt: skip
        if old.kind == "directory":
            os.mkdir(path)
            node.inode = os.stat(path).st_ino
        elif old.kind == "symlink":
            os.symlink(old.target, path)
        else:
            with open(old.grave, "r+b") as file:
                file.write(data)
                file.truncate()
            if old.modified_ns:
                os.utime(old.grave, ns=(old.modified_ns, old.modified_ns))
            os.link(old.grave, path)
            node.write(0, data)
            node.sync()
        return node


def _walk(directory: Node, *, durable: bool) -> Iterator[tuple[str, Node]]:
    found = directory.durable_names if durable else directory.names
    for name, node in [*found.items()]:
        yield name, node
        if node.kind == "directory":
            yield from _walk(node, durable=durable)


def _walk_all(top: Node, pending: list[list[Named]]) -> Iterator[tuple[str, Node]]:
    yield from _walk(top, durable=False)
    yield from _walk(top, durable=True)
    for change in pending:
        for directory, name, node in change:
            yield name, directory
            if node is not None:
                yield name, node


def _enter_durably(change: list[Named]) -> None:
    for directory, name, node in change:
        if node is None:
            directory.durable_names.pop(name, None)
        else:
            directory.durable_names[name] = node


def _content(node: Node, choice: Choice) -> bytes:
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


_READING = frozenset({
    "stat", "fstat", "lseek", "read", "read_at", "_names_in", "_read_link", "try_lock_file",
    "unlock_file", "chown", "file_system_type",
})  # fmt: skip
SYNCS = frozenset({"data_sync", "full_sync", "fsync", "syncfs"})
_EFFECTS: dict[str, Callable[[Disk, DiskFiles, Any, Any, Any], None]] = {
    "open": Disk._opened,
    "write": Disk._written,
    "write_at": Disk._written,
    "_make_directory": Disk._made,
    "link": Disk._linked,
    "symlink": Disk._symlinked,
    "replace": Disk._renamed,
    "unlink": Disk._removed,
    "rmdir": Disk._removed,
    "utime": Disk._timed,
}
STEPS = SYNCS | (_EFFECTS.keys() - {"open", "utime"})
"""The functions that change or sync something, and so are worth dying at."""


class DiskFiles(LocalFiles):
    """
    The disk as one process uses it.

    Args:
        disk: shared by all.
        control: path of the file of the shared positions.

    Attributes:
        before: called before each call and failpoint; raises what is to be raised.
        dies_at: the step at which this process is killed; None for never.
        is_dead: whether it was.
        fails_after: the error with which its next call fails after all; 0 for none.
    """

    def __init__(self, disk: Disk, control: str) -> None:
        self.disk = disk
        self.control = control
        self.before: Callable[[Call], None] | None = None
        self.dies_at: int | None = None
        self.is_dead = False
        self.fails_after = 0

    def kill(self) -> None:
        """Let this process do nothing more."""
        self.is_dead = True
        self.disk.kill(self)

    def pause(self, seconds: float) -> None:
        """Go on at once: nobody else does anything meanwhile."""

    def reached(self, failpoint: str) -> None:
        self._prepare(Call(failpoint, "", failpoint, -1, self))

    def call(
        self,
        operation: str,
        path: str,
        function: Callable[P, ResultT],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ResultT:
        name = function.__name__

        def attempt() -> ResultT:
            descriptor = args[0] if args and isinstance(args[0], int) else -1
            self._prepare(Call(operation, path, name, descriptor, self))
            if name in STEPS:
                self._step()
            result = self.disk.perform(self, name, function, args, kwargs)
            if self.fails_after:
                number, self.fails_after = self.fails_after, 0
                raise OSError(number, "injected")
            return result

        return super().call(operation, path, attempt)

    def _prepare(self, call: Call) -> None:
        if self.is_dead:
            raise KilledError
        if self.before is not None:
            self.before(call)

    def _step(self) -> None:
        if self.dies_at is not None and self.disk.steps >= self.dies_at:
            self.kill()
            raise KilledError
        self.disk.steps += 1
        if self.disk.on_step is not None:
            self.disk.on_step()

    # Which file system something is on

    def file_system_type(self, status: FileStatus) -> str:
        return ""

    def directory_status(self, directory: OpenDirectory) -> FileStatus:
        return self._moved(super().directory_status(directory), directory.path)

    def status_of_path(self, path: str) -> FileStatus | None:
        found = super().status_of_path(path)
        return None if found is None else self._moved(found, path)

    def _moved(self, status: FileStatus, path: str) -> FileStatus:
        node = self.disk.node_of(path)
        if node is None or node.device == 0:
            return status
        return status._replace(device=node.device)
