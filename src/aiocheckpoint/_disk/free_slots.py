"""The slots of a log that hold nothing: how many there are, and how large."""

from __future__ import annotations

import errno

from aiocheckpoint._disk.log import Log
from aiocheckpoint._disk.slots import FIRST_SLOT_BYTES, LARGEST_SPARE_BYTES
from aiocheckpoint._format import log
from aiocheckpoint.errors import StorageFullError


class FreeSlots:
    """
    Keeps a slot ready for the next segment; every method needs the log's lock.

    Args:
        log_: the log.
    """

    def __init__(self, log_: Log) -> None:
        self._log = log_
        self._is_last_taken = False

    def numbers(self) -> list[int]:
        """Return their numbers, that of the largest last."""
        used = {segment.slot for segment in self._log.segments}
        numbers = self._log.slots.numbers()
        return sorted((n for n in numbers if n not in used), key=self._log.slots.size)

    def take(self, size: int, *, smallest: bool = False, spares_room: bool = False) -> int:
        """
        Return the number of a slot, made if need be.

        Args:
            size: how large it must be at least.
            smallest: whether to take the smallest that is free.
            spares_room: whether to leave the disk room for the files of the largest segment,
                which set its slot free, and for deletes of them; or else deletes could find
                none. While all is flushed, one change always passes.

        Raises:
            StorageFullError: there is no room for it.
        """
        slots = self._log.slots
        slots.require_allowed(log.align(size))
        free = self.numbers()[: 1 if smallest else None]
        self._is_last_taken = len(free) <= 1
        size = log.align(size)
        if not free:
            try:
                return self._create(max(self._next_bytes(), size), spares_room=spares_room)
            except StorageFullError:  # this one suffices
                return self._create(size, spares_room=spares_room and self._is_unflushed)
        known = slots.size(free[-1])
        if known < size:
            if spares_room and self._is_unflushed:
                self._require_room(size, known)
            slots.grow(free[-1], size)
        slots.keep(free[-1])
        return free[-1]

    def _create(self, size: int, *, spares_room: bool) -> int:
        if spares_room:
            self._require_room(size)
        return self._log.slots.create(size)

    def _require_room(self, size: int, known: int = 0) -> None:
        if not self._spares_room(size, known):
            path = self._log.directory.path
            reason = "what the disk has left is for the files of what is saved, and for deletes"
            raise StorageFullError("write", path, errno.ENOSPC, reason)

    def _spares_room(self, size: int, known: int = 0) -> bool:
        """Tell whether a segment's files, and as many deletes, have room beside a slot."""
        slots = self._log.slots
        segments = self._log.segments if self._is_unflushed else ()
        largest = max([size, *(slots.size(segment.slot) for segment in segments)])
        spared = largest + min(largest, LARGEST_SPARE_BYTES)
        return slots.free_bytes() >= size - known + spared

    @property
    def _is_unflushed(self) -> bool:
        control = self._log.control
        return control is None or self._log.end > control.flushed

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
            spares: how many free ones stay in any case.

        Returns:
            the size of one to prepare; 0 when there is a free one, or no room.
        """
        slots = self._log.slots
        free = self.numbers()
        total = sum(map(slots.size, slots.numbers()))
        while len(free) > spares:
            is_small = 2 * slots.size(free[0]) <= slots.size(self._log.segments[-1].slot)
            if not is_small and total <= max(max_bytes, 2 * FIRST_SLOT_BYTES):
                break
            doomed = free.pop(0 if is_small else -1)
            total -= slots.size(doomed)
            slots.remove(doomed)
        return 0 if free else self._spare_bytes()

    def spare_bytes(self) -> int:
        """Return the size of a slot to prepare, 0 where this process knows of a free one."""
        return self._spare_bytes() if self._is_last_taken else 0

    def _spare_bytes(self) -> int:
        size = self._next_bytes()
        return size if self._spares_room(size) else 0

    def adopt_spare(self) -> None:
        """Make a slot of the file that was prepared."""
        self._log.slots.adopt()
        self._is_last_taken = False
