"""The entries of a transcript: what an append makes of them, and how they are read."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

import msgspec
from claude_agent_sdk import SessionStoreEntry, fold_session_summary

from aiocheckpoint import (
    CheckpointCorruptError,
    InvalidArgumentError,
    JsonValue,
    SessionReader,
    Transaction,
    exact,
)
from aiocheckpoint.adapters._given import listed
from aiocheckpoint.adapters.claude_agent.known import Known, Latest, decoded, uuid_of
from aiocheckpoint.adapters.claude_agent.records import (
    START_ID,
    ClaudeRecord,
    Place,
    SessionStart,
    Transcript,
)
from aiocheckpoint.history import History, load_history

_MOST_LINES_BYTES = 15_000  # a history puts what is larger into pages at once, of which it has few


class Given(NamedTuple):
    """
    Entries to be appended, as JSON of their own, which later changes by the caller do not reach.

    Attributes:
        entries: as `exact` writes them.
        lines: the same, encoded.
        is_plain: that is as they were.
    """

    entries: list[JsonValue]
    lines: list[str]
    is_plain: bool

    @classmethod
    def of(cls, entries: list[SessionStoreEntry]) -> Self:
        """
        Return entries as they are now.

        Raises:
            InvalidArgumentError: it is no list of dicts.
            CheckpointEncodeError: a value would not come back as it is; names its path.
        """
        given: Any = [*listed("entries", entries)]
        for number, entry in enumerate(given):
            if not isinstance(entry, dict):
                raise InvalidArgumentError(f"entries[{number}]", entry, "a dict")
        json: Any = exact.to_json(given, path="entries")
        lines = [msgspec.json.encode(entry).decode() for entry in json]
        return cls(decoded(lines), lines, json is given)

    def without(self, uuids: set[str]) -> Self:
        """Return the entries but for those whose uuid is known, or came before among them."""
        added: set[str] = set()
        new: list[int] = []
        for position, entry in enumerate(self.entries):
            found = uuid_of(entry)
            if found is None:
                new.append(position)
            elif found not in uuids and found not in added:
                added.add(found)
                new.append(position)
        if len(new) == len(self.entries):  # as mostly
            return self
        kept = [self.entries[position] for position in new]
        return self._replace(entries=kept, lines=[self.lines[position] for position in new])


class _Clock:
    """Milliseconds since 1970 that no two appends of a process share, so that lists have order."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def after(self, mtime: int) -> int:
        with self._lock:
            self._last = max(int(datetime.now(UTC).timestamp() * 1000), self._last + 1, mtime + 1)
            return self._last


_clock = _Clock()


class Appended(NamedTuple):
    """
    What an append comes to.

    Attributes:
        transcript: as it is when all is committed, but for what is seen of it.
        entries: that were added.
    """

    transcript: Latest
    entries: list[JsonValue]

    def committed(self) -> Latest:
        """Return the transcript, now that it is committed."""
        self.transcript.seen.add(self.entries)
        return self.transcript


class Grown(NamedTuple):
    """
    What an append makes of a transcript.

    Attributes:
        record: to be saved.
        blobs: to be saved with it.
        appended: what that comes to.
    """

    record: Transcript
    blobs: Mapping[str, bytes]
    appended: Appended


def grown(place: Place, latest: Latest, record_id: str, new: Given) -> Grown:
    """
    Return what an append makes of a transcript.

    Args:
        place: of it.
        latest: the transcript before.
        record_id: of the record that is saved.
        new: entries that are not there yet.
    """
    head, history, lines = latest.head, latest.history, [*latest.head.lines, *new.lines]
    if _size(lines) > _MOST_LINES_BYTES:
        history, lines = history.extend(decoded(head.lines)), new.lines
    if _size(lines) > _MOST_LINES_BYTES:
        history, lines = history.extend(new.entries), []
    record = history.into(
        Transcript(
            session_id=head.session_id,
            checkpoint_id=record_id,
            blob_digests=head.blob_digests,
            history_length=head.history_length,
            incarnation=head.incarnation,
            lines=lines,
            is_plain=head.is_plain and new.is_plain,
            mtime=_clock.after(head.mtime),
            summary=_summary(place, head, new),
        )
    )
    after = Latest(record, history.stored(), latest.seen)
    return Grown(record, history.new_blobs, Appended(after, new.entries))


def _size(lines: list[str]) -> int:
    return sum(map(len, lines))


def _summary(place: Place, head: Transcript, new: Given) -> dict[str, JsonValue]:
    """Return what the framework shows in lists, with new entries."""
    if place.subpath is not None:
        return {}
    entries: Any = new.entries if new.is_plain else [*map(exact.from_json, new.entries)]
    data = exact.from_json(head.summary)
    folded = fold_session_summary(
        {"session_id": place.session_id, "mtime": head.mtime, "data": data},
        {"project_key": place.project_key, "session_id": place.session_id},
        entries,
    )
    summary: Any = exact.to_json(folded["data"], path="summary")
    return {**summary}


async def append_in(
    session: Transaction[ClaudeRecord], place: Place, known: Known, given: Given
) -> Appended:
    """
    Stage those of some entries whose uuids are not there yet, whatever there is.

    Args:
        session: the transaction.
        place: of the transcript.
        known: of it.
        given: the entries, at least one.
    """
    head = await _head_of(session)
    known.within = session
    try:
        latest = _begun(session, known) if head is None else await _opened(head, known)
    finally:
        known.within = None
    new = given.without(latest.seen.uuids)
    if not new.entries:
        return Appended(latest, [])
    done = grown(place, latest, known.record_id, new)
    session.save(done.record, blobs=done.blobs)
    if head is not None and head.checkpoint_id != known.record_id:
        session.delete(head.checkpoint_id)
    return done.appended


async def _opened(head: Transcript, known: Known) -> Latest:
    history = await load_history(known.load_blobs, head)
    return Latest(head, history, await known.all_seen(head, history))


def _begun(session: Transaction[ClaudeRecord], known: Known) -> Latest:
    session_id, incarnation = session.session_id, uuid.uuid4().hex
    start = SessionStart(session_id=session_id, checkpoint_id=START_ID, incarnation=incarnation)
    session.save(start)
    head = Transcript(
        session_id=session_id,
        incarnation=incarnation,
        lines=[],
        is_plain=True,
        mtime=0,
        summary={},
    )
    return Latest(head, History(known.load_blobs), known.begun(incarnation))


async def entries_of(
    known: Known, session: SessionReader[ClaudeRecord]
) -> list[SessionStoreEntry] | None:
    """
    Return all entries of a transcript as they were; None when there never were any.

    Args:
        known: of the transcript.
        session: it.
    """
    head = await _head_of(session)
    if head is None:
        return None
    history = await load_history(session.load_blobs, head)
    entries = [*await history.items(), *decoded(head.lines)]
    known.see(head, entries)
    found: Any = entries if head.is_plain else [*map(exact.from_json, entries)]
    return [*found]


async def _head_of(session: SessionReader[ClaudeRecord]) -> Transcript | None:
    newest = await session.saved_ids(limit=1)
    match await session.load_many((START_ID, *newest)):
        case ():
            return None
        case (SessionStart() as start, Transcript() as head) if (
            head.incarnation == start.incarnation
        ):
            return head
    raise removed(session.session_id)


def removed(session_id: str) -> CheckpointCorruptError:
    """Return the error for a transcript of which something else has removed a record."""
    reason = "one of its records was removed by something else, as by max_checkpoints"
    return CheckpointCorruptError(f"{session_id}/{START_ID}", reason)
