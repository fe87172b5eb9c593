"""The files that the log is kept in: `log.0`, `log.1` and so on, preallocated and used again."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Iterable

from aiocheckpoint._disk.files import Directory, FreeRoom, LocalFiles, max_file_bytes
from aiocheckpoint._format import log
from aiocheckpoint._format.log import Header
from aiocheckpoint.errors import FileSizeLimitError, StorageError

_PREFIX = "log."
_SPARE_NAME = "spare"
_CHUNK_BYTES = 1 << 20
FIRST_SLOT_BYTES = 1 << 20
LARGEST_SPARE_BYTES = 16 << 20


class Slots:
    """
    The slots of one log, opened when they are needed.

    Args:
        files: the file operations.
        directory: the store's own, open.
        writable: whether to open them to write.

    Attributes:
        max_bytes: how much of a slot this process may write: the system's limit of file sizes.
        beside: the names of all files beside the slots, and theirs, when `numbers` was last called.
    """

    def __init__(self, files: LocalFiles, directory: Directory, *, writable: bool) -> None:
        self._files = files
        self._directory = directory
        self._writable = writable
        self.max_bytes = max_file_bytes() // log.BLOCK_BYTES * log.BLOCK_BYTES
        # Who looks without the log's lock must not close what who has it is just making.
        self._mutex = threading.RLock()
        self._descriptors: dict[int, int] = {}
        self._unvouched: dict[int, int | None] = {}
        self._kept: dict[int, int] = {}
        self._expected: set[int] = set()
        self._sizes: dict[int, int] = {}
        self._paths: dict[int, str] = {}
        self.beside: list[str] = []

    def path(self, number: int) -> str:
        """Return where a slot is."""
        path = self._paths.get(number)
        if path is None:
            path = self._paths[number] = self._directory.join(f"{_PREFIX}{number}")
        return path

    def close(self) -> None:
        """Close all slots."""
        for number in [*self._descriptors]:
            self._close(number)

    def numbers(self) -> list[int]:
        """Return which slots there are."""
        names = self.beside = self._files.scan(self._directory)
        digits = (name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX))
        found = sorted(int(text) for text in digits if text.isascii() and text.isdigit())
        with self._mutex:
            for number, descriptor in [*self._descriptors.items()]:
                there = self._files.status(self._directory, f"{_PREFIX}{number}")
                held = self._files.open_status(descriptor, self.path(number))
                if there is None or there.identity != held.identity:  # removed, or made again
                    self._close(number)
        return found

    def is_at_path(self, number: int) -> bool:
        """Tell whether the path of a slot leads to the one that is open, if one is."""
        descriptor = self._descriptors.get(number)
        return descriptor is None or self._files.leads_to(self.path(number), descriptor)

    def _close(self, number: int) -> None:
        self._kept.pop(number, None)
        self._sizes.pop(number, None)
        descriptor = self._descriptors.pop(number, None)
        if descriptor is not None:
            with contextlib.suppress(StorageError):
                self._files.close(descriptor, self.path(number))

    def _descriptor(self, number: int) -> int:
        descriptor = self._descriptors.get(number)
        if descriptor is None:
            descriptor = self._found(number)
        if descriptor is None:
            raise StorageError("open", self.path(number), None, "a part of the journal is gone")
        return descriptor

    def _found(self, number: int) -> int | None:
        descriptor = self._descriptors.get(number)
        if descriptor is None:
            with self._mutex:
                descriptor = self._opened(number)
        return descriptor

    def _opened(self, number: int) -> int | None:
        descriptor = self._descriptors.get(number)  # by now, perhaps
        if descriptor is None:
            name = f"{_PREFIX}{number}"
            descriptor = self._files.open_file(self._directory, name, write=self._writable)
            if descriptor is not None:
                self._descriptors[number] = descriptor
                self._unvouched[number] = None
        return descriptor

    def expect(self, number: int) -> None:
        """Read a slot that has to be there as an empty one, should somebody have removed it."""
        self._expected.add(number)

    def _is_gone(self, number: int) -> bool:
        return number in self._expected and self._found(number) is None

    def has(self, number: int) -> bool:
        """Tell whether a slot is there."""
        return self._found(number) is not None

    def is_lost(self, number: int) -> bool:
        """Tell whether a slot is gone, or does not begin with a header."""
        return not self.has(number) or self.header(number) is None

    def is_blank(self, number: int) -> bool:
        """Tell whether a slot was given free; what is shared was durable before that."""
        return not any(self.read(number, 8, 0))

    def size(self, number: int, at_least: int = 0) -> int:
        """Return the size of a slot, which may have grown if what is known is below `at_least`."""
        if self._expected and self._is_gone(number):
            return 0
        descriptor = self._descriptor(number)
        known = self._sizes.get(number, 0)
        if not known or known < at_least:
            known = self._files.open_status(descriptor, self.path(number)).size_bytes
            self._sizes[number] = known
        return known

    def capacity(self, number: int, at_least: int) -> int:
        """Return how much of a slot this process may write; see `size`."""
        return min(self.size(number, at_least), self.max_bytes)

    def require_allowed(self, size: int) -> None:
        """
        Refuse a slot that the system lets nobody write.

        Raises:
            FileSizeLimitError: it is larger than files of this process may be.
        """
        if size > self.max_bytes:
            reason = f"it takes {size} bytes, files of this process may have {self.max_bytes}"
            raise FileSizeLimitError("write", self._directory.path, errno.EFBIG, reason)

    def free_room(self) -> FreeRoom:
        """Return how much the disk has room for."""
        return self._files.free_room(self._directory)

    def read(self, number: int, size: int, offset: int) -> bytes:
        """Return bytes of a slot, fewer at its end."""
        if self._expected and self._is_gone(number):
            return b""
        return self._files.read_at(self._descriptor(number), size, offset, self.path(number))

    def read_whole(self, number: int, size: int, offset: int) -> bytes:
        """Return that many bytes, zeros for those that are lost, as copies stand side by side."""
        return self.read(number, size, offset).ljust(size, b"\0")

    def header(self, number: int) -> Header | None:
        """Return the header of a slot; None for one that is free or torn, or gone by now."""
        if self._found(number) is None:
            return None
        header = log.parse_header(self.read(number, log.HEADER_BYTES, 0), self.path(number))
        return header if header is not None and header.slot == number else None

    # Writing, under the log's lock

    def restore(self, number: int, size: int) -> None:
        """Make a slot that has to be there, if it is gone; durable."""
        if self._is_gone(number):
            self.create(size, number)

    def create(self, size: int, number: int | None = None) -> int:
        """Make a slot of zeros, so that a commit's sync has no metadata to write; durable."""
        number = max(self.numbers(), default=-1) + 1 if number is None else number
        name = f"{_PREFIX}{number}"
        with self._mutex:
            descriptor = self._files.open_file(self._directory, name, write=True, create=True)
            if descriptor is None:
                raise StorageError("create", self.path(number), None, "its directory was removed")
            self._descriptors[number] = descriptor
            self._unvouched[number] = 0
        try:
            self.grow(number, size)
            self._files.sync_directory(self._directory)
            self._kept[number] = size
        except BaseException:
            self.remove(number)
            raise
        return number

    def keep(self, number: int) -> None:
        """Make the name and the size of a slot durable: who made it may have died before."""
        size = self.size(number)
        if self._kept.get(number) != size:
            self._files.sync_file(self._descriptor(number), self.path(number))
            self._files.sync_directory(self._directory)
            self._kept[number] = size

    def remove(self, number: int) -> None:
        """Remove a slot that nobody needs, if it is there."""
        with self._mutex:
            self._files.discard(self._directory, f"{_PREFIX}{number}")
            self._close(number)

    def prepare(self, size: int) -> None:
        """Make a file of zeros that `adopt` turns into a slot; needs no lock but the applier's."""
        self.discard_spare()
        path = self._directory.join(_SPARE_NAME)
        try:
            with self._files.created(self._directory, _SPARE_NAME) as descriptor:
                for offset in range(0, size, _CHUNK_BYTES):
                    data = bytes(min(_CHUNK_BYTES, size - offset))
                    self._files.write_at(descriptor, data, offset, path)
                self._files.sync_file(descriptor, path)
        except BaseException:
            self.discard_spare()
            raise

    def discard_spare(self) -> None:
        """Remove what was prepared, if it is there."""
        self._files.discard(self._directory, _SPARE_NAME)

    def adopt(self) -> None:
        """Make a slot of the file that was prepared, durably."""
        number = max(self.numbers(), default=-1) + 1
        self._files.rename(self._directory, _SPARE_NAME, f"{_PREFIX}{number}")
        self._files.sync_directory(self._directory)
        self._kept[number] = self.size(number)

    def grow(self, number: int, size: int) -> None:
        """Write zeros into a free slot up to a size, durably; one that cannot grow is removed."""
        start = self.size(number, size)
        try:
            for offset in range(start, size, _CHUNK_BYTES):
                self.write(number, bytes(min(_CHUNK_BYTES, size - offset)), offset)
            if start < size:
                self._files.sync_file(self._descriptors[number], self.path(number))
                self._sizes[number] = size
        except StorageError:
            self.remove(number)  # half of it would take up the room that there is
            raise

    def write(self, number: int, data: bytes | memoryview, offset: int) -> None:
        """Write into a slot."""
        self._files.write_at(self._descriptor(number), data, offset, self.path(number))

    def sync(self, number: int) -> None:
        """Make what was written into a slot durable."""
        self._files.sync_data(self._descriptor(number), self.path(number))

    def unvouched_end(self, number: int, end: int) -> int:
        """
        Return up to where this process's descriptor does not vouch for what is in a slot.

        A descriptor reports the failed writes of what was written since it was opened; of older
        ones somebody else, perhaps dead, may have seen the error.

        Args:
            number: of the slot.
            end: where its frames end now; counts when this is first asked.
        """
        known = self._unvouched.get(number)
        if known is None:
            known = self._unvouched[number] = end
        return known

    def vouch(self, number: int) -> None:
        """Note that all in a slot was written by this process's descriptor."""
        self._unvouched[number] = 0

    def doubt(self, number: int) -> None:
        """Note that a sync of a slot failed: what is in it is clean, and perhaps not durable."""
        self._unvouched[number] = None

    def blank(self, number: int) -> None:
        """Give a slot free, durably."""
        self.write(number, bytes(log.HEADER_BYTES), 0)
        self._files.reached("before_sync_blank")
        self.sync(number)

    def erase(self, numbers: Iterable[int]) -> None:
        """Overwrite all of some slots with zeros, durably."""
        zeros = bytes(_CHUNK_BYTES)
        for number in numbers:
            for offset in range(0, self.size(number), _CHUNK_BYTES):
                data = self.read(number, _CHUNK_BYTES, offset)
                if data != zeros[: len(data)]:
                    self.write(number, zeros[: len(data)], offset)
            self.sync(number)
