"""File operations that write down everything they do to the disk.

`RecordingFiles` sits where every system call of the library passes: `LocalFiles.call`. A
function it does not know is an error, so nothing can change the disk unseen; that nothing
passes beside `call` is shown with strace in `test_completeness`.

Inodes are told by the numbers of nodes, so that a state of the disk that is put into another
directory is still the same disk to the library.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ParamSpec, TypeVar, cast

from aiocheckpoint._disk.files import LocalFiles
from aiocheckpoint.errors import CheckpointError, StorageError
from tests.crash.operations import (
    OUTER,
    Acknowledged,
    Began,
    Directory,
    File,
    Linked,
    Made,
    Operation,
    Removed,
    Renamed,
    Symlink,
    Synced,
    SyncedAll,
    SyncFailed,
    Tree,
    Truncated,
    Written,
    Zeroed,
)

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
Record = Callable[["RecordingFiles", Any, Any, dict[str, Any]], object]

_ZEROES_FROM_BYTES = 65536
_FIRST_INODE = 1000


class KilledError(CheckpointError):
    """The process that makes the call is dead."""


class RecordedDisk:
    """
    What all processes did to a disk.

    Args:
        outer: the existing directory that holds the store's root.
        start: what is in it.

    Attributes:
        operations: what was done, in the order of effects.
        tree: what is in `outer` now.
        mutex: held over a call and its record, so that the record has the order of the effects.
    """

    def __init__(self, outer: Path, start: Tree | None = None) -> None:
        self.outer = os.path.abspath(outer)
        self.operations: list[Operation] = []
        self.tree = Tree() if start is None else start.copy()
        self.mutex = threading.RLock()
        self._next_node = max(self.tree.kinds) + 1

    def note(self, operation: Operation) -> None:
        """Write down what was done."""
        with self.mutex:
            self.operations.append(operation)
            self.tree.apply(operation)

    def new_node(self) -> int:
        """Return a number that no node has, or had."""
        self._next_node += 1
        return self._next_node - 1

    def node_of(self, path: str) -> int | None:
        """Return what a path leads to, symlinks followed; None where it leads nowhere."""
        node: int | None = OUTER
        assert path.startswith(self.outer), f"{path} is elsewhere"
        for part in path[len(self.outer) + 1 :].split("/") if path != self.outer else ():
            node = None if node is None else self.tree.entries.get(node, {}).get(part)
        return node


class RecordingFiles(LocalFiles):
    """
    Local files of one process that record.

    Args:
        outer: the existing directory that holds the store's root.
        start: what is in it.
        beside: another process on the same disk.

    Attributes:
        disk: what was done by all processes.
        failpoints: names reached.
        lifetime: how many changes this process makes before it is killed; None for no end.
        changes: how many it has made.
    """

    def __init__(
        self, outer: Path, start: Tree | None = None, beside: RecordingFiles | None = None
    ) -> None:
        self.disk: RecordedDisk = RecordedDisk(outer, start) if beside is None else beside.disk
        self.failpoints: set[str] = set()
        self._refused = ""
        self.lifetime: int | None = None
        self.changes = 0
        self._is_dead = False
        self._actions: dict[str, Callable[[], None]] = {}
        self._nodes: dict[int, int] = {}

    @property
    def operations(self) -> list[Operation]:
        """What was done, in the order of effects."""
        return self.disk.operations

    @property
    def tree(self) -> Tree:
        """What is in the outer directory now."""
        return self.disk.tree

    def at(self, moment: str, action: Callable[[], None]) -> None:
        """Run an action when a failpoint, or an operation on a name as `"lock applier"`, is met."""
        self._actions[moment] = action

    def reached(self, failpoint: str) -> None:
        self.failpoints.add(failpoint)
        self._act(failpoint)

    def pause(self, seconds: float) -> None:
        """Take no time."""

    def _act(self, moment: str) -> None:
        action = self._actions.pop(moment, None)
        if action is not None:
            action()

    def refuse_sync(self) -> None:
        """Let the next sync of the journal fail."""
        self._refused = "data_sync"

    def refuse_sync_and_die(self) -> None:
        """Let the next sync of the journal fail, and do nothing more."""
        self.refuse_sync()
        self.lifetime = self.changes + 1  # the failure counts

    def refuse_file_sync(self) -> None:
        """Let the next sync of a file fail."""
        self._refused = "full_sync"

    def die(self) -> None:
        """Do nothing any more, and let go of all locks, as a process that is killed."""
        with self.disk.mutex:
            self._is_dead = True
            for descriptor in self._nodes:
                os.close(descriptor)
            self._nodes.clear()
        raise KilledError

    def began(self, call: int) -> None:
        """Mark that a call of the API begins."""
        self.disk.note(Began(call))

    def acknowledged(self, call: int) -> None:
        """Mark that a call of the API has returned."""
        self.disk.note(Acknowledged(call))

    def call(
        self,
        operation: str,
        path: str,
        function: Callable[P, ResultT],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ResultT:
        name = function.__name__
        if self._actions:
            self._act(f"{operation} {os.path.basename(path)}")
        if name in _WAITING and not self._is_dead:  # others go on while this one waits
            return super().call(operation, path, self.recorded(name, function), *args, **kwargs)
        with self.disk.mutex:
            if self._is_dead:
                return cast("ResultT", _of_the_dead(name))
            try:
                return super().call(operation, path, self.recorded(name, function), *args, **kwargs)
            except StorageError:
                if (
                    name in _SYNCS
                    and (node := self._nodes[cast("int", args[0])]) in self.tree.contents
                ):
                    self._note(SyncFailed(node))
                raise

    def recorded(self, name: str, function: Callable[P, ResultT]) -> Callable[P, ResultT]:
        """Return the function with its effect written down; subclasses make it fail."""
        if name == self._refused:
            self._refused = ""
            return _refuse
        record = _RECORDS[name]

        def run(*args: P.args, **kwargs: P.kwargs) -> ResultT:
            if self.changes == self.lifetime and name in _CHANGES:
                self.die()
            result = function(*args, **kwargs)
            told: Any = record(self, result, args, kwargs)
            return result if told is None else told

        return run

    def _note(self, operation: Operation) -> None:
        self.changes += 1
        self.disk.note(operation)

    def _place(self, name: Any, kwargs: dict[str, Any], key: str = "dir_fd") -> tuple[int, str]:
        """Return the directory's node and the name that a path argument stands for."""
        descriptor = kwargs.get(key)
        if descriptor is not None:
            assert "/" not in name, f"{name} leads out of its directory"
            return self._nodes[descriptor], name
        if name == self.disk.outer:
            return OUTER, ""
        directory = self.disk.node_of(os.path.dirname(name))
        assert directory is not None, f"{name} is in no directory"
        return directory, os.path.basename(name)

    def _record_open(self, result: int, args: Any, kwargs: dict[str, Any]) -> None:
        directory, name = self._place(args[0], kwargs)
        node = self.tree.entries[directory].get(name) if name else OUTER
        if node is None:
            assert args[1] & os.O_CREAT
            node = self.disk.new_node()
            self._note(Made(directory, name, node, File()))
        elif args[1] & os.O_TRUNC:
            self._note(Truncated(node, 0))
        self._nodes[result] = node

    def _record_close(self, result: None, args: Any, kwargs: dict[str, Any]) -> None:
        self._nodes.pop(args[0])

    def _record_made_directory(self, result: None, args: Any, kwargs: dict[str, Any]) -> None:
        directory, name = self._place(args[0], kwargs)
        self._note(Made(directory, name, self.disk.new_node(), Directory()))

    def _record_symlink(self, result: None, args: Any, kwargs: dict[str, Any]) -> None:
        directory, name = self._place(args[1], kwargs)
        self._note(Made(directory, name, self.disk.new_node(), Symlink(args[0])))

    def _record_link(self, result: None, args: Any, kwargs: dict[str, Any]) -> None:
        source, old = self._place(args[0], kwargs, "src_dir_fd")
        target, new = self._place(args[1], kwargs, "dst_dir_fd")
        self._note(Linked(target, new, self.tree.entries[source][old]))

    def _record_rename(self, result: None, args: Any, kwargs: dict[str, Any]) -> None:
        source, old = self._place(args[0], kwargs, "src_dir_fd")
        target, new = self._place(args[1], kwargs, "dst_dir_fd")
        self._note(Renamed(source, old, target, new, self.tree.entries[source][old]))

    def _record_remove(self, result: None, args: Any, kwargs: dict[str, Any]) -> None:
        directory, name = self._place(args[0], kwargs)
        self._note(Removed(directory, name, self.tree.entries[directory][name]))

    def _record_write_at(self, result: int, args: Any, kwargs: dict[str, Any]) -> None:
        self._note_written(self._nodes[args[0]], args[2], bytes(args[1][:result]))

    def _note_written(self, node: int, offset: int, data: bytes) -> None:
        if len(data) >= _ZEROES_FROM_BYTES and data == bytes(len(data)):
            self._note(Zeroed(node, offset, len(data)))
        else:
            self._note(Written(node, offset, data))

    def _record_sync(self, result: None, args: Any, kwargs: dict[str, Any]) -> None:
        self._note(Synced(self._nodes[args[0]]))

    def _record_data_sync(self, result: None, args: Any, kwargs: dict[str, Any]) -> None:
        self._note(Synced(self._nodes[args[0]], data_only=True))

    def _record_sync_all(self, result: None, args: Any, kwargs: dict[str, Any]) -> None:
        self._note(SyncedAll())

    def _record_status(
        self, result: os.stat_result, args: Any, kwargs: dict[str, Any]
    ) -> SimpleNamespace:
        """Return the status with the inode of the recorded disk."""
        node: int | None
        if isinstance(args[0], int):
            node = self._nodes[args[0]]
        elif kwargs.get("dir_fd") is not None:
            node = self.tree.entries[self._nodes[kwargs["dir_fd"]]][args[0]]
        else:
            node = self.disk.node_of(args[0])
        assert node is not None
        return SimpleNamespace(
            st_mode=result.st_mode, st_ino=_FIRST_INODE + node, st_dev=result.st_dev,
            st_uid=result.st_uid, st_gid=result.st_gid, st_size=result.st_size,
            st_mtime_ns=result.st_mtime_ns,
        )  # fmt: skip

    def _record_nothing(self, result: object, args: Any, kwargs: dict[str, Any]) -> None:
        """A function that only reads, locks, or changes what no promise is about."""


