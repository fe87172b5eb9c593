"""Commits as bytes: what changed in a session, and the documents; pure.

An object of lines: first the header, one JSON object with its own SHA-256, then the sealed
documents, one a line, so that `aws s3 cp` and any editor show what there is. A commit whose
documents are gone keeps its header: it is known by its number and its write id.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from aiocheckpoint.errors import CheckpointCorruptError, FormatVersionError
from aiocheckpoint.models import CheckpointId, SessionId

FORMAT = 1

_SEAL = re.compile(rb'\{"sha256":"([0-9a-f]{64})",')


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    A checkpoint, and where it stands.

    Attributes:
        id: its id.
        number: of the commit.
        offset: of its document: behind the header, in the header's own list; else in the object.
        length: of its document.
        saved_at: when it was stored, by the server's clock.
        created_at: as the record says.
        trigger: the same.
        iteration: the same.
        checksum: of the document; empty once that was erased.
        blobs: digests of the blobs that it names.
        problem: why it cannot be read, of one whose commit is damaged.
    """

    id: CheckpointId
    number: int
    offset: int
    length: int
    saved_at: datetime
    created_at: datetime
    trigger: str = ""
    iteration: int = 0
    checksum: str = ""
    blobs: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def is_erased(self) -> bool:
        """Whether its document is gone, as a later commit has deleted or replaced it."""
        return not self.checksum and self.problem is None


class Owner(msgspec.Struct, frozen=True):
    """
    Who owns a session.

    Attributes:
        token: the greatest so far.
        since: when the ownership began, by the server's clock.
        lease_seconds: how long after a sign of life it is held for alive.
    """

    token: int
    since: datetime
    lease_seconds: float


class Blob(NamedTuple):
    """
    A blob that a checkpoint leads to.

    Attributes:
        write_id: of the commit that it was put for; part of its key.
        number: of that commit.
        links: the blobs that it refers to.
    """

    write_id: str
    number: int
    links: tuple[str, ...]


