"""
Checkpoints that share what they have in common: long lists as histories, long texts as blobs.

A checkpoint holds the whole state of a workflow, of which little changes in a step. A list that
begins as it did in the checkpoint before costs what was added to it. Pickled messages, most of
which stand in such a list as JSON, too, are compressed against its end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, reduce
from itertools import takewhile
from operator import eq, getitem
from typing import Any, Final, NamedTuple, TypeAlias, cast

import msgspec

from aiocheckpoint import (
    BlobRecord,
    CheckpointDecodeError,
    CheckpointRecord,
    JsonValue,
    SessionReader,
    blob_digest,
)
from aiocheckpoint.adapters._storage import Names
from aiocheckpoint.adapters.agent_framework.packing import PICKLED, end_of, packed, unpacked
from aiocheckpoint.adapters.agent_framework.values import Values
from aiocheckpoint.history import History, HistoryRecord, LoadBlobs, load_history

NAMES: Final = Names("agent_framework")

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
_ContentOf: TypeAlias = Callable[[str, int, _Path], JsonValue]
_json_of = msgspec.json.encode
_decode = msgspec.json.decode
_items_of = msgspec.json.Decoder(tuple[msgspec.Raw, ...]).decode


class StoredCheckpoint(BlobRecord, tag="agent_framework.StoredCheckpoint", kw_only=True):
    """
    A checkpoint of a workflow; its session is named `agent_framework.` and the workflow.

    Attributes:
        text: JSON of all but the ids, which keeps the order of keys. Values that JSON lacks are
            there as `exact` writes them, other objects as the framework does. `{"!list": n}` is
            the list, `{"!entries": n}` the dict whose items are the history of the n-th blob,
            `{"!text": n}` the text that it holds as JSON, and `{"!packed": n}` its JSON,
            compressed. `"!rest"` is the blob with the other fields.
        lengths: of each blob that is a history how many items it has; of others 0.
        is_pickled: whether any of it is as the framework writes objects.
        is_escaped: whether any of it is as `exact` writes values that JSON lacks.
        are_lists_plain: whether none of the histories has any of either, so that what they hold
            need not be walked through.
    """

    text: str
    lengths: tuple[int, ...] = ()
    is_pickled: bool = True
    is_escaped: bool = True
    are_lists_plain: bool = False


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
        lists: by their places in it.
        texts: digests of the other blobs.
    """

    lists: Mapping[_Path, Grown]
    texts: frozenset[str]


NOTHING = Shared({}, frozenset())


class _Piece(NamedTuple):
    """
    What is stored as a blob, or as a history.

    Attributes:
        content: JSON; of a list that of each item.
        is_packed: whether it has pickles in it, and is to be compressed.
    """

    content: bytes | tuple[bytes, ...]
    is_packed: bool = False


