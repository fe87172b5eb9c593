"""
What a store of your own needs: records to bytes and back, listing entries, argument checks.

A store that is written with it, and with `aiocheckpoint.testing` for its tests, refuses what every
store refuses, by the same errors, and stores documents that every store can read. It decides
where bytes go; what they are is decided here, without I/O or a thread. `SessionTurns` keeps what
`update` and `own` promise within a process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, cast

from msgspec import structs

from aiocheckpoint._arguments import (
    checkpoint_ids_of,
    digests_of,
    frozen_blobs,
    listed,
    require_callable,
    require_choice,
    require_count,
    require_expected,
    require_instance,
    require_query,
    require_seconds,
    require_session,
    result_at_once,
    result_of,
    session_ids_of,
    triggers_of,
)
from aiocheckpoint._closing import AsyncClosing
from aiocheckpoint._copied_errors import kept, own_copy
from aiocheckpoint._format import documents
from aiocheckpoint._format.blobs import (
    blob_digest,
    blob_digests,
    blob_links,
    reachable_blobs,
    require_digest,
    require_digests,
    verified_blob,
)
from aiocheckpoint._format.codec import Codec, RecordT, codec_of
from aiocheckpoint._format.ids import decode_id, encode_id, find_session_id
from aiocheckpoint._format.listing import parse_meta
from aiocheckpoint._frameworks import Framework, framework_of
from aiocheckpoint._locations import (
    Location,
    ServerUrl,
    location_of,
    require_no_stray_ends,
    server_url,
)
from aiocheckpoint._patience import Patience, ended, outlast
from aiocheckpoint._staging import Staging
from aiocheckpoint._turns import SessionTurns, Turns
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointTooLargeError,
)
from aiocheckpoint.models import (
    ANY_NEWEST,
    BlobRecord,
    CheckpointId,
    CheckpointMeta,
    CheckpointRecord,
    Expected,
    SessionId,
)
from aiocheckpoint.store import (
    NO_BLOBS,
    Finds,
    LookAhead,
    LooksAhead,
    Marks,
    ReadBlocking,
    Reads,
    RecordUnion,
    Transaction,
)

__all__ = (
    "AsyncClosing",
    "EncodedRecord",
    "Finds",
    "Framework",
    "Location",
    "LookAhead",
    "LooksAhead",
    "Marks",
    "OwnedSession",
    "Patience",
    "ReadBlocking",
    "Reads",
    "RecordKit",
    "RecordT",
    "ServerUrl",
    "SessionTurns",
    "StagedChanges",
    "StagedDelete",
    "StagedSave",
    "Turns",
    "blob_digest",
    "blob_links",
    "check_checkpoint_id",
    "check_session_id",
    "checkpoint_ids_of",
    "decode_id",
    "digests_of",
    "encode_id",
    "ended",
    "find_session_id",
    "framework_of",
    "kept",
    "listed",
    "location_of",
    "outlast",
    "own_copy",
    "raise_all",
    "reachable_blobs",
    "require_callable",
    "require_choice",
    "require_count",
    "require_expected",
    "require_instance",
    "require_no_stray_ends",
    "require_query",
    "require_seconds",
    "result_at_once",
    "result_of",
    "server_url",
    "session_ids_of",
    "sorted_ids",
    "token_of",
    "triggers_of",
    "verified_blob",
)

ResultT = TypeVar("ResultT")


class EncodedRecord(NamedTuple):
    """
    A record that may be stored, as bytes; independent of the record from now on.

    Attributes:
        session_id: of the record.
        checkpoint_id: of the record.
        body: what to store: a sealed JSON document, which holds its own SHA-256.
        checksum: that SHA-256, 64 lower-case hex digits; what `CheckpointMeta.checksum` says.
        blob_digests: the blobs that the record names; empty for one that is no `BlobRecord`. What
            those lead to, by `blob_links`, has to be there too, and to stay.
        blobs: those of all these that were given, by their digests; each is what its digest says.
        listed: what `RecordKit.entry` and `meta` need of the body, which may be a large one.
    """

    session_id: SessionId
    checkpoint_id: CheckpointId
    body: bytes
    checksum: str
    blob_digests: tuple[str, ...]
    blobs: Mapping[str, bytes]
    listed: bytes

    def require_session(self, session_id: SessionId) -> None:
        """
        Refuse a record that is not of this session.

        Raises:
            InvalidArgumentError: it is of another one.
        """
        require_session(self.session_id, session_id)


class RecordKit(Generic[RecordT]):
    """
    Turns records of a store into bytes and back.

    Args:
        record_type: the Struct to store, extending `CheckpointRecord`, or a union of several.
        max_bytes: of one document, and of one blob.

    Attributes:
        max_bytes: the same.

    Raises:
        RecordTypeError: a type that cannot be stored.
        InvalidArgumentError: `max_bytes` is no whole number above 0.
    """

    def __init__(self, record_type: type[RecordT] | RecordUnion, max_bytes: int) -> None:
        require_count("max_bytes", max_bytes, 1)
        self._codec: Codec[RecordT] = codec_of(record_type)
        self.max_bytes = max_bytes

    @property
    def record_type(self) -> type[RecordT] | RecordUnion:
        """The type of the records, or the union of their types."""
        return cast("type[RecordT] | RecordUnion", self._codec.record_type)

    def encode(self, data: RecordT, blobs: Mapping[str, bytes] = NO_BLOBS) -> EncodedRecord:
        """
        Check and encode a record, and the blobs that are given with it.

        Call it before the first `await` of a save, so that the caller may change `data` afterwards.

        Raises:
            RecordTypeError: not a record of this very type.
            CheckpointEncodeError: a value that would not come back as it is; names its path.
            InvalidIdError: an id that is not a str, or holds a lone surrogate.
            InvalidArgumentError: `blobs` has one that neither `data` nor a `BlobNode` among them
                names.
            CheckpointTooLargeError: the document, or a blob, is over `max_bytes`.

        Cost: one encode, a check that takes about twice as long, and two SHA-256.
        """
        if isinstance(data, CheckpointRecord):
            check_checkpoint_id(data.checkpoint_id)
            check_session_id(data.session_id)
        draft = self._codec.draft(data)
        digests = data.blob_digests if isinstance(data, BlobRecord) else ()
        require_digests(digests)
        given = frozen_blobs(blobs, digests)
        for digest, content in given.items():
            require_digest(digest, content)
            self.require_size(f"blob {digest}", len(content))
        return self._encoded(draft, digests, given)

    def _encoded(
        self, draft: documents.Draft, digests: tuple[str, ...], blobs: Mapping[str, bytes]
    ) -> EncodedRecord:
        text, _, checksum = documents.body_of(draft)
        body = documents.sealed(text, checksum)
        self.require_size(f"checkpoint {draft.checkpoint_id!r}", len(body))
        listed = documents.listed_of(draft, checksum)
        return EncodedRecord(
            draft.session_id, draft.checkpoint_id, body, checksum.hex(), digests, blobs, listed
        )

    def copied(
        self,
        body: bytes,
        location: str,
        session_id: SessionId,
        checkpoint_id: CheckpointId,
        target_id: SessionId,
    ) -> EncodedRecord:
        """
        Return what is to be stored as the copy of a body in another session, of whatever type.

        Of a record of another type, or of an earlier one, nothing is lost that this type lacks.

        Args:
            body: what was stored.
            location: where, for errors; without credentials.
            session_id: the session it was stored under.
            checkpoint_id: the id it was stored under.
            target_id: the other session.

        Returns:
            the copy, without the blobs that it leads to: give them by `_replace(blobs=...)`.

        Raises:
            CheckpointCorruptError: it is damaged.
            CheckpointMismatchError: it is intact, and of another session or id.
            FormatVersionError: it has another format version.
            CheckpointTooLargeError: it is over `max_bytes`.
        """
        text = self._verified(body, location, session_id, checkpoint_id)
        draft = documents.with_session_id(text, target_id)
        return self._encoded(draft, blob_digests(draft.text), NO_BLOBS)

    def require_size(self, location: str, size_bytes: int) -> None:
        """
        Refuse a document or a blob over `max_bytes`, also before it is read.

        Raises:
            CheckpointTooLargeError: it is.
        """
        if size_bytes > self.max_bytes:
            raise CheckpointTooLargeError(location, size_bytes, self.max_bytes)

    def decode(
        self, body: bytes, location: str, session_id: SessionId, checkpoint_id: CheckpointId
    ) -> RecordT:
        """
        Return the record in a body, verified.

        Args:
            body: what was stored.
            location: where, for errors; without credentials.
            session_id: the session it was stored under.
            checkpoint_id: the id it was stored under.

        Raises:
            CheckpointCorruptError: it is damaged.
            CheckpointMismatchError: it is intact, and of another session or id.
            CheckpointDecodeError: it is intact, and no record of this type.
            FormatVersionError: it has another format version.
            CheckpointTooLargeError: it is over `max_bytes`.
        """
        text = self._verified(body, location, session_id, checkpoint_id)
        return self._codec.decode(text, location)

    def _verified(
        self, body: bytes, location: str, session_id: SessionId, checkpoint_id: CheckpointId
    ) -> bytes:
        self.require_size(location, len(body))
        try:
            text = documents.verified(body, location)
            found = documents.identity(text, location)
        except CheckpointCorruptError as error:
            error.session_id, error.checkpoint_id = session_id, checkpoint_id
            raise
        if (found.session_id, found.checkpoint_id) != (session_id, checkpoint_id):
            raise CheckpointMismatchError(
                location, (found.session_id, found.checkpoint_id), (session_id, checkpoint_id)
            )
        return text

    def is_intact(self, body: bytes, location: str) -> bool:
        """
        Tell whether a body is a checkpoint of any type, undamaged; what `verify` returns.

        Args:
            body: what was stored.
            location: where: a URL without credentials.

        Raises:
            FormatVersionError: it has another format version, and its checksum is not right.
            CheckpointTooLargeError: it is over `max_bytes`, and neither is told.
        """
        self.require_size(location, len(body))
        try:
            documents.verified(body, location, of_any_version=True)
        except CheckpointCorruptError:
            return False
        return True

    def meta(
        self, body: bytes, location: str, saved_at: datetime, path: Path | None = None
    ) -> CheckpointMeta | None:
        """
        Return the listing entry of a body, without verifying it; None where it tells nothing.

        Args:
            body: what was stored, or `EncodedRecord.listed`.
            location: where: a URL without credentials.
            saved_at: when, by the clock of the store.
            path: the file, if it is one.
        """
        return parse_meta(body, location, saved_at, path)

    def entry(
        self,
        body: bytes,
        location: str,
        saved_at: datetime,
        session_id: SessionId,
        checkpoint_id: CheckpointId,
    ) -> CheckpointMeta:
        """
        Return what `list` tells of a body, whatever is in it: with its `problem` where one shows.

        Args:
            body: what was stored, or `EncodedRecord.listed`.
            location: where: a URL without credentials.
            saved_at: when, by the clock of the store.
            session_id: the session it was stored under.
            checkpoint_id: the id it was stored under.
        """
        meta = parse_meta(body, location, saved_at)
        error: CheckpointError
        if meta is None:
            error = CheckpointCorruptError(location, "it is no checkpoint, or only a part of one")
        elif (meta.session_id, meta.checkpoint_id) != (session_id, checkpoint_id):
            found = (meta.session_id, meta.checkpoint_id)
            error = CheckpointMismatchError(location, found, (session_id, checkpoint_id))
        elif len(body) > self.max_bytes:
            error = CheckpointTooLargeError(location, len(body), self.max_bytes)
            return structs.replace(meta, problem=str(error))
        else:
            return meta
        return CheckpointMeta(
            checkpoint_id=checkpoint_id,
            session_id=session_id,
            created_at=saved_at,
            saved_at=saved_at,
            trigger="",
            iteration=0,
            checksum="",
            location=location,
            problem=str(error),
        )

    def blob(self, content: bytes, digest: str, location: str) -> bytes:
        """
        Return the content of a blob after checking it against its digest.

        Raises:
            CheckpointCorruptError: it is something else.
            CheckpointTooLargeError: it is over `max_bytes`.
        """
        self.require_size(location, len(content))
        return verified_blob(content, digest, location)


class StagedSave(NamedTuple):
    """
    A save that is staged.

    Attributes:
        record: what is saved.
        erases: whether the id was deleted first: what the save replaces is erased as by a delete.
    """

    record: EncodedRecord
    erases: bool = False


class StagedDelete(NamedTuple):
    """A delete that is staged: of these ids, or of all that there are by then for None."""

    checkpoint_ids: tuple[CheckpointId, ...] | None


class StagedChanges(Generic[RecordT]):
    """
    The half of a `Transaction` that stages; a store adds the reads.

    Each read begins with `require_running`.

    Args:
        kit: of the store.
        session_id: the session.
    """

    def __init__(self, kit: RecordKit[RecordT], session_id: SessionId) -> None:
        self._kit = kit
        self._session_id = session_id
        self._staging: Staging[EncodedRecord] = Staging()

    @property
    def session_id(self) -> SessionId:
        """The session."""
        return self._session_id

    def save(self, data: RecordT, /, *, blobs: Mapping[str, bytes] = NO_BLOBS) -> CheckpointId:
        """
        Stage a save; checked and encoded at once.

        Raises:
            InvalidArgumentError: a record of another session.
            WriterClosedError: the update is over.
            CheckpointError: what `RecordKit.encode` refuses.
        """
        self.require_running()
        record = self._kit.encode(data, blobs)
        record.require_session(self._session_id)
        self._staging.save(record.checkpoint_id, record, record.blob_digests, record.blobs)
        return record.checkpoint_id

    def delete(self, *checkpoint_ids: CheckpointId) -> None:
        """Stage deletes; of ids that are not there nothing comes."""
        self.require_running()
        self._staging.delete(checkpoint_ids_of(checkpoint_ids))

    def delete_session(self) -> None:
        """Stage the delete of all that the session has, but for what is staged after it."""
        self.require_running()
        self._staging.delete_all()

    def require_running(self) -> None:
        """
        Refuse a call that comes too late.

        Raises:
            WriterClosedError: the update is over.
        """
        self._staging.require_running()

    def end(self) -> tuple[StagedSave | StagedDelete, ...]:
        """
        Return what was staged; from then on nothing can be.

        Returns:
            what it comes to, to be made as a whole in this order: at most one delete, then saves,
            each of another id. Each blob that was given is with the first save that leads to it.
            What a record leads to may also have been there before the delete, so collect blobs,
            and keep what a session may have at most, when all is done.
        """
        deletes, saves, erased = self._staging.end()
        staged: list[StagedSave | StagedDelete] = []
        if deletes is None or deletes:
            staged.append(StagedDelete(deletes))
        staged += [
            StagedSave(record._replace(blobs=blobs), erases=record.checkpoint_id in erased)
            for record, blobs in saves
        ]
        return tuple(staged)


class OwnedSession(Generic[RecordT]):
    """
    An `Ownership`: the hold on a session that `own` yields.

    Each of its calls hands itself to the store, which makes the change only if the token is still
    that of the owner.

    Args:
        session_id: the session.
        token: greater than that of every owner before.
        save: saves data, with blobs and what is expected, for an owner.
        delete: deletes ids of a session, for an owner.
        update: updates a session by some work, for an owner.
    """

    def __init__(
        self,
        session_id: SessionId,
        token: int,
        *,
        save: Callable[
            [RecordT, Mapping[str, bytes], Expected, OwnedSession[RecordT]], Awaitable[CheckpointId]
        ],
        delete: Callable[
            [SessionId, tuple[CheckpointId, ...], OwnedSession[RecordT]], Awaitable[int]
        ],
        update: Callable[
            [SessionId, Callable[..., Awaitable[Any]], OwnedSession[RecordT]], Awaitable[Any]
        ],
    ) -> None:
        self._session_id = session_id
        self._token = token
        self._save = save
        self._delete = delete
        self._update = update

    @property
    def session_id(self) -> SessionId:
        """The session."""
        return self._session_id

    @property
    def token(self) -> int:
        """Greater than that of every owner of the session before."""
        return self._token

    async def save(
        self,
        data: RecordT,
        /,
        *,
        blobs: Mapping[str, bytes] = NO_BLOBS,
        expected: Expected = ANY_NEWEST,
    ) -> CheckpointId:
        """Save as the store does, if the session is still owned."""
        return await self._save(data, blobs, expected, self)

    async def delete_many(self, checkpoint_ids: Iterable[CheckpointId], /) -> int:
        """Delete as the store does, if the session is still owned."""
        return await self._delete(self._session_id, checkpoint_ids_of(checkpoint_ids), self)

    async def update(
        self, work: Callable[[Transaction[RecordT]], Awaitable[ResultT]], /
    ) -> ResultT:
        """Update as the store does, if the session is still owned when it commits."""
        result: ResultT = await self._update(self._session_id, work, self)
        return result


def token_of(owner: OwnedSession[Any] | None) -> int | None:
    """Return the token that a change is bound to; None for one that nobody owns."""
    return None if owner is None else owner.token


def check_session_id(session_id: SessionId) -> None:
    """
    Refuse an id that no session can have.

    Raises:
        InvalidIdError: not a str, or it holds a lone surrogate.
    """
    encode_id(session_id, "session id")


def check_checkpoint_id(checkpoint_id: CheckpointId) -> None:
    """
    Refuse an id that no checkpoint can have.

    Raises:
        InvalidIdError: not a str, or it holds a lone surrogate.
    """
    encode_id(checkpoint_id, "checkpoint id")


def sorted_ids(ids: Iterable[CheckpointId]) -> list[CheckpointId]:
    """Return ids as `ids` orders them: the greatest first, by code points."""
    return sorted(ids, reverse=True)


def raise_all(errors: Iterable[CheckpointError], listed: object = None) -> None:
    """
    Raise the first of some errors, if there is one, with the rest in `others` and its notes.

    Args:
        errors: of a call about many, as `load_newest`; each may be one that this has raised.
        listed: what the call would have returned without them.

    Raises:
        CheckpointError: the first.
    """
    all_errors = [it for error in errors for it in (error, *error.others)]
    for first in all_errors:
        first.others = tuple(all_errors[1:])
        first.__notes__ = [str(other) for other in first.others]
        first.listed = listed
        raise first
