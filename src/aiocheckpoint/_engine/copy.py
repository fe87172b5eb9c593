"""Reading a session in parts, to be saved in another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import NamedTuple

from aiocheckpoint._engine.bodies import BlobGraph, Session, VanishedError
from aiocheckpoint._engine.read import Reader
from aiocheckpoint._format import documents
from aiocheckpoint._format.blobs import blob_digests
from aiocheckpoint._format.codec import RecordT
from aiocheckpoint._format.documents import Body
from aiocheckpoint._format.names import FileName
from aiocheckpoint.errors import MissingBlobError
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


def require_intact(
    reader: Reader[RecordT], source_id: SessionId, target_id: SessionId
) -> AbstractSet[CheckpointId]:
    """
    Read all checkpoints of a session, and return their ids.

    Raises:
        CheckpointCorruptError: one is damaged.
    """
    session, files = reader.steadily(source_id, partial(_files, reader))
    graph = BlobGraph(reader.bodies, session.name, reads=True)
    for file in files.values() if source_id != target_id else ():
        with contextlib.suppress(VanishedError):  # what is gone need not be intact
            copied = _copied(reader, session, file, target_id)
            with _there(reader, session, file):
                graph.require(copied.digests)
    return files.keys()


def next_part(
    source_id: SessionId,
    target_id: SessionId,
    after: str,
    wanted: AbstractSet[CheckpointId],
    reader: Reader[RecordT],
) -> Part:
    """
    Return those of the checkpoints that are there, as many as make up some megabytes.

    Each comes with the blobs that the one before it does not lead to: those are there by then.

    Args:
        source_id: their session.
        target_id: where they go.
        after: name of the file that was copied last.
        wanted: no others, or a session to which somebody saves all the time would have no end.
        reader: of the root.
    """

    def read(session: Session) -> Part:
        session, files = _files(reader, session)
        graph = BlobGraph(reader.bodies, session.name, reads=False)
        there = _reached(reader, session, graph, session.known.by_text.get(after), target_id)
        part = Part(after, [])
        size = 0
        for file in (file for key, file in files.items() if key in wanted):
            try:
                copied = _copied(reader, session, file, target_id)
                with _there(reader, session, file):
                    needed = graph.reach(copied.digests)
                    blobs = reader.bodies.blobs(session.name, needed - there)
            except VanishedError:  # one that was replaced is found in its new place
                if not part.saves:
                    raise
                break
            part.saves.append(copied._replace(blobs=blobs))
            part = part._replace(last_name=file.text)
            there = needed
            size += len(copied.body.text) + sum(map(len, blobs.values()))
            if size >= _PART_BYTES or len(part.saves) >= _PART_COUNT:
                break
        return part

    return reader.steadily(source_id, read)


def _files(
    reader: Reader[RecordT], session: Session
) -> tuple[Session, dict[CheckpointId, FileName]]:
    """Return the files of a session by their ids, oldest first; of two with one id the newer."""
    session = session._replace(known=reader.view.confirmed(session.name, session.known))
    session.known.require_complete()
    newest: dict[CheckpointId, FileName] = {}
    for file in session.known.newest_first():
        newest.setdefault(reader.bodies.identify(session, file), file)
    return session, dict(reversed(newest.items()))


def _reached(
    reader: Reader[RecordT],
    session: Session,
    graph: BlobGraph,
    file: FileName | None,
    target_id: SessionId,
) -> set[str]:
    """Return the blobs that a checkpoint leads to; none where there is no such file any more."""
    if file is None:
        return set()
    copied = _copied(reader, session, file, target_id)
    with _there(reader, session, file):
        return graph.reach(copied.digests)


def _copied(
    reader: Reader[RecordT], session: Session, file: FileName, target_id: SessionId
) -> Copy:
    text = reader.bodies.own_text(session, file)
    draft = documents.with_session_id(text, target_id)
    digests = blob_digests(draft.text)
    return Copy(draft.checkpoint_id, documents.body_of(draft), digests, {})


@contextlib.contextmanager
def _there(reader: Reader[RecordT], session: Session, file: FileName) -> Iterator[None]:
    """
    Tell a blob that is missing from one that went with its checkpoint.

    Raises:
        VanishedError: the checkpoint is gone.
    """
    try:
        yield
    except MissingBlobError:
        if reader.bodies.is_gone(session.name, file.text):
            raise VanishedError from None
        raise
