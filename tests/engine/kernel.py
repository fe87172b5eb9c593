"""What the system does with each call: who sees what, and what becomes durable by it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, ParamSpec, TypeVar

from aiocheckpoint._disk import system
from aiocheckpoint._disk.files import LocalFiles
from aiocheckpoint._disk.locks import CONTROL_NAME
from aiocheckpoint._format.log import CONTROL_BYTES
from aiocheckpoint._format.names import PRIVATE_DIRECTORY
from tests.engine.nodes import (
    Named,
    Node,
    enter_durably,
    walk,
)

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
ROOT_NAME = "state"
CONTROL_PATH = f"{ROOT_NAME}/{PRIVATE_DIRECTORY}/{CONTROL_NAME}"


class WouldWaitError(BaseException):
    """Somebody else of this thread holds the lock, so that waiting would never end."""


@dataclass(slots=True)
class _Open:
    node: Node | None
    owner: object
    has_failed: bool = False
    has_disk_failed: bool = False


class Kernel:
    """
    The system calls on a directory and all that is below it.

    Args:
        outer: an existing, empty directory; what is tested goes below it.

    Attributes:
        steps: how many calls so far have changed or synced something.
        on_step: called before each of them, if it is not None.
        controls: each content that the shared positions have had.
        synced_control: which of them was made durable last; 0 for none.
    """

    def __init__(self, outer: Path) -> None:
        self.outer = str(outer / "disk")
        self._graves = str(outer / "graves")
        Path(self.outer).mkdir()
        Path(self._graves).mkdir()
        self.steps = 0
        self.on_step: Callable[[], None] | None = None
        self.controls: list[bytes] = []
        self.synced_control = 0
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
        self.synced_control = 0
        self._top = Node("directory", os.stat(self.outer).st_ino)
        self._pending = []

    def kill(self, owner: object) -> None:
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
        self, owner: object, name: str, function: Callable[P, ResultT], args: Any, kwargs: Any
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
        if name == "await_lock":
            raise WouldWaitError
        if name == "lock_file":
            if not system.try_lock_file(args[0], shared=False):
                raise WouldWaitError
            return None  # type: ignore[return-value]
        result = function(*args, **kwargs)
        _EFFECTS[name](self, owner, result, args, kwargs)
        return result

    def _opened(self, owner: object, result: Any, args: Any, kwargs: Any) -> None:
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
        # Of a failure that nobody was told of, the next one is who opens the file.
        self.fds[result] = _Open(node, owner, has_failed=node.is_unseen)

    def _name(self, change: list[Named]) -> None:
        for directory, name, node in change:
            if node is None:
                directory.names.pop(name, None)
            else:
                directory.names[name] = node
        self._pending.append(change)

    def _written(self, owner: object, result: Any, args: Any, kwargs: Any) -> None:
        node = self.fds[args[0]].node
        assert node is not None
        data = bytes(args[1][:result])
        node.write(args[2], data)
        if len(data) == CONTROL_BYTES and node is self.node_of(f"{self.outer}/{CONTROL_PATH}"):
            self.controls.append(data)

    def _made(self, owner: object, result: Any, args: Any, kwargs: Any) -> None:
        directory, name = self._place(args[0], kwargs["dir_fd"])
        if directory is not None:
            inode = os.stat(args[0], **kwargs).st_ino
            device = self.devices.get(name, directory.device)
            self._name([(directory, name, Node("directory", inode, device))])

    def _linked(self, owner: object, result: Any, args: Any, kwargs: Any) -> None:
        source, old = self._place(args[0], kwargs["src_dir_fd"])
        target, new = self._place(args[1], kwargs["dst_dir_fd"])
        assert source is not None
        assert target is not None
        self._name([(target, new, source.names[old])])

    def _symlinked(self, owner: object, result: Any, args: Any, kwargs: Any) -> None:
        directory, name = self._place(args[1], kwargs["dir_fd"])
        assert directory is not None
        self._name([(directory, name, Node("symlink", target=args[0]))])

    def _renamed(self, owner: object, result: Any, args: Any, kwargs: Any) -> None:
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

    def _removed(self, owner: object, result: Any, args: Any, kwargs: Any) -> None:
        directory, name = self._place(args[0], kwargs["dir_fd"])
        assert directory is not None
        self._name([(directory, name, None)])

    def _timed(self, owner: object, result: Any, args: Any, kwargs: Any) -> None:
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
            if self.controls and node is self.node_of(f"{self.outer}/{CONTROL_PATH}"):
                self.synced_control = len(self.controls) - 1
        else:
            self._make_names_durable(node, node.device)
        if has_failed:
            node.is_unseen = False
            raise OSError(errno.EIO, "an earlier write failed, injected")

    def fail_sync(self, descriptor: int, *, whole: bool = False, is_seen: bool = True) -> None:
        """
        Let a sync fail: what was to be synced is clean, and who has it open is told once.

        Args:
            descriptor: that is synced; its owner is told now.
            whole: whether it is the disk that is synced.
            is_seen: whether anybody is told now; or else who opens it later is told, too.
        """
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
            found.is_unseen = not is_seen

    def _files_on(self, device: int) -> list[Node]:
        found: dict[int, Node] = {}
        for opened in self.fds.values():
            if opened.node is not None:
                found[id(opened.node)] = opened.node
        for _, node in walk(self._top, durable=False):
            found[id(node)] = node
        return [n for n in found.values() if n.kind == "file" and n.device == device]

    def _make_names_durable(self, directory: Node | None, device: int) -> None:
        remaining: list[list[Named]] = []
        for change in self._pending:
            of_it = change[0][0] is directory or (
                directory is None and change[0][0].device == device
            )
            if of_it:
                enter_durably(change)
            else:
                remaining.append(change)
        self._pending = remaining

    @property
    def pending_names(self) -> int:
        """How many changes of names are not durable."""
        return len(self._pending)


_READING = frozenset({
    "stat", "fstat", "read_at", "_names_in", "readlink", "try_lock_file",
    "unlock_file", "chown", "file_system_type", "free_room",
})  # fmt: skip
SYNCS = frozenset({"data_sync", "full_sync", "fsync", "syncfs"})
_EFFECTS: dict[str, Callable[[Kernel, object, Any, Any, Any], None]] = {
    "open": Kernel._opened,
    "_open_file": Kernel._opened,
    "write_at": Kernel._written,
    "_make_directory": Kernel._made,
    "link": Kernel._linked,
    "symlink": Kernel._symlinked,
    "replace": Kernel._renamed,
    "unlink": Kernel._removed,
    "rmdir": Kernel._removed,
    "utime": Kernel._timed,
}
STEPS = SYNCS | (_EFFECTS.keys() - {"open", "_open_file", "utime"})
"""The functions that change or sync something, and so are worth dying at."""
