"""What a client knows of one session: found by a LIST, kept up to date commit by commit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

from aiocheckpoint.errors import CheckpointCorruptError
from aiocheckpoint.models import SessionId
from aiocheckpoint.stores.s3.bucket import Bucket, Object
from aiocheckpoint.stores.s3.commits import Entry, Header, Piece, decode_commit
from aiocheckpoint.stores.s3.index import Index, cover
from aiocheckpoint.stores.s3.layout import SHORTEST_RANGE, Layout, Range
from aiocheckpoint.stores.s3.presence import OLDER_THAN_ATTEMPTS, Presence
from aiocheckpoint.stores.s3.state import NOTHING_GONE, Entries, Gone, Session, stand_in

Clocks = tuple[float, datetime]
"""A moment, by the clock of the loop and by that of the machine."""

TRUSTED_FOR = timedelta(hours=1)
"""How long the newest commit that was seen is taken for the newest one, by whoever writes."""

_HEADER_BYTES = 8 * 1024
_NEWEST_BYTES = 64 * 1024
_FOLLOWED_ONE_BY_ONE = 64
_READ_FOR_SECONDS = 1.0


class Knowledge:
    """
    One session, as a client sees it.

    Args:
        bucket: where it is.
        layout: its keys.
        session_id: the session.
        presence: of the store.
        require_store: raises where there is no store, and has to be one.

    Attributes:
        session: what is known of it.
        presence: as it was given.
        require_store: likewise.
        lost_blobs: those that a read found missing or damaged: digest and write id.
        unerased: what this client has deleted and could not erase.
    """

    def __init__(
        self,
        bucket: Bucket,
        layout: Layout,
        session_id: SessionId,
        presence: Presence,
        require_store: Callable[[], Awaitable[None]],
    ) -> None:
        self.session = Session(session_id)
        self.presence = presence
        self.require_store = require_store
        self.lost_blobs: set[tuple[str, str]] = set()
        self.unerased = NOTHING_GONE
        self.bucket = bucket
        self.layout = layout
        self.index = Index(bucket, layout, session_id, self._recent_header)
        self._confirmed_at: Clocks | None = None
        self._seen_at: datetime | None = None
        self._advanced_at = 0.0
        self._read: tuple[int, bytes, float] = (0, b"", 0.0)
        self._recent: dict[int, Header] = {}
        self._gaps: set[int] = set()
        self._extending = asyncio.Lock()
        self._indexing = asyncio.Lock()
        self._applied: list[Header] | None = None
        self._watched: tuple[int, Gone | None] = (0, None)
        self._watched_since: Clocks | None = None

    @property
    def session_id(self) -> SessionId:
        """The session."""
        return self.session.session_id

    @property
    def size(self) -> int:
        """How many checkpoints are known."""
        entries = self.session.entries
        return len(self._recent) if entries is None else len(self._recent) + len(entries)

    @property
    def is_trusted(self) -> bool:
        """Whether the newest commit was seen lately: a number once used is not used again."""
        return self._confirmed_at is not None and _is_recent(self._confirmed_at)

    @property
    def seen_at(self) -> datetime | None:
        """When the newest commit was seen, by the server's clock; None where none was lately."""
        seen_at = self._seen_at if self.session.number else None
        return seen_at if seen_at and self._since(seen_at) < TRUSTED_FOR else None

    def was_put_before(self, age: timedelta | None) -> bool:
        """Tell whether an object of that age can be the newest commit that was seen."""
        seen_at = self.seen_at
        if age is None or seen_at is None:
            return True
        return age + OLDER_THAN_ATTEMPTS >= self._since(seen_at)

    def _since(self, date: datetime) -> timedelta:
        return self.bucket.clock.now() - date

    async def write_id(self, number: int) -> str:
        """Return whose commit is there under a number; nobody's where there is none."""
        return (await self._recent_header(number)).write_id

    async def _recent_header(self, number: int) -> Header:
        known = self._recent.get(number)
        return await self.header(number) if known is None else known

    def location(self, number: int) -> str:
        """Return the URL of a commit."""
        return self.layout.location(self.layout.commit(self.session_id, number))

    # The newest commit

    async def refresh(self) -> Session:
        """
        Learn what others have changed: one LIST, and the headers of what is new.

        Raises:
            MissingStoreError: there is no store, or another one, and has to be one.
        """
        began = _now()
        was_seen = self.seen_at is not None
        number = await self.look()
        if not number and not was_seen:
            await self.require_store()
        await self._follow(number, began[0])
        self._confirmed_at = max(self._confirmed_at or began, began)
        self._seen_at = self.bucket.clock.now()
        return self.session

    async def look(self) -> int:
        """
        Return the number of the newest commit, 0 for none.

        Raises:
            MissingStoreError: it must be there, and has gone with all of its store.
        """
        seen_at, known = self.seen_at, self.session.number
        listed = await self.bucket.first(self.layout.session(self.session_id), limit=1)
        number = (self.layout.number(listed[0].key) if listed else None) or 0
        age = listed[0].age if listed else None
        is_same = number > known or (number == known and self.was_put_before(age))
        if seen_at is not None and not is_same:
            key = self.layout.commit(self.session_id, known)
            await self.presence.require_same(key, seen_at)
        return number

    async def _follow(self, number: int, began: float) -> None:
        known = self.session.number
        is_ahead = known > number and self._advanced_at >= began  # the LIST is the older one
        if is_ahead or (number == known and self.is_trusted):
            return
        if self.is_trusted and 0 < known < number <= known + _FOLLOWED_ONE_BY_ONE:
            await self._step_to(number)
        if self.session.number < number or not self.is_trusted or number < known:
            await self._start_at(number)

    async def _step_to(self, number: int) -> None:
        numbers = range(self.session.number + 1, number + 1)
        headers = await self.bucket.gather(self.header(each) for each in numbers)
        for header in headers:
            session = self.session
            if header.number != session.number + 1:
                continue  # another task has followed meanwhile
            if header.previous not in ("", session.write_id):
                return
            self.apply(stand_in(session, header) if header.is_damaged else header)

    async def _start_at(self, number: int) -> None:
        """Begin anew with what a LIST showed: nothing was known, or it is no longer so."""
        if not number:
            self._replace(Session(self.session_id))
            return
        header = await self.header(number, _NEWEST_BYTES)
        session = Session(self.session_id)
        if header.is_damaged:
            before = await self._intact_before(number)
            if before is not None:
                session.start_at(before)
            header = stand_in(session, header)
        if (self.session.number, self.session.write_id) == (number, header.write_id):
            return
        session.start_at(header)
        self._replace(session)
        self._recent[number] = header

    def _replace(self, session: Session) -> None:
        self.session = session
        self._recent.clear()
        self._advanced_at = _now()[0]

    async def _intact_before(self, number: int) -> Header | None:
        for earlier in range(number - 1, max(0, number - _FOLLOWED_ONE_BY_ONE), -1):
            header = await self.header(earlier)
            if not header.is_damaged:
                return header
        return None

    def apply(self, header: Header) -> None:
        """Go on by one commit."""
        gone = self.session.apply(header)
        self._advanced_at = _now()[0]
        self._recent[header.number] = header
        self._recent.pop(header.number - _FOLLOWED_ONE_BY_ONE, None)
        if header.number == self._watched[0]:
            self._watched = (header.number, gone)
        if self._applied is not None:
            self._applied.append(header)

    def watch(self, number: int) -> Clocks:
        """Remember what will be gone with a commit that is about to be made; return the time."""
        self._watched = (number, None)
        self._watched_since = self._confirmed_at
        return _now()

    async def is_in_line(self, number: int, write_id: str) -> bool | None:
        """
        Tell whether a commit stands where others go on; None where the next one was swept.

        One that took hours, as the machine slept, may have met a number that was used and swept.
        """
        if self._watched_since is not None and _is_recent(self._watched_since):
            return True
        self.forget()
        if (await self.refresh()).number == number:
            return True
        following = await self.header(number + 1)
        return None if following.is_missing else following.previous == write_id

    def committed(self, header: Header, began: Clocks) -> Gone:
        """Go on by a commit of this client, whose request began then; return what is gone."""
        self._confirmed_at = max(self._confirmed_at or began, began)
        self._seen_at = self.bucket.clock.now()
        if self.session.number + 1 == header.number:
            self.apply(header)
        # Else a reader of this client has seen it before.
        return self._watched[1] or NOTHING_GONE

    def forget(self) -> None:
        """Trust nothing of what is known; that it was seen stays true."""
        self._confirmed_at = None

    def lose(self) -> None:
        """Trust nothing of what is known, for it was seen in a store that has gone."""
        self._confirmed_at = self._seen_at = None

    async def header(self, number: int, size_bytes: int = _HEADER_BYTES) -> Header:
        """Return the header of a commit; one that is damaged says why."""
        key = self.layout.commit(self.session_id, number)
        found = await self.bucket.get(key, 0, size_bytes)
        if found is not None and len(found.data) == size_bytes and b"\n" not in found.data:
            found = await self.bucket.get(key)
        if found is not None and size_bytes == _NEWEST_BYTES:
            self._read = (number, found.data, _now()[0])
        return self.decoded(number, found)

    def decoded(self, number: int, found: Object | None) -> Header:
        """Return the header in an object; one that is damaged says why."""
        location = self.location(number)
        if found is None:
            return Header.damaged(self.session_id, number, f"{location} is not there", 0, None)
        try:
            return decode_commit(found.data, location, self.session_id, number)
        except CheckpointCorruptError as error:
            length = len(found.data)
            return Header.damaged(self.session_id, number, str(error), length, found.modified_at)

    # All of its checkpoints

    async def entries(self) -> Entries:
        """Return the checkpoints as they are known now, looked up if that was not done yet."""
        async with self._indexing:
            while self.session.entries is None:
                await self._look_up(self.session)
        return self.session.entries

    async def _look_up(self, session: Session) -> None:
        last = session.number
        self._applied = []
        try:
            pieces = await self._pieces(session, last)
            entries = Entries()
            for piece in (*pieces, *(header.piece for header in self._applied)):
                entries.apply(piece)
            entries.collect()
        finally:
            self._applied = None
        if self.session is session:
            session.entries = entries

    async def _pieces(self, session: Session, last: int) -> list[Piece]:
        """Return what the commits of a session came to, from the index as far as that goes."""
        floor, bad, was_missing = session.floor, set[Range](), False
        while True:
            # A part of the index may tell of these commits only where one ends among them.
            is_short = last // SHORTEST_RANGE == (floor - 1) // SHORTEST_RANGE
            ranges = {*([] if is_short else await self.index.ranges())}
            parts, numbers = cover(ranges - bad, floor, last)
            found = await self.bucket.gather(map(self.index.piece, parts))
            pieces = dict(zip(parts, found, strict=True))
            headers = await self.bucket.gather(map(self._recent_header, numbers))
            bad |= {part for part, piece in pieces.items() if piece is None}
            # Commits go once a part of the index tells of them; then that is there by now.
            is_missing = not is_short and any(header.is_missing for header in headers)
            if None not in found and (was_missing or not is_missing):
                break
            was_missing = is_missing
        self._gaps = _gaps(numbers)
        placed = [(part.last, piece) for part, piece in pieces.items() if piece is not None]
        placed += [(header.number, self._stood_in(session, header).piece) for header in headers]
        return [piece for _, piece in sorted(placed, key=lambda each: each[0])]

    @staticmethod
    def _stood_in(session: Session, header: Header) -> Header:
        return stand_in(session, header) if header.is_damaged else header

    @property
    def is_index_behind(self) -> bool:
        """Whether a part of the index is to be written, as far as this client knows."""
        return bool(self._gaps) or not self.session.number % SHORTEST_RANGE

    async def extend_index(self) -> None:
        """Write what is missing of the index, by this client's commits and what it has read."""
        async with self._extending:
            session = self.session
            gaps, self._gaps = self._gaps, set()
            if session.number and not session.number % SHORTEST_RANGE:
                gaps.add(session.number)
            for last in sorted(gaps):
                if last >= session.floor:  # else all that it would tell of is gone
                    await self.index.extend(last, session.floor)

    async def drop_index(self) -> None:
        """Remove what the index tells of commits below the floor, where all is gone."""
        async with self._extending:
            parts = await self.index.ranges()
            await self.bucket.delete(part.key for part in parts if part.last < self.session.floor)

    # Documents

    async def body(self, entry: Entry) -> bytes | None:
        """Return the document of a checkpoint; None where there is none."""
        number, data, at = self._read
        self._read = (0, b"", 0.0)  # what is stored may be damaged at any time
        end = entry.offset + entry.length
        if entry.number == number and end <= len(data) and _now()[0] - at < _READ_FOR_SECONDS:
            return data[entry.offset : end]
        if not entry.length:
            return b""
        key = self.layout.commit(self.session_id, entry.number)
        found = await self.bucket.get(key, entry.offset, entry.length)
        return None if found is None else found.data


def _gaps(numbers: Sequence[int]) -> set[int]:
    """Return where parts of the index should end, of commits that had to be read one by one."""
    known = {*numbers}
    return {
        last
        for last in numbers
        if not last % SHORTEST_RANGE and known.issuperset(range(last - SHORTEST_RANGE + 1, last))
    }


def _is_recent(clocks: Clocks) -> bool:
    at, date = clocks
    waited = timedelta(seconds=asyncio.get_running_loop().time() - at)
    # That clock stands still while a machine sleeps; this one may be set.
    return max(waited, abs(datetime.now(UTC) - date)) < TRUSTED_FOR


def _now() -> Clocks:
    return asyncio.get_running_loop().time(), datetime.now(UTC)
