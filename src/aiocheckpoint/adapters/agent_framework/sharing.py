"""
Checkpoints that share what they have in common: long lists as histories, long texts as blobs.

A checkpoint holds the whole state of a workflow, of which little changes in a step. A list that
begins as it did in the checkpoint before costs what was added to it. Pickled messages, most of
which stand in such a list as JSON, too, are compressed against its end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial, reduce
from itertools import takewhile
from operator import eq, getitem
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec

from aiocheckpoint import (
    CheckpointDecodeError,
    CheckpointRecord,
    JsonValue,
    SessionReader,
    blob_digest,
)
from aiocheckpoint.adapters.agent_framework.packing import PICKLED, end_of, packed, unpacked
from aiocheckpoint.adapters.agent_framework.records import StoredCheckpoint
from aiocheckpoint.history import History, HistoryRecord, LoadBlobs, load_history

_MIN_BYTES = 1024  # what is smaller stands in the record itself
_MIN_KEYS = 32
_MAX_STAGES = 8
_MIN_REST_BYTES = 256
_MAX_PACKED_BYTES = 16 * 1024  # a longer list may be one that grows
_LIST = "!list"
_ENTRIES = "!entries"
_TEXT = "!text"
_PACKED = "!packed"
_REST = "!rest"
_CHANGING = ("previous_checkpoint_id", "timestamp", "messages", "iteration_count")

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


class _Packed(str):
    """JSON with pickles in it, to be compressed."""

    __slots__ = ()


class Prepared:
    """
    A checkpoint in pieces, which later changes by the caller do not reach.

    Args:
        fields: all of it, as JSON.
    """

    def __init__(self, fields: dict[str, JsonValue]) -> None:
        self._pieces: dict[_Path, str | list[str]] = {}
        changing = {key: fields[key] for key in _CHANGING if key in fields}
        rest = self._shrunk({key: fields[key] for key in fields if key not in changing}, ())
        text = _text_of(rest)  # mostly that of the checkpoint before
        if len(text) >= _MIN_REST_BYTES:
            self._pieces[(_REST,)] = text
            rest = {_REST: len(self._pieces) - 1}
        self._text = _text_of({**self._shrunk(changing, ()), **rest})

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
        order: list[int] = []
        blobs: dict[str, bytes] = {}
        lists: dict[_Path, Grown] = {}
        texts: set[str] = set()
        lengths = [len(it) if isinstance(it, list) else 0 for it in self._pieces.values()]
        known = _known([*self._pieces.values()], lengths)
        for path, content in self._pieces.items():
            if isinstance(content, str):
                blob = packed(content, known) if isinstance(content, _Packed) else content.encode()
                digest = blob_digest(blob)
                texts.add(digest)
                if digest not in before.texts:
                    blobs[digest] = blob
            else:
                grown = _grown(content, before.lists.get(path), load_blobs)
                digest = _root(grown.stages[-1])
                blobs |= grown.stages[-1].new_blobs
                lists[path] = grown._replace(stages=tuple(_stored(grown.stages, blobs)))
            order.append(numbers.setdefault(digest, len(numbers)))
        stored = msgspec.structs.replace(
            record,
            text=self._text,
            lengths=tuple(lengths),
            order=() if len(numbers) == len(order) else tuple(order),
            blob_digests=(*numbers,),
        )
        return stored, blobs, Shared(lists, frozenset(texts))

    def _shrunk(self, value: Any, path: _Path) -> Any:
        """Return a value with marks in the place of what is long."""
        if isinstance(value, str):
            return value if len(value) < _MIN_BYTES else self._piece(_TEXT, path, value)
        if isinstance(value, list):
            items = [*map(_text_of, value)]
            size = sum(map(len, items))
            if size < _MIN_BYTES:
                return value
            if size < _MAX_PACKED_BYTES and any(PICKLED in item for item in items):
                return self._piece(_PACKED, path, _Packed(f"[{','.join(items)}]"))
            return self._piece(_LIST, path, items)
        if isinstance(value, dict):
            if len(value) >= _MIN_KEYS:
                items = [*map(_text_of, value.items())]
                return value if _is_short(items) else self._piece(_ENTRIES, path, items)
            return {key: self._shrunk(part, (*path, key)) for key, part in value.items()}
        return value

    def _piece(self, mark: str, path: _Path, content: str | list[str]) -> JsonValue:
        self._pieces[path] = content
        return {mark: len(self._pieces) - 1}


def _known(contents: Sequence[object], lengths: Sequence[int]) -> bytes:
    """Return what pickles are compressed against: the end of the longest list."""
    longest = max(lengths, default=0)
    if not longest:
        return end_of(())
    content: Any = contents[lengths.index(longest)]
    return end_of(content.items if isinstance(content, Listed) else content)


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
    """

    record: CheckpointRecord
    contents: tuple[bytes | Listed, ...] = ()

    def joined(self, decode: Callable[[JsonValue], Any]) -> Any:
        """
        Return the checkpoint.

        Args:
            decode: makes values of JSON; lists that have none but JSON are not given to it.

        Raises:
            CheckpointDecodeError: its pieces do not fit.
        """
        known = cache(partial(_known, self.contents, self.stored.lengths))
        plain: dict[_Path, JsonValue] = {}

        def content_of(mark: str, number: int, path: _Path) -> JsonValue:
            content = self.contents[number]
            if isinstance(content, bytes):
                text = unpacked(content, known()) if mark == _PACKED else content.decode()
                return text if mark == _TEXT else msgspec.json.decode(text)
            text = f"[{','.join(content.items)}]"
            items: list[Any] = msgspec.json.decode(text)
            value = items if mark == _LIST else dict(items)
            if self.stored.is_escaped or not self.stored.is_pickled or PICKLED in text:
                return value
            plain[path] = value
            return None

        value = decode(self._filled(content_of))
        for (*above, last), part in plain.items():
            reduce(getitem, above, value)[last] = part
        return value

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
            fields = msgspec.json.decode(record.text)
            if _REST in fields:
                fields |= msgspec.json.decode(self.contents[fields.pop(_REST)])
            return _filled(fields, (), content_of)
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
        CheckpointError: what the reads raise.
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

    texts = await load_blobs(_texts_of(record))
    contents: list[bytes | Listed] = []
    for digest, length in record.pieces:
        if length:
            head = HistoryRecord(session_id="", history_length=length, blob_digests=(digest,))
            history = await load_history(load_blobs, head)
            contents.append(Listed(history, await history.items()))
        else:
            contents.append(texts[digest])
    return Read(record, (*contents,))


def _texts_of(record: StoredCheckpoint) -> list[str]:
    """Return the digests of the texts."""
    return [digest for digest, length in record.pieces if not length]


def _filled(
    value: JsonValue, path: _Path, content_of: Callable[[str, int, _Path], JsonValue]
) -> JsonValue:
    """Return a value with contents in the place of marks."""
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((mark, number),) = value.items()
        if mark in (_TEXT, _LIST, _ENTRIES, _PACKED):
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