class Prepared:
    """
    A checkpoint in pieces, which later changes by the caller do not reach.

    Args:
        fields: all of it, as JSON.
        is_pickled: whether any of it is as the framework writes objects.
    """

    def __init__(self, fields: dict[str, JsonValue], *, is_pickled: bool) -> None:
        self._is_pickled = is_pickled
        self._are_lists_pickled = False
        self._places: dict[_Piece, tuple[int, list[_Path]]] = {}
        changing = {key: fields[key] for key in _CHANGING if key in fields}
        rest = self._shrunk({key: fields[key] for key in fields if key not in changing}, ())
        text = _json_of(rest)  # mostly that of the checkpoint before
        if len(text) >= _MIN_REST_BYTES:
            rest = {_REST: self._number(_Piece(text), (_REST,))}
        self._text = _json_of({**self._shrunk(changing, ()), **rest}).decode()

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
        new: dict[str, bytes] = {}
        digests: dict[str, int] = {}
        lists: dict[_Path, Grown] = {}
        contents = [piece.content for piece in self._places]
        lengths = [len(it) if isinstance(it, tuple) else 0 for it in contents]
        known = cache(lambda: _known([[_array(it)] for it in contents], lengths))
        for (content, is_packed), (_, paths) in self._places.items():
            if isinstance(content, bytes):
                blob = packed(content, known()) if is_packed else content
                digest = blob_digest(blob)
                new |= {} if digest in before.texts else {digest: blob}
                digests[digest] = 0
            else:
                grown = _grown(content, [before.lists.get(path) for path in paths], load_blobs)
                new |= grown.stages[-1].new_blobs
                # Pages may have taken the place of what earlier stages lead to.
                stages = (it.stored() if _root(it) in new else it for it in grown.stages)
                grown = grown._replace(stages=(*stages,))
                lists |= dict.fromkeys(paths, grown)
                digests[_root(grown.stages[-1])] = len(content)
        stored = msgspec.structs.replace(
            record,
            text=self._text,
            blob_digests=(*digests,),
            lengths=(*digests.values(),),
            are_lists_plain=not record.is_escaped and not self._are_lists_pickled,
        )
        return stored, new, Shared(lists, _texts_of(stored))

    def _number(self, piece: _Piece, path: _Path) -> int:
        """Return the number of a piece; equal ones have one."""
        number, paths = self._places.setdefault(piece, (len(self._places), []))
        paths.append(path)
        return number

    def _shrunk(self, value: Any, path: _Path) -> Any:
        """Return a value with marks in the place of what is long."""
        if isinstance(value, str):
            if len(value) < _MIN_BYTES:
                return value
            return {_TEXT: self._number(_Piece(_json_of(value)), path)}
        if isinstance(value, list):
            items = (*map(_json_of, value),)
            size = sum(map(len, items))
            if size < _MIN_BYTES:
                return value
            is_pickled = self._has_pickles(items)
            if is_pickled and size < _MAX_PACKED_BYTES:
                return {_PACKED: self._number(_Piece(_array(items), is_packed=True), path)}
            self._are_lists_pickled |= is_pickled
            return {_LIST: self._number(_Piece(items), path)}
        if isinstance(value, dict):
            if len(value) < _MIN_KEYS:
                return {key: self._shrunk(part, (*path, key)) for key, part in value.items()}
            items = (*map(_json_of, value.items()),)
            if sum(map(len, items)) >= _MIN_BYTES:
                self._are_lists_pickled |= self._has_pickles(items)
                return {_ENTRIES: self._number(_Piece(items), path)}
        return value

    def _has_pickles(self, items: Iterable[bytes]) -> bool:
        return self._is_pickled and any(PICKLED in item for item in items)


class Read(NamedTuple):
    """
    A checkpoint that was read.

    Attributes:
        record: of the session.
        contents: JSON of its pieces, or what it is packed to, by their numbers; of lists in pages.
        histories: of those that are lists.
    """

    record: StoredCheckpoint
    contents: tuple[list[bytes], ...]
    histories: Mapping[int, History]

    def joined(self, values: Values) -> Any:
        """
        Return the fields of the checkpoint; once, for the lists are let go of on the way.

        Raises:
            CheckpointDecodeError: its pieces do not fit.
        """
        record = self.record
        plain: dict[_Path, JsonValue] = {}
        made: dict[int, list[Any]] = {}
        known = cache(lambda: _known(self.contents, record.lengths))

        def content_of(mark: str, number: int, path: _Path) -> JsonValue:
            pages = self.contents[number]
            if mark in (_TEXT, _PACKED):
                return _decode(unpacked(pages[0], known()) if mark == _PACKED else pages[0])
            if record.is_pickled:
                known()  # while all pages are there
            if number in made:
                items = _decode(_json_of(made[number]))
            else:
                items = made[number] = [item for page in _taken(pages) for item in _decode(page)]
            value: Any = dict(items) if mark == _ENTRIES else items
            if not record.are_lists_plain:
                return value
            plain[path] = value
            return None

        is_pickled, is_escaped = record.is_pickled, record.is_escaped
        filled = self._filled(content_of)
        value = values.from_json(filled, is_pickled=is_pickled, is_escaped=is_escaped)
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
            if number in self.histories:
                items = (bytes(it) for page in self.contents[number] for it in _items_of(page))
                lists[path] = Grown(_digests(items), (self.histories[number],))

        self._filled(note)
        return Shared(lists, _texts_of(self.record))

    def _filled(self, content_of: _ContentOf) -> JsonValue:
        try:
            fields = _decode(self.record.text)
            if _REST in fields:
                fields |= _decode(self.contents[fields.pop(_REST)][0])
            return _filled(fields, (), content_of)
        except (msgspec.MsgspecError, LookupError, TypeError, ValueError) as error:
            raise _not_ours(self.record, str(error)) from error


