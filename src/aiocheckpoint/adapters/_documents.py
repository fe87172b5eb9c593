"""Documents that are written whole again and again, and stored as what has changed of them."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace

from aiocheckpoint import (
    BlobNode,
    BlobRecord,
    CheckpointDecodeError,
    MissingBlobError,
    SessionReader,
    blob_digest,
)
from aiocheckpoint.adapters._steady import read_steadily
from aiocheckpoint.history import LoadBlobs
from aiocheckpoint.kit import Reads

RecordT = TypeVar("RecordT", bound="DocumentRecord")
ResultT = TypeVar("ResultT")

_LEAST_BYTES = 8 << 10  # of a piece
_MOST_HEAD_BYTES = 1024
_MOST_DOCUMENTS = 16  # that are remembered
_MOST_BYTES = 1 << 20  # of each
# An insertion makes a few pieces new; those behind it are the same again.
_LOOK_AHEAD = 8
_NODE_MARK = BlobNode(["0" * 64])[:16]


class DocumentRecord(BlobRecord, kw_only=True):
    """
    A record that holds a document: the head, its blobs one behind the other, and then the tail.

    Attributes:
        head: what stands before its first list, as a time or a number that each write changes, so
            that the blobs stay the same.
        order: where a blob is there twice, which of `blob_digests` follow one another, by position.
        tail: what follows the blobs, as text.
        is_base64: whether the tail is bytes that are no text.
    """

    head: str = ""
    order: tuple[int, ...] = ()
    tail: str = ""
    is_base64: bool = False


class Piece(NamedTuple):
    """A part of a document that is stored as a blob."""

    digest: str
    content: bytes


class _Whole:
    """
    The pieces of a document in order, and what follows from them, once for many saves.

    Attributes:
        pieces: the pieces.
        digests: of them, each once.
        order: where one is there twice, which of `digests` follow one another; else empty.
        names: the digests as a set.
        size_bytes: of them together.
    """

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self.pieces = (*pieces,)
        self.digests = tuple(dict.fromkeys(piece.digest for piece in self.pieces))
        self.order: tuple[int, ...] = ()
        if len(self.digests) < len(self.pieces):
            position = {digest: number for number, digest in enumerate(self.digests)}
            self.order = tuple(position[piece.digest] for piece in self.pieces)
        self.names = frozenset(self.digests)
        self.size_bytes = sum(len(piece.content) for piece in self.pieces)


_NOTHING = _Whole(())


class Pieces(NamedTuple):
    """
    A document in pieces.

    Attributes:
        head: what stands before them, in ASCII.
        whole: those that are stored as blobs.
        tail: what follows them.
        known: the digests of those that are stored already, as far as is known.
    """

    head: bytes
    whole: _Whole
    tail: bytes
    known: frozenset[str]

    def into(self, record: RecordT) -> RecordT:
        """Return a record with this document in the place of the one it had."""
        digests, order = self.whole.digests, self.whole.order
        try:
            tail, is_base64 = self.tail.decode(), False
        except UnicodeDecodeError:
            tail, is_base64 = base64.b64encode(self.tail).decode(), True
        return replace(
            record, blob_digests=digests, order=order,
            head=self.head.decode(), tail=tail, is_base64=is_base64,
        )  # fmt: skip

    async def saved(self, save: Callable[[Mapping[str, bytes]], Awaitable[ResultT]]) -> ResultT:
        """Save with those blobs that are new, and with all where others removed what was known."""
        new = self.whole.names - self.known
        pieces = self.whole.pieces
        try:
            return await save({name: content for name, content in pieces if name in new})
        except MissingBlobError:
            return await save(dict(pieces))


class Documents:
    """
    The newest documents by key, so that what has not changed is neither hashed nor stored again.

    They are what their digests say, whoever has changed the session meanwhile. May be used by
    several threads.

    Args:
        most_pieces: about how many a document has: few are read faster, many are shared by more of
            the documents of a session.
    """

    def __init__(self, most_pieces: int = 64) -> None:
        self._most_pieces = most_pieces
        self._known: dict[str, _Whole] = {}

    def cut(self, key: str, document: bytes) -> Pieces:
        """Return a document in pieces, those of the one before where they are the same."""
        known = self._known.get(key, _NOTHING)
        start = _end_of_head(document)
        pieces, tail = _cut(document, start, known.pieces, self._most_pieces)
        if not pieces:
            return Pieces(b"", _NOTHING, document, known.names)
        whole = known if pieces is known.pieces else _Whole(pieces)
        return Pieces(document[:start], whole, tail, known.names)

    def keep(self, key: str, pieces: Pieces) -> None:
        """Know a document from now on, since it was saved or loaded."""
        if key not in self._known and len(self._known) >= _MOST_DOCUMENTS:
            self._known = {}
        self._known[key] = pieces.whole if pieces.whole.size_bytes <= _MOST_BYTES else _NOTHING

    async def load_from(
        self, store: Reads[Any], session_id: str, checkpoint_id: str, *, key: str | None = None
    ) -> tuple[DocumentRecord, bytes] | None:
        """
        Return a record and its document, in one hop; None when there is none.

        Raises:
            MissingBlobError: a blob is gone.
            CheckpointError: what `read` of the store raises.
        """

        async def load(session: SessionReader[Any]) -> tuple[DocumentRecord, bytes] | None:
            record = await session.load(checkpoint_id)
            if not isinstance(record, DocumentRecord):
                return None
            return record, await self._load(key or session_id, record, session.load_blobs)

        return await read_steadily(store, session_id, load)

    async def _load(self, key: str, record: DocumentRecord, load_blobs: LoadBlobs) -> bytes:
        """Return the document of a record; only what is not known is loaded."""
        blobs = dict(self._known.get(key, _NOTHING).pieces)
        missing = [digest for digest in record.blob_digests if digest not in blobs]
        if missing:
            blobs |= await load_blobs(missing)
        tail = _tail(record)
        order = record.order or range(len(record.blob_digests))
        named = [record.blob_digests[number] for number in order]
        whole = _Whole(Piece(digest, blobs[digest]) for digest in named)
        head = record.head.encode()
        self.keep(key, Pieces(head, whole, tail, frozenset()))
        return b"".join([head, *(piece.content for piece in whole.pieces), tail])


def _tail(record: DocumentRecord) -> bytes:
    try:
        return base64.b64decode(record.tail) if record.is_base64 else record.tail.encode()
    except ValueError as error:
        place = f"{record.session_id}/{record.checkpoint_id}"
        raise CheckpointDecodeError(place, type(record).__qualname__, str(error)) from error


def _end_of_head(document: bytes) -> int:
    """Return where the first list of a document begins, if that is near and told in ASCII."""
    end = document.find(b"[", 0, _MOST_HEAD_BYTES) + 1
    return end if document[:end].isascii() else 0


def _cut(
    document: bytes, start: int, known: Sequence[Piece], most_pieces: int
) -> tuple[Sequence[Piece], bytes]:
    """Return the pieces of a document from a position on, and what follows them."""
    least = _LEAST_BYTES
    while least * most_pieces < len(document):
        least *= 2
    same, position = _same_at_first(document, start, known, least)
    if same == len(known) and _end_of_piece(document, position, least) is None:
        return known, document[position:]  # as mostly
    pieces = [*known[:same]]
    following = same
    while True:
        for number, piece in enumerate(known[following : following + _LOOK_AHEAD], following):
            # A short one is from a time when the document was shorter: cut anew.
            if len(piece.content) >= least and document.startswith(piece.content, position):
                following = number + 1
                break
        else:
            end = _end_of_piece(document, position, least)
            if end is None:
                return pieces, document[position:]
            content = document[position:end]
            piece = Piece(blob_digest(content), content)
        pieces.append(piece)
        position += len(piece.content)


def _same_at_first(
    document: bytes, start: int, known: Sequence[Piece], least: int
) -> tuple[int, int]:
    """Return how many of the known pieces a document has from `start` on, and where they end."""
    position = start
    for number, (_, content) in enumerate(known):
        if len(content) < least or not document.startswith(content, position):
            return number, position
        position += len(content)
    return len(known), position


def _end_of_piece(document: bytes, start: int, least: int) -> int | None:
    """Return where a piece ends: at the end of a JSON object, so that what moves is found again."""
    if document.startswith(_NODE_MARK, start):  # or it would be taken for a node
        return start + 1
    brace = document.find(b"}", start + least - 1, start + 2 * least)
    if brace >= 0:
        return brace + 1
    return start + 2 * least if len(document) >= start + 2 * least else None
