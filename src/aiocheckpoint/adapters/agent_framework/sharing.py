"""
Checkpoints that share what they have in common: long lists as histories, long texts as blobs.

A checkpoint holds the whole state of a workflow, of which little changes in a step. A list that
begins as it did in the checkpoint before costs what was added to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import takewhile
from operator import eq
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec

from aiocheckpoint import (
    CheckpointDecodeError,
    CheckpointRecord,
    JsonValue,
    MissingBlobError,
    SessionReader,
    blob_digest,
)
from aiocheckpoint.adapters.agent_framework.records import Piece, StoredCheckpoint
from aiocheckpoint.history import History, HistoryRecord, LoadBlobs, load_history

_MIN_BYTES = 1024  # what is smaller stands in the record itself
_MIN_KEYS = 32
_MAX_STAGES = 8
_LIST = "!list"
_ENTRIES = "!entries"
_TEXT = "!text"

_Path: TypeAlias = tuple[str, ...]


class Grown(NamedTuple):
    """
    A list as it is stored.

    Attributes:
        digests: of its items.
        stages: its history behind shorter ones, to go on from where the end has changed.
    """

    digests: tuple[bytes, ...]
    stages: tuple[History, ...]


class Shared(NamedTuple):
    """
    What the next checkpoint may share with this one.

    Attributes:
        lists: by their place in it.
        texts: digests of long texts.
    """

    lists: Mapping[_Path, Grown]
    texts: frozenset[str]


NOTHING = Shared({}, frozenset())


class Prepared:
    """
    A checkpoint in pieces, which later changes by the caller do not reach.

    Args:
        json: all of it.
    """

    def __init__(self, json: JsonValue) -> None:
        self._pieces: dict[_Path, str | list[str]] = {}
        self._text = _text_of(self._shrunk(json, ()))

    def stored(
        self, record: StoredCheckpoint, before: Shared, load_blobs: LoadBlobs
    ) -> tuple[StoredCheckpoint, dict[str, bytes], Shared]:
        """
        Return what to save, the blobs that are new, and what to go on from afterwards.

        Args:
            record: with the ids.
            before: what the checkpoint before has.
            load_blobs: loads blobs of the session.
        """
        numbers: dict[str, int] = {}
        blobs: dict[str, bytes] = {}
        pieces: list[Piece] = []
        lists: dict[_Path, Grown] = {}
        texts: set[str] = set()
        for path, content in self._pieces.items():
            if isinstance(content, str):
                blob = content.encode()
                digest, length = blob_digest(blob), 0
                texts.add(digest)
                if digest not in before.texts:
                    blobs[digest] = blob
            else:
                grown = _grown(content, before.lists.get(path), load_blobs)
                history = grown.stages[-1]
                digest, length = _root(history), len(history)
                blobs |= history.new_blobs
                lists[path] = grown._replace(stages=tuple(_stored(grown.stages, blobs)))
            pieces.append(Piece(numbers.setdefault(digest, len(numbers)), length))
        changes = {"text": self._text, "pieces": (*pieces,), "blob_digests": (*numbers,)}
        stored = msgspec.structs.replace(record, **changes)
        return stored, blobs, Shared(lists, frozenset(texts))

    def _shrunk(self, value: JsonValue, path: _Path) -> JsonValue:
        """Return a value with marks in the place of what is long."""
        if isinstance(value, str):
            return value if len(value) < _MIN_BYTES else self._piece(_TEXT, path, value)
        if isinstance(value, list):
            items = [*map(_text_of, value)]
            return value if _is_short(items) else self._piece(_LIST, path, items)
        if isinstance(value, dict):
            if len(value) >= _MIN_KEYS:
                items = [*map(_text_of, value.items())]
                return value if _is_short(items) else self._piece(_ENTRIES, path, items)
            return {key: self._shrunk(part, (*path, key)) for key, part in value.items()}
        return value

    def _piece(self, mark: str, path: _Path, content: str | list[str]) -> JsonValue:
        self._pieces[path] = content
        return {mark: len(self._pieces) - 1}


class Listed(NamedTuple):
    """
    A list that was read.

    Attributes:
        history: what it is stored as.
        items: as JSON.
    """

    history: History
    items: list[str]


class Read(NamedTuple):
    """
    A checkpoint that was read.

    Attributes:
        record: of the session, which may be of something else.
        contents: of its pieces, by their numbers.
        missing: why there are no contents.
    """

    record: CheckpointRecord
    contents: tuple[str | Listed, ...] = ()
    missing: MissingBlobError | None = None

    def joined(self) -> JsonValue:
        """
        Return the checkpoint as JSON.

        Raises:
            CheckpointDecodeError: its pieces do not fit.
        """

        def content_of(mark: str, number: int, _path: _Path) -> JsonValue:
            content = self.contents[number]
            if isinstance(content, str):
                return content
            items: list[Any] = msgspec.json.decode(f"[{','.join(content.items)}]")
            return items if mark == _LIST else dict(items)

        return self._filled(content_of)

    def shared(self) -> Shared:
        """
        Return what to go on from.

        Raises:
            CheckpointDecodeError: its pieces do not fit.
        """
        lists: dict[_Path, Grown] = {}

        def note(_mark: str, number: int, path: _Path) -> None:
            content = self.contents[number]
            if isinstance(content, Listed):
                lists[path] = Grown(_digests(content.items), (content.history,))

        self._filled(note)
        return Shared(lists, frozenset(_texts_of(self.stored)))

    @property
    def stored(self) -> StoredCheckpoint:
        """The record, where it is a checkpoint."""
        if isinstance(self.record, StoredCheckpoint):
            return self.record
        place = f"{self.record.session_id}/{self.record.checkpoint_id}"
        reason = "something else has this session"
        raise CheckpointDecodeError(place, StoredCheckpoint.__qualname__, reason)

    def _filled(self, content_of: Callable[[str, int, _Path], JsonValue]) -> JsonValue:
        record = self.stored
        try:
            return _filled(msgspec.json.decode(record.text), (), content_of)
        except (msgspec.MsgspecError, LookupError, TypeError, ValueError) as error:
            kind = type(record).__qualname__
            raise CheckpointDecodeError(record.checkpoint_id, kind, str(error)) from error


async def read(
    checkpoint_id: str | None, blobs: dict[str, bytes], reader: SessionReader[StoredCheckpoint]
) -> Read | None:
    """
    Return a checkpoint of a session, the one saved last for None; None when there is none.

    Args:
        checkpoint_id: its id.
        blobs: of the session that need not be loaded; gets those that are.
        reader: of the session.

    Raises:
        CheckpointError: what the reads raise, but for blobs that are missing.
    """
    record: CheckpointRecord | None = await reader.load(checkpoint_id)
    if not isinstance(record, StoredCheckpoint):
        return None if record is None else Read(record)

    async def load_blobs(digests: Iterable[str]) -> Mapping[str, bytes]:
        wanted = [*digests]
        missing = [digest for digest in wanted if digest not in blobs]
        if missing:
            blobs.update(await reader.load_blobs(missing))
        return {digest: blobs[digest] for digest in wanted}

    try:
        return Read(record, await _contents(record, load_blobs))
    except MissingBlobError as error:
        return Read(record, missing=error)


async def _contents(record: StoredCheckpoint, load_blobs: LoadBlobs) -> tuple[str | Listed, ...]:
    texts = await load_blobs(_texts_of(record))
    contents: list[str | Listed] = []
    for blob, length in record.pieces:
        digest = record.blob_digests[blob]
        if length:
            head = HistoryRecord(session_id="", history_length=length, blob_digests=(digest,))
            history = await load_history(load_blobs, head)
            items: list[Any] = await history.items()
            contents.append(Listed(history, items))
        else:
            contents.append(texts[digest].decode())
    return (*contents,)


def _texts_of(record: StoredCheckpoint) -> list[str]:
    """Return the digests of the texts."""
    return [record.blob_digests[piece.blob] for piece in record.pieces if not piece.length]


def _filled(
    value: JsonValue, path: _Path, content_of: Callable[[str, int, _Path], JsonValue]
) -> JsonValue:
    """Return a value with contents in the place of marks."""
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((mark, number),) = value.items()
        if mark in (_TEXT, _LIST, _ENTRIES):
            return content_of(mark, cast("int", number), path)
    return {key: _filled(part, (*path, key), content_of) for key, part in value.items()}


def _grown(items: list[str], before: Grown | None, load_blobs: LoadBlobs) -> Grown:
    """Return a list that goes on from what it has in common with the one before."""
    digests = _digests(items)
    stages: tuple[History, ...] = ()
    if before is not None:
        same = sum(1 for _ in takewhile(bool, map(eq, digests, before.digests)))
        stages = tuple(stage for stage in before.stages if len(stage) <= same)
        if _length(stages) < same < len(items):  # it may change from here on again
            stages = (*stages, _extended(stages, items[:same], load_blobs))
    if _length(stages) < len(items):
        stages = (*stages, _extended(stages, items, load_blobs))
    return Grown(digests, stages[-_MAX_STAGES:])


def _length(stages: tuple[History, ...]) -> int:
    return len(stages[-1]) if stages else 0


def _extended(stages: tuple[History, ...], items: list[str], load_blobs: LoadBlobs) -> History:
    last = stages[-1] if stages else History(load_blobs)
    return last.extend(items[len(last) :])


def _stored(stages: tuple[History, ...], blobs: Mapping[str, bytes]) -> Iterator[History]:
    """Yield the stages after a save; pages may have taken the place of what some lead to."""
    for stage in stages:
        yield stage.stored() if _root(stage) in blobs else stage


def _is_short(items: list[str]) -> bool:
    return sum(map(len, items)) < _MIN_BYTES


def _text_of(json: JsonValue) -> str:
    return msgspec.json.encode(json).decode()


def _digests(items: list[str]) -> tuple[bytes, ...]:
    return tuple(hashlib.sha256(item.encode()).digest() for item in items)


def _root(history: History) -> str:
    (root,) = history.into(HistoryRecord(session_id="")).blob_digests
    return root
