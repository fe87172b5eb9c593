"""The records that are stored and the facts that are reported about them."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from random import Random
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

import msgspec.inspect
from msgspec import Meta, Struct, field
from msgspec.inspect import AnyType, DictType, ListType, NoneType, StrType, UnionType
from msgspec.structs import replace

SessionId: TypeAlias = str
"""Any text a user has: `"support-42"`, an e-mail address, even `""`."""

CheckpointId: TypeAlias = str
"""Names one checkpoint within its session; generated ids are 28 lower-case hex digits."""

Durability: TypeAlias = Literal["journal", "file", "none"]
"""When a save returns: synced in the journal, its file synced, or merely written."""


class AnyNewest(Enum):
    """The type of `ANY_NEWEST`."""

    ANY_NEWEST = "ANY_NEWEST"


ANY_NEWEST: Final = AnyNewest.ANY_NEWEST
"""What `save` expects where nothing is said: any checkpoint may be the newest."""

Expected: TypeAlias = CheckpointId | AnyNewest | None
"""What `save` expects: an id that must be the newest, None for an empty session, or anything."""

JsonValue: TypeAlias = Any
"""None, bool, int, float, str, list of or dict from str to JSON values."""

AwareDatetime: TypeAlias = Annotated[datetime, Meta(tz=True)]
Int32: TypeAlias = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Int64: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


# Seeded by the system once. Asking it for each id would let go of the GIL on the event loop.
_random = Random(secrets.randbits(256))  # noqa: S311 - ids are not secrets


def reseed_ids() -> None:
    """Make the ids of a forked process differ from its parent's."""
    _random.seed(secrets.randbits(256))


def new_checkpoint_id() -> CheckpointId:
    """
    Return a fresh id: 28 lower-case hex digits, 112 random bits, no underscore.

    An underscore would make file names ambiguous beside those the Rust crate writes (see
    `names`). With more digits than 28, a file's name would exceed the 59 bytes that ext4
    keeps of a symlink's target without giving it a block of its own.
    """
    return f"{_random.getrandbits(112):028x}"


def utc_now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


class CheckpointRecord(Struct, kw_only=True):
    """
    What every stored record has; extend it to store records of your own.

    ```python
    class GameState(CheckpointRecord):
        level: int
        inventory: list[str] = []
    ```

    Attributes:
        session_id: the session it belongs to.
        checkpoint_id: unique within the session; saving an id again replaces it.
        created_at: aware time, the application's; what is stored goes by the time of saving.
    """

    session_id: SessionId
    checkpoint_id: CheckpointId = field(default_factory=new_checkpoint_id)
    created_at: AwareDatetime = field(default_factory=utc_now)

    def next(self, **changes: Any) -> Self:
        """
        Return the record of the next step: a new id, a new time, and what else is changed.

        ```python
        state = CheckpointData(session_id="support-42")
        state = state.next(iteration=state.iteration + 1, messages=[*state.messages, "hello"])
        ```

        A record that is saved again as it is, or changed in place, replaces the one of its id.

        Args:
            **changes: fields by their names; the others stay as they are, lists and dicts
                without being copied.

        Raises:
            TypeError: a field that the record does not have.
        """
        fresh = {"checkpoint_id": new_checkpoint_id(), "created_at": utc_now()}
        return replace(self, **fresh | changes)

    def __repr__(self) -> str:
        """Return the record with what names it first; msgspec puts inherited fields last."""
        first = CheckpointRecord.__struct_fields__
        names = dict.fromkeys((*first, *self.__struct_fields__))
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({fields})"


class CheckpointData(CheckpointRecord):
    """
    An agent's state after a step, field for field the Rust crate's `CheckpointData`.

    Attributes:
        trigger: why it was saved, as `"manual"` or `"tool_result"`.
        iteration: the agent's step, 32-bit.
        messages: the conversation, JSON values.
        tool_calls_pending: calls asked for and not answered, JSON values.
        tool_results: a JSON value.
        tokens_used: 64-bit.
        cost_estimate: in the currency of the application.
        resume_hint: a note for whoever resumes.
    """

    trigger: str = "manual"
    iteration: Int32 = 0
    messages: list[JsonValue] = []
    tool_calls_pending: list[JsonValue] = []
    tool_results: JsonValue = None
    tokens_used: Int64 = 0
    cost_estimate: float = 0.0
    resume_hint: str | None = None


class BlobRecord(CheckpointRecord, kw_only=True):
    """
    A record that refers to blobs; extend it to store large values outside of the records.

    A blob is some bytes, named by their SHA-256 and stored once in a session, however many of
    its records refer to it. It goes when no record refers to it any more.

    Attributes:
        blob_digests: the SHA-256 of each blob, 64 lower-case hex digits, none twice.
    """

    blob_digests: tuple[str, ...] = ()


class RawRecord(BlobRecord, kw_only=True):
    """
    A checkpoint of whatever type, its document as it is; for copies and tools, not for agents.

    A store that is opened with `record_type=RawRecord` loads any of its checkpoints so, and what is
    saved so has the same document and the same checksum elsewhere.

    Attributes:
        document: the checkpoint as compact JSON, without its seal; it says the ids and the blobs
            that the record says.
    """

    document: bytes = b""


