"""The entries of a transcript within one transaction: what each call of a store does to them."""

from __future__ import annotations

import threading
import uuid
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
from aiocheckpoint.adapters.claude_agent.records import (
    START_ID,
    TRANSCRIPT_ID,
    ClaudeRecord,
    Place,
    SessionStart,
    Transcript,
)
from aiocheckpoint.history import History, load_history


class Given(NamedTuple):
    """
    Entries to be appended, as JSON of their own, which later changes by the caller do not reach.

    Attributes:
        entries: as `exact` writes them.
        is_plain: that is as they were.
    """

    entries: list[JsonValue]
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
        json = exact.to_json(given, path="entries")
        return cls(msgspec.json.decode(msgspec.json.encode(json)), json is given)


class Known:
    """
    What need not be read again of one transcript: the end of its history, and its uuids.

    What an append has staged counts once the transcript is found as that append would leave it, so
    a commit that fails leaves nothing here. May be used by several threads.
    """

    def __init__(self) -> None:
        self._seen = _Seen("")
        self._staged: _Staged | None = None

    def latest(self, head: ClaudeRecord | None) -> _Latest | None:
        """Return a transcript that is as this process left it; None of any other."""
        staged = self._staged
        if staged is None or not staged.is_stored(head):
            return None
        seen = self._seen_of(staged.head)
        if seen.length == staged.before:
            seen.add(staged.new)
        is_whole = seen.length == len(staged.history)
        return _Latest(staged.head, staged.history, seen.uuids) if is_whole else None

    async def uuids(self, head: Transcript, history: History) -> set[str]:
        """Return the uuids of all entries; those that were not seen yet are read."""
        seen = self._seen_of(head)
        seen.add(await history.items(seen.length))
        return seen.uuids

    def _seen_of(self, head: Transcript) -> _Seen:
        if self._seen.incarnation != head.incarnation:
            self._seen = _Seen(head.incarnation)
        return self._seen

    def see(self, head: Transcript, entries: list[JsonValue]) -> None:
        """Know the uuids of all entries, which were read for something else."""
        self._seen = _Seen(head.incarnation)
        self._seen.add(entries)

    def stage(self, head: Transcript, history: History, new: list[JsonValue]) -> None:
        """Know what an append leaves if it is committed."""
        self._staged = _Staged(head, history.stored(), new)


class _Latest(NamedTuple):
    """A transcript as it is; None where there is none."""

    head: Transcript | None
    history: History
    uuids: set[str]


class _Staged(NamedTuple):
    """What an append leaves."""

    head: Transcript
    history: History
    new: list[JsonValue]

    @property
    def before(self) -> int:
        """How many entries there were before it."""
        return len(self.history) - len(self.new)

    def is_stored(self, head: ClaudeRecord | None) -> bool:
        """Tell whether a transcript is as it was left."""
        return (
            isinstance(head, Transcript)
            and head.incarnation == self.head.incarnation
            and head.mtime == self.head.mtime
            and head.blob_digests == self.head.blob_digests
        )


class _Seen:
    """The uuids of the first entries of a transcript."""

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self.length = 0
        self.uuids: set[str] = set()

    def add(self, entries: list[JsonValue]) -> None:
        """Know those of the next entries."""
        found = (entry.get("uuid") for entry in entries if isinstance(entry, dict))
        self.uuids.update(uuid for uuid in found if isinstance(uuid, str))
        self.length += len(entries)


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


class OpenTranscript:
    """
    A transcript within one call of the work of `update`.

    Args:
        place: of it.
        session: the transaction.
        known: of it.
    """

    def __init__(self, place: Place, session: Transaction[ClaudeRecord], known: Known) -> None:
        self._place = place
        self._session = session
        self._known = known

    async def append(self, given: Given) -> None:
        """Stage those of the entries whose uuids are not there yet."""
        known = self._known.latest(await self._session.load(TRANSCRIPT_ID))
        head, history, uuids = known or await self._read()
        new = _without(given.entries, uuids)
        if not new:
            return
        if head is None:
            head = self._start()
        grown = history.extend(new)
        record = grown.into(
            Transcript(
                session_id=head.session_id,
                checkpoint_id=TRANSCRIPT_ID,
                incarnation=head.incarnation,
                is_plain=head.is_plain and given.is_plain,
                mtime=_clock.after(head.mtime),
                summary=self._summary(head, new, are_plain=given.is_plain),
            )
        )
        self._session.save(record, blobs=grown.new_blobs)
        self._known.stage(record, grown, new)

    async def _read(self) -> _Latest:
        head = await _head_of(self._session)
        if head is None:
            return _Latest(None, History(self._session.load_blobs), set())
        history = await load_history(self._session.load_blobs, head)
        return _Latest(head, history, await self._known.uuids(head, history))

    def _start(self) -> Transcript:
        session_id, incarnation = self._session.session_id, uuid.uuid4().hex
        self._session.save(
            SessionStart(session_id=session_id, checkpoint_id=START_ID, incarnation=incarnation)
        )
        return Transcript(
            session_id=session_id,
            checkpoint_id=TRANSCRIPT_ID,
            incarnation=incarnation,
            is_plain=True,
            mtime=0,
            summary={},
        )

    def _summary(
        self, head: Transcript, new: list[JsonValue], *, are_plain: bool
    ) -> dict[str, JsonValue]:
        """Return what the framework shows in lists, with the new entries."""
        if self._place.subpath is not None:
            return {}
        entries: Any = new if are_plain else [exact.from_json(entry) for entry in new]
        data = exact.from_json(head.summary)
        folded = fold_session_summary(
            {"session_id": self._place.session_id, "mtime": head.mtime, "data": data},
            {"project_key": self._place.project_key, "session_id": self._place.session_id},
            entries,
        )
        summary: Any = exact.to_json(folded["data"], path="summary")
        return {**summary}


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
    entries = await history.items()
    known.see(head, entries)
    found: Any = entries if head.is_plain else [*map(exact.from_json, entries)]
    return [*found]


async def _head_of(session: SessionReader[ClaudeRecord]) -> Transcript | None:
    found = await session.load_many((START_ID, TRANSCRIPT_ID))
    if not found:
        return None
    match found:
        case (SessionStart(), Transcript() as head) if head.incarnation == found[0].incarnation:
            return head
    raise removed(session.session_id)


def removed(session_id: str) -> CheckpointCorruptError:
    """Return the error for a transcript of which something else has removed a record."""
    reason = "one of its records was removed by something else, as by max_checkpoints"
    return CheckpointCorruptError(f"{session_id}/{TRANSCRIPT_ID}", reason)


def _without(entries: list[JsonValue], known: set[str]) -> list[JsonValue]:
    """Return the entries but for those whose uuid is known, or came before among them."""
    new: list[JsonValue] = []
    added: set[str] = set()
    for entry in entries:
        found = _uuid_of(entry)
        if found is None:
            new.append(entry)
        elif found not in known and found not in added:
            added.add(found)
            new.append(entry)
    return new


def _uuid_of(entry: JsonValue) -> str | None:
    found = entry.get("uuid") if isinstance(entry, dict) else None
    return found if isinstance(found, str) else None
