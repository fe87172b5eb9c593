"""The slots of a log that hold nothing: how many there are, and how large."""

from __future__ import annotations

import errno

from aiocheckpoint._disk.files import FreeRoom, monotonic_seconds
from aiocheckpoint._disk.log import Log
from aiocheckpoint._disk.pending import Pending
from aiocheckpoint._disk.slots import FIRST_SLOT_BYTES, LARGEST_SPARE_BYTES
from aiocheckpoint._format import log
from aiocheckpoint.errors import StorageError, StorageFullError

_REMOVALS_BYTES = 64 << 10
_AMPLE_BYTES = 64 << 20
_AMPLE_INODES = 1 << 16  # more than a second of saves takes
_FEW_INODES = 8  # left to who commits while a spare is made
_SECONDS = 1.0


class FreeSlots:
    """
    Keeps a slot ready for the next segment; every method but one needs the log's lock.

    Args:
        log_: the log.
        pending: what is to be written to files.
    """

    def __init__(self, log_: Log, pending: Pending) -> None:
        self._log = log_
        self._pending = pending
        self._is_last_taken = False
        self._known, self._asked_at = FreeRoom(0, 0), float("-inf")

    def room_bytes(self, wanted: int) -> int:
        """
        Return how much room the disk has beside the files to be written, and removals.

        Args:
            wanted: how much matters; where there is far more, what is told may be a second old.
        """
        used = self._pending.file_bytes() + _REMOVALS_BYTES
        if not self._is_recent or self._known.size_bytes - used - wanted < _AMPLE_BYTES:
            self._ask()
        return max(self._known.size_bytes - used, 0)

    def room_inodes(self, wanted: int) -> int:
        """Return how many inodes the disk has beside the files to be written, as `room_bytes`."""
        if not self._is_recent or self._known.inodes < _AMPLE_INODES:
            self._ask()
        at_least = self._known.inodes - self._pending.most_inodes() - 1
        if at_least >= wanted:
            return at_least
        for_slot = 0 if self.numbers() else 1  # which flushes and deletes may need
        return max(self._known.inodes - self._pending.inodes() - for_slot, 0)

    def _unpromised_inodes(self) -> int:
        return self._log.slots.free_room().inodes - self._pending.inodes()

    @property
    def _is_recent(self) -> bool:
        return monotonic_seconds() - self._asked_at < _SECONDS

    def _ask(self) -> None:
        self._known, self._asked_at = self._log.slots.free_room(), monotonic_seconds()

    def numbers(self) -> list[int]:
        """Return the numbers of those with room for frames, that of the largest last."""
        slots = self._log.slots
        numbers = [number for number in self._unused() if slots.size(number) > log.HEADER_BYTES]
        return sorted(numbers, key=slots.size)

    def _unused(self) -> list[int]:
        used = {segment.slot for segment in self._log.segments}
        return [number for number in self._log.slots.numbers() if number not in used]

    def take_for_rest(self) -> int:
        """
        Return the number of a slot for a segment without frames, made once.

        It has no room for any, so that whoever reads the log has none to look for behind its end.

        Raises:
            StorageError: there is no slot at all, and none can be made.
        """
        slots = self._log.slots
        for number in self._unused():
            if slots.size(number) == log.HEADER_BYTES:
                return number
        try:
            return slots.create(log.HEADER_BYTES)
        except StorageError:
            return self.take(log.HEADER_BYTES)

    def take(self, size: int, *, spared_bytes: int = 0) -> int:
        """
        Return the number of a slot, made if need be.

        Args:
            size: how large it must be at least.
            spared_bytes: how much room to leave on the disk, beside that for the files to be
                written: they set slots free, and without them deletes could find none. None at
                all is left if it is 0.

        Raises:
            StorageFullError: there is no room for it.
        """
        slots = self._log.slots
        slots.require_allowed(log.align(size))
        free = self.numbers()
        self._is_last_taken = len(free) <= 1
        size = log.align(size)
        if not free:
            try:
                return self._create(max(self._next_bytes(), size), spared_bytes)
            except StorageFullError:  # this one suffices
                return self._create(size, spared_bytes)
        known = slots.size(free[-1])
        if known < size:
            self._require_room(size - known, spared_bytes)
            slots.grow(free[-1], size)
        slots.keep(free[-1])
        return free[-1]

    def _create(self, size: int, spared_bytes: int) -> int:
        self._require_room(size, spared_bytes)
        if spared_bytes and self._unpromised_inodes() < 1:
            raise self.no_room()
        return self._log.slots.create(size)

    def _require_room(self, size: int, spared_bytes: int) -> None:
        wanted = size + spared_bytes
        if spared_bytes and self.room_bytes(wanted) < wanted:
            raise self.no_room()

    def no_room(self) -> StorageFullError:
        """Return what says that the disk has no room for more than is to be written."""
        reason = "what the disk has left is for the files of what is saved, and for deletes"
        return StorageFullError("write", self._log.directory.path, errno.ENOSPC, reason)

    def _next_bytes(self) -> int:
        """Return the size of a new slot: twice the last, within bounds."""
        wanted = FIRST_SLOT_BYTES
        if self._log.segments and self._log.control is not None:
            wanted = 2 * self._log.slots.size(self._log.segments[-1].slot)
            wanted = min(wanted, LARGEST_SPARE_BYTES, self._log.control.max_bytes // 4)
        return min(max(log.align(wanted), FIRST_SLOT_BYTES), self._log.slots.max_bytes)

    def trim(self, max_bytes: int, spares: int = 1) -> int:
        """
        Remove free slots that are of no use any more.

        Args:
            max_bytes: how much of the disk slots may take.
            spares: how many free ones stay, unless files need their room.

        Returns:
            the size of one to prepare; 0 when there is a free one, or no room.
        """
        slots = self._log.slots
        free = self.numbers()
        largest = slots.size(free[-1]) if free else 0
        if self.room_bytes(largest) < largest:  # before files find none, and saves are refused
            max_bytes = spares = 0
        total = sum(map(slots.size, slots.numbers()))
        while len(free) > spares:
            is_small = 2 * slots.size(free[0]) <= slots.size(self._log.segments[-1].slot)
            if not is_small and total <= max(max_bytes, 2 * FIRST_SLOT_BYTES):
                break
            doomed = free.pop(0 if is_small else -1)
            total -= slots.size(doomed)
            self.remove(doomed)
        return 0 if free else self._spare_bytes()

    def remove(self, number: int) -> None:
        """
        Remove a free slot.

        One that is not blank was given free by who died before that was durable: if it were gone
        after a crash, it would be missed.
        """
        if self._log.slots.is_blank(number):
            self._log.slots.remove(number)

    def spare_bytes(self) -> int:
        """
        Return the size of a slot to prepare, 0 where this process knows of a free one.

        It needs no lock: `adopt_spare` looks whether there is room after all.
        """
        return self._spare_bytes() if self._is_last_taken else 0

    def _spare_bytes(self) -> int:
        size = self._next_bytes()
        wanted = 3 * size  # its files, and something to spare
        if self.room_bytes(wanted) < wanted:
            return 0
        return size if self._unpromised_inodes() >= _FEW_INODES else 0

    def adopt_spare(self) -> None:
        """
        Make a slot of the file that was prepared, or remove it, where files need its room by now.

        It is made without the lock, and those who commit meanwhile count on what it takes.
        """
        if self.room_bytes(0) and self._unpromised_inodes() >= 0:
            self._log.slots.adopt()
            self._is_last_taken = False
        else:
            self._log.slots.discard_spare()
