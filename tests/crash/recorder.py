"""File operations that write down everything they do to the disk.

`RecordingFiles` sits where every system call of the library passes: `LocalFiles.call`. A
function it does not know is an error, so nothing can change the disk unseen; that nothing
passes beside `call` is shown with strace in `test_recorder.py`.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any, ParamSpec, TypeVar

from aiocheckpoint._disk.files import LocalFiles
from aiocheckpoint.errors import StorageError
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

_ZEROES_FROM_BYTES = 65536


class RecordingFiles(LocalFiles):
    """
    Local files that record.

    Args:
        outer: the existing directory that holds the store's root.
        start: what is in it.
        boot: which run of the machine this is, as the library is to see it.

    Attributes:
        operations: what was done, in the order of effects.
        tree: what is in `outer` now.
        failpoints: names reached.
        held_at: a failpoint at which one thread stops until `released`; it sets `arrived`.
        refused: a function whose next call fails.
    """

    def __init__(self, outer: Path, start: Tree | None = None, boot: str = "boot-0") -> None:
        self.operations: list[Operation] = []
        self.failpoints: set[str] = set()
        self.held_at = ""
        self.arrived = threading.Event()
        self.released = threading.Event()
        self.refused = ""
        self.tree = Tree() if start is None else start.copy()
        self._boot = boot
        self._outer = os.path.abspath(outer)
        self._nodes: dict[int, int] = {}
        self._next_node = max(self.tree.kinds) + 1
        # Held over a call and its record, so that the record has the order of the effects.
        self._mutex = threading.RLock()

    def boot_id(self) -> str:
        return self._boot

    def reached(self, failpoint: str) -> None:
        self.failpoints.add(failpoint)
        if failpoint == self.held_at:
            self.held_at = ""
            self.arrived.set()
            self.released.wait()

    def began(self, call: int) -> None:
        """Mark that a call of the API begins."""
        self._note(Began(call))

    def acknowledged(self, call: int) -> None:
        """Mark that a call of the API has returned."""
        self._note(Acknowledged(call))

    def call(
        self,
        operation: str,
        path: str,
        function: Callable[P, ResultT],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ResultT:
        name = function.__name__
        with self._mutex:
            try:
                return super().call(operation, path, self.recorded(name, function), *args, **kwargs)
            except StorageError:
                if (
                    name in _SYNCS
                    and (node := self._nodes[_descriptor(args)]) in self.tree.contents
                ):
                    self._note(SyncFailed(node))
                raise

    def recorded(self, name: str, function: Callable[P, ResultT]) -> Callable[P, ResultT]:
        """Return the function with its effect written down; subclasses make it fail."""
        if name == self.refused:
            self.refused = ""
            return _refuse
        record = _RECORDS[name]

        def run(*args: P.args, **kwargs: P.kwargs) -> ResultT:
            result = function(*args, **kwargs)
            record(self, result, args, kwargs)
            return result

        return run

    def _note(self, operation: Operation) -> None:
        with self._mutex:
            self.operations.append(operation)
            self.tree.apply(operation)

    def _place(self, name: Any, kwargs: dict[str, Any], key: str = "dir_fd") -> tuple[int, str]:
        """Return the directory's node and the name that a path argument stands for."""
        descriptor = kwargs.get(key)
        if descriptor is not None:
            assert "/" not in name, f"{name} leads out of its directory"
            return self._nodes[descriptor], name
        parts = PurePath(name).relative_to(self._outer).parts
        directory = OUTER
        for part in parts[:-1]:
            directory = self.tree.entries[directory][part]
        return directory, parts[-1] if parts else ""

    def _new_node(self) -> int:
        self._next_node += 1
        return self._next_node - 1

    def _record_open(self, result: int, args: Any, kwargs: dict[str, Any]) -> None:
        directory, name = self._place(args[0], kwargs)
        node = self.tree.entries[directory].get(name) if name else OUTER
        if node is None:
            assert args[1] & os.O_CREAT
            node = self._new_node()
            self._note(Made(directory, name, node, File()))
        elif args[1] & os.O_TRUNC:
            self._note(Truncated(node, 0))
        self._nodes[result] = node

    def _record_close(self, result: None, args: Any, kwargs: dict[str, Any]) -> None:
        self._nodes.pop(args[0])

    def _record_mkdir(self, result: None, args: Any, kwargs: dict[str, Any]) -> None:
        directory, name = self._place(args[0], kwargs)
        self._note(Made(directory, name, self._new_node(), Directory()))

    def _record_made_directory(self, result: None, args: Any, kwargs: dict[str, Any]) -> None:
        self._record_mkdir(result, args[:1], {"dir_fd": args[1]})

    def _record_symlink(self, result: None, args: Any, kwargs: dict[str, Any]) -> None:
        directory, name = self._place(args[1], kwargs)
        self._note(Made(directory, name, self._new_node(), Symlink(args[0])))

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

    def _record_write(self, result: int, args: Any, kwargs: dict[str, Any]) -> None:
        node = self._nodes[args[0]]
        self._note_written(node, self.tree.contents[node].size, bytes(args[1][:result]))

    def _record_pwrite(self, result: int, args: Any, kwargs: dict[str, Any]) -> None:
        self._note_written(self._nodes[args[0]], args[2], bytes(args[1][:result]))

    def _note_written(self, node: int, offset: int, data: bytes) -> None:
        if len(data) >= _ZEROES_FROM_BYTES and not any(data):
            self._note(Zeroed(node, offset, len(data)))
        else:
            self._note(Written(node, offset, data))

    def _record_allocate(self, result: None, args: Any, kwargs: dict[str, Any]) -> None:
        node, end = self._nodes[args[0]], args[1] + args[2]
        size = self.tree.contents[node].size
        if end > size:
            self._note(Zeroed(node, size, end - size))

    def _record_truncate(self, result: None, args: Any, kwargs: dict[str, Any]) -> None:
        self._note(Truncated(self._nodes[args[0]], args[1]))

    def _record_sync(self, result: None, args: Any, kwargs: dict[str, Any]) -> None:
        self._note(Synced(self._nodes[_descriptor(args)]))

    def _record_data_sync(self, result: None, args: Any, kwargs: dict[str, Any]) -> None:
        self._note(Synced(self._nodes[_descriptor(args)], data_only=True))

    def _record_sync_all(self, result: None, args: Any, kwargs: dict[str, Any]) -> None:
        self._note(SyncedAll())

    def _record_nothing(self, result: object, args: Any, kwargs: dict[str, Any]) -> None:
        """A function that only reads, or locks."""


