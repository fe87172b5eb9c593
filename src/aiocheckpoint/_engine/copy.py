"""Reading a session in parts, to be saved in another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aiocheckpoint._engine.blob_graph import BlobGraph
from aiocheckpoint._engine.bodies import Session, VanishedError
from aiocheckpoint._engine.read import Reader
from aiocheckpoint._format import documents
from aiocheckpoint._format.blobs import blob_digests
from aiocheckpoint._format.codec import RecordT
from aiocheckpoint._format.documents import Body
from aiocheckpoint._format.names import FileName
from aiocheckpoint.errors import StorageError
from aiocheckpoint.models import CheckpointId, SessionId

_PART_BYTES = 4 << 20
_PART_COUNT = 256


class Copy(NamedTuple):
    """
    A checkpoint to be saved in another session.

    Attributes:
        checkpoint_id: as it was.
        body: of the other session.
        digests: the blobs it refers to.
        blobs: those blobs.
    """

    checkpoint_id: CheckpointId
    body: Body
    digests: tuple[str, ...]
    blobs: Mapping[str, bytes]


class Part(NamedTuple):
    """
    Some of the checkpoints of a session.

    Attributes:
        last_name: name of the last file among them.
        saves: the one saved first first.
    """

    last_name: str
    saves: list[Copy]


def require_intact(reader: Reader[RecordT], source_id: SessionId, target_id: SessionId) -> int:
    """
    Read all checkpoints of a session, and return how many there are.

    Raises:
        CheckpointCorruptError: one is damaged.
    """
    session, files = _files(reader, source_id)
    graph = BlobGraph(reader.bodies, session.name, reads=True)
    for file in files if source_id != target_id else ():
        graph.require(_copied(reader, session, file, target_id).digests)
    return len(files)


def next_part(
    source_id: SessionId, target_id: SessionId, after: str, reader: Reader[RecordT]
) -> Part:
    """
    Return the checkpoints behind a file, as many as make up some megabytes.

    Each comes with the blobs that the one before it does not lead to: those are there by then.
    """
    session, files = _files(reader, source_id)
    texts = [file.text for file in files]
    start = texts.index(after) + 1 if after in texts else sum(text <= after for text in texts)
    graph = BlobGraph(reader.bodies, session.name, reads=False)
    there: set[str] = set()
    if after in texts:
        there = graph.reach(_copied(reader, session, files[start - 1], target_id).digests)
    saves: list[Copy] = []
    size = 0
    last = after
    for file in files[start : start + _PART_COUNT]:
        copied = _copied(reader, session, file, target_id)
        needed = graph.reach(copied.digests)
        blobs = reader.bodies.blobs(session.name, needed - there)
        saves.append(copied._replace(blobs=blobs))
        there = needed
        last = file.text
        size += len(copied.body.text) + sum(map(len, blobs.values()))
        if size >= _PART_BYTES:
            break
    return Part(last, saves)


def _files(reader: Reader[RecordT], source_id: SessionId) -> tuple[Session, list[FileName]]:
    """Return the files of a session, oldest first; of two with one id the newer."""

    def read(session: Session) -> tuple[Session, list[FileName]]:
        session = session._replace(known=reader.view.confirmed(session.name, session.known))
        session.known.require_complete()
        newest: dict[CheckpointId, FileName] = {}
        for file in session.known.newest_first():
            newest.setdefault(reader.bodies.identify(session, file), file)
        return session, [*reversed(newest.values())]

    return reader.steadily(source_id, read)


def _copied(
    reader: Reader[RecordT], session: Session, file: FileName, target_id: SessionId
) -> Copy:
    try:
        text = reader.bodies.own_text(session, file)
    except VanishedError as error:
        path = reader.bodies.path(session.name, file.text)
        raise StorageError(
            "read", path, None, "it was deleted during the copy; copy again"
        ) from error
    draft = documents.with_session_id(text, target_id)
    digests = blob_digests(draft.text)
    return Copy(draft.checkpoint_id, documents.body_of(draft), digests, {})
