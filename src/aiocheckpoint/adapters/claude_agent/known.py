"""What a process need not read again of the transcripts that it appends to."""

from __future__ import annotations

import os
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakValueDictionary

import msgspec

from aiocheckpoint import JsonValue, SessionReader
from aiocheckpoint.adapters.claude_agent.records import TRANSCRIPT_PREFIX, Place, Transcript
from aiocheckpoint.history import History
from aiocheckpoint.kit import Turns

_MOST_WEIGHT = 500_000  # some 150 MB at most
_WEIGHT_OF_EACH = 500  # as much as so many uuids: its newest entries, and the end of its history
_StorageKey: TypeAlias = str | int


class Seen:
    """
    The uuids of the first entries of a transcript.

    Args:
        incarnation: of the transcript.

    Attributes:
        incarnation: as given.
        length: of how many entries.
        uuids: those that they have.
    """

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self.length = 0
        self.uuids: set[str] = set()

    def add(self, entries: list[JsonValue]) -> None:
        """Know those of the next entries."""
        self.uuids.update(found for entry in entries if (found := uuid_of(entry)) is not None)
        self.length += len(entries)


class Latest(NamedTuple):
    """
    A transcript as it is.

    Attributes:
        head: its record.
        history: of that.
        seen: all entries.
    """

    head: Transcript
    history: History
    seen: Seen


class Known:
    """
    What this process knows of one transcript.

    Args:
        place: of it.

    Attributes:
        name: of the session of the store.
        record_id: of the record that this process makes of it. Nobody else uses it, so a record of
            this id is as it was left here.
        latest: the transcript as this process left it; None where that is not known. For who has
            the turn.
        within: the update that goes on, for who has the turn.
    """

    def __init__(self, place: Place) -> None:
        self.name = place.name
        self.record_id = f"{TRANSCRIPT_PREFIX}{uuid.uuid4().hex[:16]}"
        self.latest: Latest | None = None
        self.within: SessionReader[Any] | None = None
        self._seen = Seen("")

    @property
    def weight(self) -> int:
        """How much memory it takes, in uuids."""
        return _WEIGHT_OF_EACH + self._seen.length

    async def load_blobs(self, digests: Iterable[str]) -> Mapping[str, bytes]:
        """
        Load blobs within the update that goes on.

        A history that goes on after it has this, and keeps neither the update nor what it staged.
        """
        assert self.within is not None  # noqa: S101 - a history that grows loads nothing
        return await self.within.load_blobs(digests)

    def begun(self, incarnation: str) -> Seen:
        """Return what is seen of a transcript that begins."""
        self._seen = Seen(incarnation)
        return self._seen

    def see(self, head: Transcript, entries: list[JsonValue]) -> None:
        """Know the uuids of all entries, which were read for something else; for anybody."""
        seen = Seen(head.incarnation)
        seen.add(entries)
        self._seen = seen

    async def all_seen(self, head: Transcript, history: History) -> Seen:
        """Return what is seen of a transcript; entries that were not seen yet are read."""
        seen = self._seen
        if seen.incarnation != head.incarnation:
            seen = Seen(head.incarnation)
        if seen.length < len(history):
            seen.add(await history.items(seen.length))
        seen.add(decoded(head.lines[seen.length - len(history) :]))
        self._seen = seen
        return seen


class Transcripts:
    """
    The transcripts of one storage, as this process knows them: those appended to last.

    Attributes:
        turns: in which appends to a transcript take effect, by its name.
    """

    def __init__(self) -> None:
        self.turns = Turns()
        self._mutex = threading.Lock()
        self._known: OrderedDict[Place, tuple[Known, int]] = OrderedDict()
        self._weight = 0  # of all, each as it was when it was last asked for

    def of(self, place: Place) -> Known:
        """Return what is known of a transcript, from now on."""
        with self._mutex:
            known, weight = self._known.get(place) or (Known(place), 0)
            self._known[place] = known, known.weight
            self._known.move_to_end(place)
            self._weight += known.weight - weight
            while self._weight > _MOST_WEIGHT and len(self._known) > 1:
                _, (_, weight) = self._known.popitem(last=False)
                self._weight -= weight
            return known


_all: WeakValueDictionary[tuple[int, _StorageKey], Transcripts] = WeakValueDictionary()
_mutex = threading.Lock()


def transcripts_of(storage: Any) -> Transcripts:
    """
    Return the transcripts of a storage, which all that are given the same one share.

    Not with the process that this one was forked from: both would be taken for one.

    Args:
        storage: as the user gave it; the caller keeps it, and what is returned.
    """
    key = os.fspath(storage) if isinstance(storage, str | os.PathLike) else id(storage)
    with _mutex:
        return _all.setdefault((os.getpid(), key), Transcripts())


def decoded(lines: list[str]) -> list[JsonValue]:
    """Return entries of their lines."""
    return [*map(msgspec.json.decode, lines)]


def uuid_of(entry: JsonValue) -> str | None:
    """Return the uuid of an entry; None of one that has none."""
    found = entry.get("uuid") if isinstance(entry, dict) else None
    return found if isinstance(found, str) else None
