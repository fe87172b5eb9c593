"""Histories: lists that grow, of which each checkpoint costs what was added."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

import msgspec

from aiocheckpoint._arguments import listed, require_count, require_instance
from aiocheckpoint._format import histories
from aiocheckpoint._format.blobs import reachable_blobs
from aiocheckpoint._format.escaping import may_hold_escapes
from aiocheckpoint._format.histories import Blobs, Part, Trunk
from aiocheckpoint.errors import CheckpointDecodeError, InvalidArgumentError
from aiocheckpoint.exact import from_json
from aiocheckpoint.models import BlobRecord, JsonValue

__all__ = ("History", "HistoryRecord", "LoadBlobs", "load_history")

LoadBlobs: TypeAlias = Callable[[Iterable[str]], Awaitable[Mapping[str, bytes]]]
"""Loads blobs of a session: `partial(store.load_blobs, session_id)`, or a transaction's."""


class HistoryRecord(BlobRecord, kw_only=True):
    """
    A record with a history; extend it with fields of your own.

    `History.into` sets both fields. A record without a history may name blobs all the same.

    Attributes:
        history_length: how many items the history has.
        blob_digests: the history's blob, if it has items; behind it those that you name yourself.
    """

    history_length: int = 0


RecordT = TypeVar("RecordT", bound=HistoryRecord)


