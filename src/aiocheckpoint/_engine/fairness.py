"""What goes into the next commit: all that waits, or, where that is too much, sessions in turn."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from aiocheckpoint._disk.files import FreeRoom
from aiocheckpoint._disk.pending import FILE_BYTES
from aiocheckpoint._engine.changes import Batch, Change
from aiocheckpoint._format.log import BLOCK_BYTES

SLOT_BYTES = 2 * BLOCK_BYTES
"""What a slot that is made takes beside changes: its header, and what is rounded up."""
_ENTRY_BYTES = 1024  # what a frame says of a file, with names and ids of some length
_MAX_CHANGES = 512


class Room(NamedTuple):
    """
    What the changes of one commit may take, but for removals, which always fit.

    Attributes:
        max_bytes: of the journal.
        disk: of the disk; None where all that wait have room.
        alone: of the disk by the files of the first change, where it is over the others.
        inodes: tells how many a change takes.
    """

    max_bytes: int = 8 << 20
    disk: FreeRoom | None = None
    alone: FreeRoom = FreeRoom()
    inodes: Callable[[Change], int] = lambda change: change.files

    def lets_pass(self, change: Change) -> bool:
        """Tell whether there is room for the files of a change, if no other has any."""
        has_bytes = file_bytes([change]) <= self.alone.size_bytes
        return has_bytes and self.inodes(change) <= self.alone.inodes


AMPLE_ROOM = Room()


def file_bytes(changes: Iterable[Change]) -> int:
    """Return about how much of a disk changes take in their files."""
    return sum([change.size_bytes + FILE_BYTES * change.files for change in changes])


def disk_bytes(changes: Iterable[Change]) -> int:
    """Return about how much of a disk changes take, in their files, and in the journal."""
    per_file = FILE_BYTES + _ENTRY_BYTES
    return sum([2 * change.size_bytes + per_file * change.files for change in changes])


def take_fairly(
    waiting: deque[Change], room: Room = AMPLE_ROOM, *, removals_only: bool = False
) -> list[Change]:
    """
    Take what goes into the next commit: all, or, where that is too much, each session in turn.

    Args:
        waiting: in the order of the calls; what is taken is taken out, and of the others those
            whose turn it is come first then.
        room: what they may take.
        removals_only: whether to take only what makes room, and waits for nothing before it.
    """
    if not removals_only and _all_fit(waiting, room):
        batch = list(waiting)
        waiting.clear()
        return batch
    batch = []
    held_up: list[deque[Change]] = []
    queues = _by_turn(waiting)
    used = _Used(room, is_full=removals_only)
    while queues and len(batch) < _MAX_CHANGES:
        turn, changes = queues.popitem(last=False)
        if not used.admits(changes[0]):
            held_up.append(changes)
            continue
        batch.append(changes.popleft())
        if changes:
            queues[turn] = changes
    waiting.clear()
    for changes in (*held_up, *queues.values()):
        waiting.extend(changes)
    return batch


def _all_fit(waiting: deque[Change], room: Room) -> bool:
    if len(waiting) > _MAX_CHANGES:
        return False
    if room.disk is None and room.max_bytes >= sum([c.size_bytes for c in waiting]):
        return True
    return len(waiting) == 1 and room.lets_pass(waiting[0])


class _Used:
    """How much of the room is taken; once something did not fit, no save behind it passes."""

    def __init__(self, room: Room, *, is_full: bool) -> None:
        self._room = room
        self._is_full = is_full
        self._bytes = self._disk_bytes = self._inodes = 0
        self._has_saves = False

    def admits(self, change: Change) -> bool:
        """Take a change in, if there is room for it."""
        if change.is_removal:
            return True
        room = self._room
        fits = self._adds(change)
        if not fits and (self._has_saves or not room.lets_pass(change)):
            self._is_full = True
        self._has_saves = True
        return not self._is_full

    def _adds(self, change: Change) -> bool:
        """Add what a change takes to what others do; tell whether there is room for all."""
        disk = self._room.disk
        self._bytes += change.size_bytes
        has_room = self._bytes <= self._room.max_bytes
        if disk is None:
            return has_room
        self._disk_bytes += disk_bytes([change])
        self._inodes += self._room.inodes(change)
        return has_room and self._disk_bytes <= disk.size_bytes and self._inodes <= disk.inodes


def _by_turn(waiting: Iterable[Change]) -> OrderedDict[str, deque[Change]]:
    """Return what waits and was not given up, by whose turn it is."""
    turn_of = _turns(waiting)
    queues: OrderedDict[str, deque[Change]] = OrderedDict()
    for change in waiting:
        if not change.job.is_over:
            queues.setdefault(turn_of(change.session), deque()).append(change)
    return queues


def _turns(waiting: Iterable[Change]) -> Callable[[str], str]:
    """Return what tells whose turn it is a session's: sessions that a change is about share one."""
    first_of: dict[str, str] = {}

    def turn_of(session: str) -> str:
        while session in first_of:
            session = first_of[session]
        return session

    for change in waiting:
        if isinstance(change, Batch):
            first, *others = change.sessions
            for other in others:
                if turn_of(other) != turn_of(first):
                    first_of[turn_of(other)] = turn_of(first)
    return turn_of
