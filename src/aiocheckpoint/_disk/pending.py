"""What the log holds that is not flushed, by session; pure but for the numbers of slots."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from aiocheckpoint._disk.log import ReadFrame
from aiocheckpoint._format.entries import (
    Entry,
    Owned,
    Quarantined,
    Removed,
    Saved,
    SavedBlob,
    Stuck,
    body_bytes,
)
from aiocheckpoint._format.log import BLOCK_BYTES
from aiocheckpoint._format.names import parse_name

KeyT = TypeVar("KeyT")
_REMOVALS = (Removed, Quarantined)
FILE_BYTES = 2 * BLOCK_BYTES
"""What a file takes of a disk besides its content, for what is rounded up and its directory."""

SESSION_INODES = 4
"""What a session's first file takes besides its own at most: three directories, `latest.json`."""


class Committed(msgspec.Struct, frozen=True, gc=False):
    """
    An entry of the log and where its body is; no work for the garbage collector.

    Attributes:
        entry: what must be true.
        place: behind its frame.
        body: its bytes, where this process made it; None for others, and for those without.
        slot: number of the slot that its frame is in.
        offset: of the body in the slot.
    """

    entry: Entry
    place: int
    body: bytes | None
    slot: int
    offset: int


class SessionLog:
    """
    The entries of one session, in order.

    Attributes:
        entries: oldest first.
        saved: by file name, those saved and not removed since.
        blobs: by digest, likewise.
        stuck: why its files cannot be written, None if they can.
        size_bytes: about how much of the log its entries take.
        file_bytes: about how much of the disk the files of what is saved will take.
    """

    __slots__ = ("_removals", "blobs", "entries", "file_bytes", "saved", "size_bytes", "stuck")

    def __init__(self) -> None:
        self.entries: deque[Committed] = deque()
        self.saved: dict[str, Committed] = {}
        self.blobs: dict[bytes, Committed] = {}
        self.stuck: Stuck | None = None
        self.size_bytes = self.file_bytes = self._removals = 0

    def add(self, committed: Committed) -> None:
        """Enter the newest entry."""
        entry = committed.entry
        match entry:
            case Saved():
                if entry.name in self.saved:
                    self._let_go(self.saved, entry.name)
                self.saved[entry.name] = committed
                self.file_bytes += entry.size_bytes + FILE_BYTES
            case SavedBlob():
                self._let_go(self.blobs, entry.digest)
                self.blobs[entry.digest] = committed
                self.file_bytes += entry.size_bytes + FILE_BYTES
            case Removed():
                for name in entry.names:
                    self._let_go(self.saved, name)
                for digest in entry.blobs:
                    self._let_go(self.blobs, digest)
            case Stuck():
                self.stuck = entry
            case Owned():
                return  # nothing of it is to be done
            case Quarantined():
                self._let_go(self.saved, entry.name)
                if entry.is_blob:
                    self._let_go(self.blobs, bytes.fromhex(entry.name))
        self.entries.append(committed)
        self.size_bytes += body_bytes(entry)
        self._removals += isinstance(entry, _REMOVALS)

    def _let_go(self, found: dict[KeyT, Committed], key: KeyT) -> None:
        """Take out what is removed, or in its file."""
        committed = found.pop(key, None)
        if committed is not None:
            self.file_bytes -= body_bytes(committed.entry) + FILE_BYTES

    @property
    def changes(self) -> int:
        """How many checkpoints are to be written, and removals to be made, each counted once."""
        if self._removals == 0:
            return len(self.saved)
        entries = {c.entry for c in self.entries.copy() if isinstance(c.entry, _REMOVALS)}
        return len(self.saved) + len(entries)

    @property
    def oldest_microseconds(self) -> int | None:
        """When the oldest entry that tells it was saved; None where none does."""
        try:
            saved = next((c.entry for c in self.entries if isinstance(c.entry, Saved)), None)
        except RuntimeError:  # it was flushed just then
            return None
        name = saved and parse_name(saved.name)
        return name.microseconds if name else None

    def drop(self, place: int) -> None:
        """Let go of what is flushed up to a position."""
        while self.entries and self.entries[0].place <= place:
            committed = self.entries.popleft()
            entry = committed.entry
            self.size_bytes -= body_bytes(entry)
            self._removals -= isinstance(entry, _REMOVALS)
            if isinstance(entry, Saved) and self.saved.get(entry.name) is committed:
                self._let_go(self.saved, entry.name)
            elif isinstance(entry, SavedBlob) and self.blobs.get(entry.digest) is committed:
                self._let_go(self.blobs, entry.digest)
            elif entry is self.stuck:
                self.stuck = None


class Backlog(NamedTuple):
    """
    How much waits to be flushed.

    Attributes:
        changes: how many checkpoints are to be written, and removals to be made.
        oldest_microseconds: when the oldest of those that tell it was saved, since 1970.
    """

    changes: int
    oldest_microseconds: int | None