class History:
    """
    A list of JSON values that grows at its end; a value, which no call changes.

    `append` and `extend` return the longer history, which shares all that there was; whoever keeps
    the shorter one has a fork. They do no I/O. A save takes `into(record)` and `new_blobs`, and
    `stored()` is what to go on from when it has returned.

    Keep a checkpoint as long as you go on from its history: what no checkpoint leads to is removed.

    Args:
        load_blobs: loads blobs of the session that it is saved in.
    """

    def __init__(self, load_blobs: LoadBlobs) -> None:
        self._load_blobs = load_blobs
        self._trunk = Trunk()
        self._new: Blobs = {}

    def _with(self, trunk: Trunk, new: Blobs) -> History:
        other = History(self._load_blobs)
        other._trunk, other._new = trunk, new
        return other

    def __len__(self) -> int:
        """Return how many items it has."""
        return self._trunk.length

    # Saving

    def into(self, record: RecordT) -> RecordT:
        """
        Return a record with this history in the place of the one it had.

        Args:
            record: of a type that extends `HistoryRecord`; it is not changed.

        Raises:
            InvalidArgumentError: it does not extend it.
        """
        require_instance("record", record, HistoryRecord)
        own = record.blob_digests[1:] if record.history_length else record.blob_digests
        digests = own if self._trunk.root is None else (self._trunk.root, *own)
        return msgspec.structs.replace(record, history_length=len(self), blob_digests=digests)

    @property
    def new_blobs(self) -> dict[str, bytes]:
        """What to give with the save, by digest: all blobs of it since the last `stored`."""
        new, root = self._new, self._trunk.root
        reached = () if root is None else reachable_blobs([root], new)
        return {digest: new[digest] for digest in reached if digest in new}

    def stored(self) -> History:
        """Return the same history, with nothing new: go on from it when the save has returned."""
        return self._with(self._trunk, {})

    # Growing

    def append(self, item: JsonValue) -> History:
        """
        Return the history with one more item.

        Args:
            item: a JSON value, encoded at once, so it may be changed afterwards.

        Raises:
            CheckpointEncodeError: it is no JSON value that would come back as it is.
        """
        return self.extend((item,))

    def extend(self, items: Iterable[JsonValue]) -> History:
        """
        Return the history with more items.

        Args:
            items: JSON values, encoded at once, so they may be changed afterwards.

        Raises:
            CheckpointEncodeError: one would not come back as it is; names its place, as
                `history[3].content`.
            InvalidArgumentError: one item instead of a list of them: of a dict only the keys would
                be kept, of a str its letters.

        Cost: one encode, a check that takes about twice as long, and one SHA-256 of what is added;
            now and then of 64 KiB more.
        """
        wanted = "a list, even for a single one, or append"
        given = listed("items", items, single=(str, bytes, Mapping), wanted=wanted)
        return self._grown(histories.encoded_items([*given]))

    def extend_json(self, items: Iterable[bytes]) -> History:
        """
        Return the history with more items that are JSON already, each kept to the byte.

        So dicts keep the order of their keys, which `extend` sorts.

        Args:
            items: the JSON of one value each, without white space around it.

        Raises:
            CheckpointEncodeError: one is something else; names its place, as `history[3]`, and what
                is wrong there.
            InvalidArgumentError: no list of bytes: one JSON array is not taken for its items.

        Cost: a decode and a SHA-256 of what is added.
        """
        wanted = "a list of bytes, each the JSON of one item, even for a single one"
        given = listed("items", items, wanted=wanted)
        for item in given:
            require_instance("an item", item, bytes)
        histories.require_json(given)
        return self._grown(given)

    def _grown(self, added: tuple[bytes, ...]) -> History:
        if not added:
            return self
        new = {**self._new}
        return self._with(histories.grown(self._trunk, added, new), new)

    # Reading

    async def items(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        exact: bool = False,
        make: Callable[[list[Any]], Iterable[Any]] | None = None,
    ) -> list[Any]:
        """
        Return items, all by default.

        Args:
            start: the first of them, counted from 0.
            stop: the one behind the last of them; None: up to the end.
            exact: whether they are to be what `exact.to_json` made them of, and not JSON; where
                they are plain JSON, that costs next to nothing.
            make: what to return in the place of items. It is called with some of them, some
                64 KiB, before the next are decoded, so that few are in memory at a time; None:
                return the items.

        Raises:
            InvalidArgumentError: one is no plain int of at least 0, or `make` cannot be called.
            MissingBlobError: no checkpoint leads to them any more.
            CheckpointCorruptError: a blob is damaged.
            CheckpointDecodeError: a blob is no part of a history.
            ExactValueError: `exact`, and one is nothing that `exact.to_json` has made.
            Exception: what `make` raises.

        Cost: the newest are there; of the others one or two loads of blobs, of those alone that
            hold what is wanted.
        """
        require_count("start", start, 0)
        if stop is not None:
            require_count("stop", stop, 0)
        if make is not None and not callable(make):
            raise InvalidArgumentError("make", make, "a function")
        end = len(self) if stop is None else min(stop, len(self))
        found: list[Any] = []
        pages = await self._pages(start, end)
        while pages:  # let go of each, so that what is made of one takes the memory of another
            digest, page, wanted = pages.pop(0)
            items = histories.page_items(digest, page)[wanted]
            if exact and may_hold_escapes(page):
                items = [*map(from_json, items)]
            found += items if make is None else make(items)
        return found

    async def pages(self) -> list[bytes]:
        """
        Return all items as they are stored: JSON arrays, of which one goes on from the other.

        Raises:
            MissingBlobError: no checkpoint leads to them any more.
            CheckpointCorruptError: a blob is damaged.
            CheckpointDecodeError: a blob is no part of a history. Whether a page is an array is
                left to who decodes it.

        Cost: as `items`, without the decoding.
        """
        return [page for _, page, _ in await self._pages(0, len(self))]

    async def last(
        self,
        count: int,
        *,
        exact: bool = False,
        make: Callable[[list[Any]], Iterable[Any]] | None = None,
    ) -> list[Any]:
        """
        Return the newest items, oldest first; all if there are fewer.

        Args:
            count: how many at most.
            exact: as of `items`.
            make: as of `items`.

        Raises:
            CheckpointError: as `items`.
        """
        require_count("count", count, 0)
        return await self.items(max(len(self) - count, 0), exact=exact, make=make)

    async def truncate(self, length: int) -> History:
        """
        Return the history of the first items alone; what is behind them is not loaded.

        Args:
            length: how many to keep; all if there are fewer.

        Raises:
            CheckpointError: as `items`.
        """
        require_count("length", length, 0)
        if length >= len(self):
            return self
        new = {**self._new}
        parts = await self._parts_up_to(length)
        trunk = histories.indexed(sum(part.length for part in parts), parts, new)
        kept = [
            item
            for digest, page, wanted in await self._pages(trunk.length, length)
            for item in histories.page_json_items(digest, page)[wanted]
        ]
        return self._with(histories.grown(trunk, (*kept,), new) if kept else trunk, new)

    async def _parts_up_to(self, length: int) -> list[Part]:
        """Return the whole pages among the first items, in as few parts as can be."""
        whole: list[Part] = []
        position = 0
        waiting = [*reversed(self._trunk.parts)]
        while waiting:
            part = waiting.pop()
            if position + part.length <= length:
                whole.append(part)
                position += part.length
            elif part.height and position < length:
                blobs = await self._load([part.digest])
                waiting = histories.parts_of(part.digest, blobs[part.digest])[::-1]
            else:
                break
        return whole

    async def _pages(self, start: int, end: int) -> list[tuple[str, bytes, slice]]:
        """Return the pages, or runs as such, that hold some of the items, and which of theirs."""
        runs = {run.digest: histories.as_page(run) for run in self._trunk.runs}
        waiting = [*self._trunk.parts, *(Part(r.digest, 0, len(r.items)) for r in self._trunk.runs)]
        parts = _between(start, end, 0, waiting)
        while True:
            pages = runs | await self._load(
                part.digest for _, part in parts if part.digest not in runs
            )
            if not any(part.height for _, part in parts):
                break
            parts = [
                below
                for position, part in parts
                for below in (
                    _between(
                        start, end, position, histories.parts_of(part.digest, pages[part.digest])
                    )
                    if part.height
                    else [(position, part)]
                )
            ]
        return [
            (part.digest, pages[part.digest], slice(max(start - at, 0), max(end - at, 0)))
            for at, part in parts
        ]

    async def _load(self, digests: Iterable[str]) -> Blobs:
        wanted = dict.fromkeys(digests)
        found = {digest: self._new[digest] for digest in wanted if digest in self._new}
        missing = [digest for digest in wanted if digest not in found]
        return found | {**await self._load_blobs(missing)} if missing else found