async def read(
    checkpoint_id: str | None, blobs: dict[str, bytes] | None, reader: SessionReader[Any]
) -> Read | None:
    """
    Return a checkpoint of a session, what was saved last for None; None when there is none.

    Args:
        checkpoint_id: its id.
        blobs: of the session that need not be loaded; gets those that are. None: there are none.
        reader: of the session.

    Raises:
        CheckpointDecodeError: something else was saved last, or its pieces do not fit.
        CheckpointError: what the reads raise.
    """
    record: CheckpointRecord | None = await reader.load(checkpoint_id)
    if record is not None and checkpoint_id is None and not isinstance(record, StoredCheckpoint):
        raise _not_ours(record, "something else has this session")
    if not isinstance(record, StoredCheckpoint):
        return None
    if len(record.lengths) != len(record.blob_digests):
        raise _not_ours(record, "it has other pieces than blobs")

    known: dict[str, bytes] = {} if blobs is None else blobs

    async def load_blobs(digests: Iterable[str]) -> Mapping[str, bytes]:
        wanted = [*digests]
        missing = [digest for digest in wanted if digest not in known]
        if missing:
            known.update(await reader.load_blobs(missing))
        return {digest: known[digest] for digest in wanted}

    contents = [[blob] for blob in (await load_blobs(record.blob_digests)).values()]
    histories: dict[int, History] = {}
    for number, length in enumerate(record.lengths):
        if length:
            digests = (record.blob_digests[number],)
            head = HistoryRecord(session_id="", history_length=length, blob_digests=digests)
            history = histories[number] = await load_history(load_blobs, head)
            contents[number] = await history.pages()
    if blobs is None:
        known.clear()  # or they would be in memory twice, as they are and decoded
    return Read(record, (*contents,), histories)


def _taken(pages: list[bytes]) -> Iterator[bytes]:
    """Yield pages and let go of them, so that what is made of one takes the memory of another."""
    while pages:
        yield pages.pop(0)


def _not_ours(record: CheckpointRecord, reason: str) -> CheckpointDecodeError:
    place = f"{record.session_id}/{record.checkpoint_id}"
    return CheckpointDecodeError(place, StoredCheckpoint.__qualname__, reason)


def _texts_of(record: StoredCheckpoint) -> frozenset[str]:
    """Return the digests of the blobs that are no histories."""
    pieces = zip(record.blob_digests, record.lengths, strict=True)
    return frozenset(digest for digest, length in pieces if not length)


def _known(contents: Sequence[list[bytes]], lengths: Sequence[int]) -> bytes:
    """Return what pickles are compressed against: the end of the longest list."""
    longest = max(lengths)
    return end_of(contents[lengths.index(longest)] if longest else [])


def _filled(value: JsonValue, path: _Path, content_of: _ContentOf) -> JsonValue:
    """Return a value with contents in the place of marks."""
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((mark, number),) = value.items()
        if mark in (_TEXT, _LIST, _ENTRIES, _PACKED):
            return content_of(mark, cast("int", number), path)
    return {key: _filled(part, (*path, key), content_of) for key, part in value.items()}


def _grown(
    items: tuple[bytes, ...], before: Iterable[Grown | None], load_blobs: LoadBlobs
) -> Grown:
    """Return a list that goes on from what it has in common with one before."""
    digests = _digests(items)
    stages: tuple[History, ...] = ()
    earlier = next(filter(None, before), None)
    if earlier is not None:
        same = sum(1 for _ in takewhile(bool, map(eq, digests, earlier.digests)))
        digests = (*earlier.digests[:same], *digests[same:])  # the very objects, held once
        stages = tuple(stage for stage in earlier.stages if len(stage) <= same)
        if _length(stages) < same < len(items):  # it may change from here on again
            stages = (*stages, _extended(stages, items[:same], load_blobs))
    if _length(stages) < len(items):
        stages = (*stages, _extended(stages, items, load_blobs))
    return Grown(digests, stages[-_MAX_STAGES:])


def _length(stages: tuple[History, ...]) -> int:
    return len(stages[-1]) if stages else 0


def _extended(
    stages: tuple[History, ...], items: tuple[bytes, ...], load_blobs: LoadBlobs
) -> History:
    last = stages[-1] if stages else History(load_blobs)
    return last.extend_json(items[len(last) :])


def _array(items: bytes | Iterable[bytes]) -> bytes:
    return items if isinstance(items, bytes) else b"[%b]" % b",".join(items)


def _digests(items: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(hashlib.sha256(item).digest() for item in items)


def _root(history: History) -> str:
    (root,) = history.into(HistoryRecord(session_id="")).blob_digests
    return root