def _of_the_dead(name: str) -> Any:
    if name not in _LETTING_GO:
        raise KilledError


def _refuse(*args: object, **kwargs: object) -> Any:
    raise OSError(errno.EIO, "refused")


_LETTING_GO = frozenset({"close", "unlock_file"})
_WAITING = frozenset({"lock_file", "await_lock"})
_SYNCS = frozenset({"fsync", "full_sync", "data_sync"})
_RECORDS: dict[str, Record] = {
    "open": RecordingFiles._record_open,
    "_open_file": RecordingFiles._record_open,
    "close": RecordingFiles._record_close,
    "_make_directory": RecordingFiles._record_made_directory,
    "symlink": RecordingFiles._record_symlink,
    "link": RecordingFiles._record_link,
    "replace": RecordingFiles._record_rename,
    "unlink": RecordingFiles._record_remove,
    "rmdir": RecordingFiles._record_remove,
    "write_at": RecordingFiles._record_write_at,
    "fsync": RecordingFiles._record_sync,
    "full_sync": RecordingFiles._record_sync,
    "data_sync": RecordingFiles._record_data_sync,
    "syncfs": RecordingFiles._record_sync_all,
    "stat": RecordingFiles._record_status,
    "fstat": RecordingFiles._record_status,
}
_CHANGES = frozenset(_RECORDS) - {"close", "stat", "fstat"}
for _reading in (
    "read_at", "_names_in", "readlink", "file_system_type", "free_room",
    "lock_file", "try_lock_file", "await_lock", "unlock_file", "utime", "chown",
):  # fmt: skip
    _RECORDS[_reading] = RecordingFiles._record_nothing