def _between(start: int, end: int, position: int, parts: Iterable[Part]) -> list[tuple[int, Part]]:
    """Return the parts that hold some of the items, each with its position."""
    found: list[tuple[int, Part]] = []
    for part in parts:
        if position < end and position + part.length > start:
            found.append((position, part))
        position += part.length
    return found


async def load_history(load_blobs: LoadBlobs, record: HistoryRecord) -> History:
    """
    Return the history of a record; of its items only the newest, some 64 KiB, are loaded.

    Args:
        load_blobs: loads blobs of the record's session.
        record: as it was loaded.

    Raises:
        MissingBlobError: the record was deleted meanwhile, or its history is damaged.
        CheckpointCorruptError: its history is damaged.
        CheckpointDecodeError: its first blob is no history.
        InvalidArgumentError: it does not extend `HistoryRecord`, as None, which `load` returns
            where there is nothing.

    Cost: at most three loads of blobs.
    """
    require_instance("record", record, HistoryRecord)
    history = History(load_blobs)
    if record.history_length:
        if not record.blob_digests:
            kind = type(record).__qualname__
            raise CheckpointDecodeError(record.checkpoint_id, kind, "it names no history")
        trunk = await _loaded(load_blobs, record.blob_digests[0])
        history = history._with(trunk, {})  # noqa: SLF001 - of the same module
    return history


async def _loaded(load_blobs: LoadBlobs, digest: str) -> Trunk:
    blobs = {**await load_blobs([digest])}
    root = histories.opened(digest, blobs[digest])
    links = [*root.groups, *root.own_group, *filter(None, [root.index_digest])]
    if links:
        blobs |= await load_blobs(links)
    members = [
        member for last in root.groups for member in histories.opened(last, blobs[last]).own_group
    ]
    if members:
        blobs |= await load_blobs(members)
    return histories.trunk_of(root, blobs)