class Piece(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    What some commits, one after the other, come to.

    Attributes:
        clears: whether nothing is left of what was before.
        deletes: ids that are removed from it.
        blobs: that were put, and that something in `puts` leads to.
        puts: checkpoints that are stored then, saved first first; each replaces one of its id.
    """

    clears: bool = False
    deletes: tuple[CheckpointId, ...] = ()
    blobs: dict[str, Blob] = {}
    puts: tuple[Entry, ...] = ()


class Header(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """
    What a commit says.

    Attributes:
        format: the version of this format.
        session_id: the session.
        number: of the commit, from 1, without gaps.
        write_id: random; tells whose commit it is.
        previous: the write id of the commit before; empty for the first.
        saved_at: not before that of any checkpoint so far.
        floor: no checkpoint stands in a commit below; above `number` where there is none at all.
        puts: checkpoints that are stored, saved first first; each replaces one of its id.
        deletes: ids that are removed before `puts` are stored.
        blobs: the blobs that were put for it: digest to those of the blobs that it refers to.
        newest: the newest checkpoint where `puts` is empty; None if there is none.
        token: the last one that an owner was given.
        owner: who owns the session.
    """

    format: int = FORMAT
    session_id: SessionId
    number: int
    write_id: str
    previous: str = ""
    saved_at: datetime
    floor: int
    puts: tuple[Entry, ...] = ()
    deletes: tuple[CheckpointId, ...] = ()
    blobs: dict[str, tuple[str, ...]] = {}
    newest: Entry | None = None
    token: int = 0
    owner: Owner | None = None

    @classmethod
    def damaged(
        cls,
        session_id: SessionId,
        number: int,
        problem: str,
        length: int,
        modified_at: datetime | None,
    ) -> Header:
        """Return what stands for a commit that cannot be read: one checkpoint, which says why."""
        saved_at = modified_at or datetime.min.replace(tzinfo=UTC)
        entry = Entry(
            id=f"commit-{number}",
            number=number,
            offset=0,
            length=length,
            saved_at=saved_at,
            created_at=saved_at,
            problem=problem,
        )
        return cls(
            session_id=session_id,
            number=number,
            write_id="",
            saved_at=saved_at,
            floor=0,
            puts=(entry,),
        )

    @property
    def piece(self) -> Piece:
        """What the commit comes to."""
        blobs = {
            digest: Blob(self.write_id, self.number, links) for digest, links in self.blobs.items()
        }
        return Piece(self.is_empty, self.deletes, blobs, self.puts)

    @property
    def is_damaged(self) -> bool:
        """Whether it stands for one that cannot be read."""
        return not self.write_id

    @property
    def is_missing(self) -> bool:
        """Whether it stands for one that is not there."""
        return self.is_damaged and not self.puts[0].length

    @property
    def is_empty(self) -> bool:
        """Whether the session has no checkpoint after it."""
        return self.floor > self.number


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Header).decode


class _Format(msgspec.Struct):
    format: int = FORMAT


def _sealed(content: bytes) -> bytes:
    digest = hashlib.sha256(content).hexdigest().encode()
    return b'{"sha256":"%s",%s' % (digest, content[1:])


def encode_commit(header: Header, bodies: Sequence[bytes]) -> tuple[Header, bytes]:
    """
    Return a commit as it is read back, and its object.

    Args:
        header: with the places of the documents behind it.
        bodies: of `header.puts`.
    """
    line = _sealed(_encode(header))
    puts = tuple(placed(entry, len(line) + 1) for entry in header.puts)
    return msgspec.structs.replace(header, puts=puts), b"\n".join((line, *bodies, b""))


def placed(entry: Entry, header_bytes: int) -> Entry:
    """Return an entry of a header's list, with its place in the object."""
    return msgspec.structs.replace(entry, offset=entry.offset + header_bytes)


def decode_commit(data: bytes, location: str, session_id: SessionId | None, number: int) -> Header:
    """
    Return the header of a commit, with each entry's place in the object.

    Args:
        data: the object, or enough of its beginning.
        location: of the object, for errors.
        session_id: the session it stands in; None where only it can tell.
        number: that it stands under.

    Raises:
        CheckpointCorruptError: it is damaged, or of another place.
        FormatVersionError: it is of another version.
    """
    line, newline, _ = data.partition(b"\n")
    seal = _SEAL.match(line)
    if not newline or seal is None:
        raise CheckpointCorruptError(location, "the header of the commit is cut off, or none")
    content = b"{" + line[seal.end() :].rstrip(b" ")
    actual = hashlib.sha256(content).hexdigest()
    if actual != seal[1].decode():
        reason = "the header of the commit does not match its checksum"
        raise CheckpointCorruptError(location, reason, seal[1].decode(), actual)
    try:
        found = msgspec.json.decode(content, type=_Format).format
        if found != FORMAT:
            raise FormatVersionError(location, str(found), str(FORMAT))
        header = _decode(content)
    except msgspec.MsgspecError as error:
        raise CheckpointCorruptError(location, f"no header of a commit: {error}") from error
    if header.number != number or session_id not in (None, header.session_id):
        reason = f"it is commit {header.number} of session {header.session_id!r}"
        raise CheckpointCorruptError(location, reason)
    puts = tuple(placed(entry, len(line) + 1) for entry in header.puts)
    return msgspec.structs.replace(header, puts=puts)


def emptied(data: bytes, header: Header, is_alive: frozenset[CheckpointId]) -> bytes:
    """
    Return the object of a commit without the documents that nothing refers to any more.

    What it says of them but their ids, times and blobs goes as well. Those stay, for what a commit
    came to does not change: who has not seen yet that they are gone learns it by a later commit.

    Args:
        data: the object.
        header: what `decode_commit` returned for it.
        is_alive: the ids of those to keep; they keep their places.
    """
    length = data.index(b"\n") + 1
    puts = tuple(
        placed(entry if entry.id in is_alive else _erased(entry), -length) for entry in header.puts
    )
    newest = None if header.newest is None else _erased(header.newest)  # of an empty session
    line = _sealed(_encode(msgspec.structs.replace(header, puts=puts, newest=newest)))
    if not any(entry.id in is_alive for entry in header.puts):
        return line + b"\n"
    blank = bytearray(data)
    for entry in header.puts:
        if entry.id not in is_alive:
            blank[entry.offset : entry.offset + entry.length] = b" " * entry.length
    blank[:length] = b"%s%s\n" % (line, b" " * (length - 1 - len(line)))
    return bytes(blank)


def _erased(entry: Entry) -> Entry:
    return msgspec.structs.replace(
        entry, created_at=entry.saved_at, trigger="", iteration=0, checksum=""
    )


def merged(pieces: Iterable[Piece]) -> Piece:
    """Return what pieces, one after the other, come to."""
    clears = False
    deletes: dict[CheckpointId, None] = {}
    blobs: dict[str, Blob] = {}
    puts: dict[CheckpointId, Entry] = {}
    for piece in pieces:
        if piece.clears:
            clears = True
            for part in (deletes, blobs, puts):
                part.clear()
        for digest, blob in piece.blobs.items():
            blobs.pop(digest, None)  # a dict keeps the place of a key that it has
            blobs[digest] = blob
        for checkpoint_id in piece.deletes:
            puts.pop(checkpoint_id, None)
            deletes[checkpoint_id] = None
        for entry in piece.puts:
            puts.pop(entry.id, None)
            puts[entry.id] = entry
    # What nothing leads to by now was removed, and will not be named again without being put anew.
    alive = set(reached((digest for entry in puts.values() for digest in entry.blobs), blobs))
    kept = {digest: blob for digest, blob in blobs.items() if digest in alive}
    return Piece(clears, tuple(deletes), kept, tuple(puts.values()))


def reached(digests: Iterable[str], blobs: Mapping[str, Blob]) -> Iterator[str]:
    """Yield digests and all that those blobs lead to, each once."""
    waiting = [*digests]
    seen: set[str] = set()
    while waiting:
        digest = waiting.pop()
        if digest not in seen:
            seen.add(digest)
            yield digest
            waiting += blobs[digest].links if digest in blobs else ()


def encode_piece(piece: Piece) -> bytes:
    """Return the object of a part of the index."""
    return _sealed(msgspec.json.encode(_IndexPart(piece=piece))) + b"\n"


def decode_piece(data: bytes) -> Piece | None:
    """Return a part of the index; None of one that is damaged, or of another version."""
    line = data.partition(b"\n")[0]
    seal = _SEAL.match(line)
    if seal is None:
        return None
    content = b"{" + line[seal.end() :]
    if hashlib.sha256(content).hexdigest().encode() != seal[1]:
        return None
    try:
        part = msgspec.json.decode(content, type=_IndexPart)
    except msgspec.MsgspecError:
        return None
    return part.piece if part.format == FORMAT else None


class _IndexPart(msgspec.Struct):
    piece: Piece
    format: int = FORMAT