class CheckpointMeta(Struct, frozen=True, kw_only=True):
    """
    One line of `list`: the crate's `CheckpointMeta`, and where it is stored.

    Attributes:
        checkpoint_id: unique within the session.
        session_id: the session.
        created_at: aware time from the body; a file's nanoseconds are rounded to microseconds.
        saved_at: when it was stored, by the clock of the store and never before the one that was
            stored before it; what retention goes by. Of a file of Rust's, the end of the second.
        trigger: `""` for records that have none.
        iteration: 0 for records that have none.
        checksum: the SHA-256 the file claims, 64 lower-case hex digits; `""` where it is not known.
        location: where it is stored, as a URL without credentials.
        path: its file, for `verify`, an editor or a copy; None in a store that has no files.
        problem: why `load` refuses it, where a listing notices; the other fields are then told
            from the file's name as far as that goes. None does not say that it is intact.
    """

    checkpoint_id: CheckpointId
    session_id: SessionId
    created_at: datetime
    saved_at: datetime
    trigger: str
    iteration: int
    checksum: str
    location: str
    path: Path | None = None
    problem: str | None = None


FindingKind: TypeAlias = Literal[
    "damaged",
    "damaged-journal",
    "unreadable",
    "other-version",
    "misplaced",
    "leftover",
    "dangling-pointer",
    "stale-pointer",
    "unflushed-journal",
    "unwritten-session",
    "missing-blob",
    "unused-blob",
    "given-up-journal",
    "lost-id",
    "busy-journal",
]

_DAMAGE = frozenset(
    {"damaged", "damaged-journal", "unreadable", "misplaced", "missing-blob", "lost-id"}
)


class Finding(Struct, frozen=True, kw_only=True):
    """
    Something `check` found.

    Attributes:
        kind: `damaged` (checksum, digest or JSON wrong), `damaged-journal` (a part of the journal;
            sessions that may lack changes for it raise), `unreadable` (not a regular file, over the
            size limit, or refused by the system; may be a whole directory), `other-version`
            (intact, and of another format version; no damage), `misplaced` (intact, but of another
            session or id), `leftover` (temporary file of a save that never ended),
            `dangling-pointer` (`latest.json` names a file that was deleted by something else, or
            missed by a copy), `stale-pointer` (it names a file that is not the newest, or is a
            file itself, and no copy of the newest),
            `unflushed-journal` (a process died, and its last saves are in the journal and not in
            files yet; no damage), `unwritten-session` (saves of a session load from the journal,
            since its files could not be written when some process tried; no damage),
            `missing-blob` (a checkpoint refers to a blob that is not there), `unused-blob` (no
            checkpoint refers to it; a crash left it, and a later delete removes it),
            `given-up-journal` (sessions went on without a part of the journal that could not be
            read, and it is kept; no damage any more), `lost-id` (a session whose id nobody can
            tell: its name is a digest, and nothing in it is intact), `busy-journal` (another
            process kept its lock for all of `lock_timeout_seconds`, as one does that is stopped:
            what was saved last may not have been looked at, so nobody knows whether it is damaged;
            check again).
        location: where, as a URL without credentials.
        detail: one sentence.
        path: the file or directory; None in a store that has no files.
        session_id: the session it was found in, None where that is unknown.
    """

    kind: FindingKind
    location: str
    detail: str
    path: Path | None = None
    session_id: SessionId | None = None

    @property
    def is_damage(self) -> bool:
        """
        Whether something is lost or cannot be read, by any version.

        All else does no harm; of `busy-journal` that is not known.
        """
        return self.kind in _DAMAGE


class RecoveryReport(Struct, frozen=True, kw_only=True):
    """
    What `recover` did.

    Attributes:
        session_id: the session.
        newest_valid_id: the newest checkpoint from now on; None if nothing intact is left.
        quarantined: where what was damaged or misplaced is now, in the order found: paths of a
            local store, of another one URLs without credentials.
        uncertain_ids: checkpoints that are intact and kept, and that something damaged may have
            deleted or replaced, which nobody can tell any more: look at them, and delete those that
            should not be there. Always empty but in a bucket.
        given_up: where copies are kept of the damaged parts of the journal without which the
            session goes on from now on: nobody can tell which changes they held, so what was
            saved last may be missing, and `newest_valid_id` older than that. The other sessions
            are refused until they are recovered, too. Always empty in stores without a journal
            that sessions share.
    """

    session_id: SessionId
    newest_valid_id: CheckpointId | None
    quarantined: tuple[str, ...]
    uncertain_ids: tuple[CheckpointId, ...] = ()
    given_up: tuple[str, ...] = ()


class WriterStats(Struct, frozen=True, kw_only=True):
    """
    How a writer is doing; the counts are since it was made.

    Attributes:
        reads: how many reads were begun, or wait.
        changes: how many saves, deletes and other changes were decided.
        commits: how many commits that took: changes that wait at the same time share one.
        waiting: how many changes wait to be committed.
        unflushed_changes: how many changes of the directory, as far as this writer knows them,
            are durable in the journal alone: checkpoints without a file, and removals.
        unflushed_bytes: how much of the journal they take; saves wait at `max_journal_bytes`.
        lag_seconds: how long ago the oldest of those was saved; 0.0 where all have their files.
        files_error: why files cannot be written, which is tried again; None while they can.
    """

    reads: int
    changes: int
    commits: int
    waiting: int
    unflushed_changes: int
    unflushed_bytes: int
    lag_seconds: float
    files_error: str | None


def is_json_type(annotation: object) -> bool:
    """Tell whether a field annotated so holds JSON values that no type will restore."""
    return _is_json_info(msgspec.inspect.type_info(annotation))


def _is_json_info(info: msgspec.inspect.Type) -> bool:
    match info:
        case AnyType() | NoneType():
            return True
        case UnionType(types=types):
            return all(map(_is_json_info, types))
        case ListType(item_type=item) | DictType(key_type=StrType() | AnyType(), value_type=item):
            return _is_json_info(item)
        case _:
            return False