class Pending:
    """
    The entries that are not flushed, of all sessions.

    Attributes:
        sessions: by the names of their directories.
        floor: the position from which on everything is here.
        stuck: names of the sessions whose files cannot be written.
        owned: who owns sessions, or that nobody does any more, and behind which frame.
    """

    def __init__(self) -> None:
        self.sessions: dict[str, SessionLog] = {}
        self.floor = 0
        self._frames: deque[tuple[int, tuple[str, ...]]] = deque()
        self._file_bytes = 0
        self.stuck: set[str] = set()
        self.owned: dict[str, tuple[int, Owned]] = {}
        self._pins: list[int] = []

    def clear(self, floor: int) -> None:
        """Forget everything, and begin at a position."""
        self.sessions.clear()
        self._frames.clear()
        self.stuck.clear()
        self.owned.clear()
        self._file_bytes = 0
        self.floor = floor

    def add(self, read: ReadFrame, entries: Sequence[Entry], bodies: Iterable[bytes]) -> None:
        """Enter a frame; `bodies` is empty, or has those of the entries that have one."""
        given = iter(bodies)
        place, slot, offset = read.place, read.slot, read.frame.bodies_offset
        sessions = self.sessions
        names: dict[str, None] = {}
        for entry in entries:
            if isinstance(entry, (Saved, SavedBlob)):
                committed = Committed(entry, place, next(given, None), slot, offset)
                offset += entry.size_bytes
            elif isinstance(entry, Owned):
                self.owned[entry.session] = (place, entry)
                continue
            else:
                committed = Committed(entry, place, None, slot, offset)
            session = sessions.get(entry.session)
            if session is None:
                session = sessions[entry.session] = SessionLog()
            before = session.file_bytes
            session.add(committed)
            self._file_bytes += session.file_bytes - before
            names[entry.session] = None
            if session.stuck is not None:
                self.stuck.add(entry.session)
        self._frames.append((read.place, tuple(names)))

    def drop(self, flushed: int) -> None:
        """Let go of what is flushed, but for what somebody still needs."""
        place = self.needed_after(flushed)
        touched: set[str] = set()
        while self._frames and self._frames[0][0] <= place:
            touched.update(self._frames.popleft()[1])
        for name in touched:
            session = self.sessions[name]
            before = session.file_bytes
            session.drop(place)
            self._file_bytes += session.file_bytes - before
            if session.stuck is None:
                self.stuck.discard(name)
            if not session.entries:
                del self.sessions[name]
        if self.owned:
            self.owned = {key: found for key, found in self.owned.items() if found[0] > place}
        self.floor = max(self.floor, place)

    def stuck_bytes(self) -> int:
        """Return about how much of it is of sessions whose files cannot be written."""
        return sum(self.sessions[name].size_bytes for name in self.stuck)

    def file_bytes(self) -> int:
        """Return about how much room the files take that are to be written, but for those."""
        stuck = sum(self.sessions[name].file_bytes for name in self.stuck) if self.stuck else 0
        return self._file_bytes - stuck

    def inodes(self) -> int:
        """Return at most how many inodes those files take; without waiting, as `backlog`."""
        found = [s for name, s in [*self.sessions.items()] if name not in self.stuck]
        counts = [len(session.saved) + len(session.blobs) for session in found]
        return sum(SESSION_INODES + count for count in counts if count)

    def most_inodes(self) -> int:
        """Return more than `inodes` does, at once."""
        return self._file_bytes // FILE_BYTES * (1 + SESSION_INODES)

    def backlog(self) -> Backlog:
        """Return how much there is; without waiting, while others may add and drop."""
        sessions = [*self.sessions.values()]
        times = [time for session in sessions if (time := session.oldest_microseconds)]
        return Backlog(sum(s.changes for s in sessions), min(times, default=None))

    def needed_after(self, flushed: int) -> int:
        """Return from where on entries are needed, when files are durable up to a position."""
        return min([flushed, *self._pins])

    def pin(self, place: int) -> None:
        """Keep all that is behind a position until `unpin`."""
        self._pins.append(place)

    def unpin(self, place: int) -> None:
        """Undo a `pin`."""
        self._pins.remove(place)

    def places(self) -> Iterator[int]:
        """Yield the ends of the frames, oldest first."""
        return (place for place, _ in self._frames.copy())

    def before(self, session: str, after: int) -> int:
        """Return the position before the first entry of a session that is behind another one."""
        first = self.entries_of(session, after)[0].place
        return max((place for place in self.places() if place < first), default=after)

    def entries_of(self, session: str, after: int = 0) -> list[Committed]:
        """Return the entries of a session behind a position, in order."""
        found = self.sessions.get(session)
        # Copied at once, for the committer adds some meanwhile.
        return [] if found is None else [c for c in found.entries.copy() if c.place > after]