def _refuse(*args: object, **kwargs: object) -> Any:
    raise OSError(errno.EIO, "refused")


def _descriptor(args: Any) -> int:
    return int(args[0])


_SYNCS = frozenset({"fsync", "_full_sync", "fdatasync", "_data_sync"})
_RECORDS: dict[str, Callable[[RecordingFiles, Any, Any, dict[str, Any]], None]] = {
    "open": RecordingFiles._record_open,
    "close": RecordingFiles._record_close,
    "mkdir": RecordingFiles._record_mkdir,
    "_make_directory": RecordingFiles._record_made_directory,
    "symlink": RecordingFiles._record_symlink,
    "link": RecordingFiles._record_link,
    "replace": RecordingFiles._record_rename,
    "rename": RecordingFiles._record_rename,
    "unlink": RecordingFiles._record_remove,
    "rmdir": RecordingFiles._record_remove,
    "write": RecordingFiles._record_write,
    "pwrite": RecordingFiles._record_pwrite,
    "_write_at": RecordingFiles._record_pwrite,
    "posix_fallocate": RecordingFiles._record_allocate,
    "ftruncate": RecordingFiles._record_truncate,
    "fsync": RecordingFiles._record_sync,
    "_full_sync": RecordingFiles._record_sync,
    "fdatasync": RecordingFiles._record_data_sync,
    "_data_sync": RecordingFiles._record_data_sync,
    "syncfs": RecordingFiles._record_sync_all,
}
for _reading in (
    "stat", "fstat", "lseek", "read", "pread", "flock", "_names_in", "_read_link", "readlink",
    "listdir", "posix_fadvise",
):  # fmt: skip
    _RECORDS[_reading] = RecordingFiles._record_nothing
