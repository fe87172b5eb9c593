"""Changes as the server is told them, and what it answers; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Any, NamedTuple

from aiocheckpoint.errors import (
    CheckpointError,
    MissingBlobError,
    OwnershipLostError,
    SessionChangedError,
)
from aiocheckpoint.kit import EncodedRecord, blob_links
from aiocheckpoint.models import ANY_NEWEST, CheckpointId, CheckpointMeta, Expected, SessionId
from aiocheckpoint.stores.postgres.packing import Packed

APPLY = """
select aiocheckpoint.apply($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""

OUTCOMES = "select aiocheckpoint.outcomes($1, $2, $3)"
WAS_MADE = "AC001"
"""The error of `apply` for a commit that was made before, or given up."""

_SAVE, _DELETE, _DELETE_ALL = 1, 2, 3
_DONE, _CHANGED, _MISSING, _LOST, _BUSY, _BASELESS = range(6)
NOTHING_REMOVED = bytes([_DONE]) + b"0"
"""The outcome of a delete that has found nothing."""
_INT64 = range(-(2**63), 2**63)


class Save(NamedTuple):
    """
    A save.

    Attributes:
        record: what to store.
        meta: what a listing tells of it.
        expected: what has to be the newest.
    """

    record: EncodedRecord
    meta: CheckpointMeta
    expected: Expected = ANY_NEWEST


class Delete(NamedTuple):
    """
    A delete.

    Attributes:
        checkpoint_ids: of which; None for all that there are.
    """

    checkpoint_ids: tuple[CheckpointId, ...] | None


class Change(NamedTuple):
    """
    A change of one session, which is made as a whole or not at all.

    Attributes:
        session_id: the session.
        step: what to do.
        fence: the token of the owner who makes it; None where nobody has to own the session.
    """

    session_id: SessionId
    step: Save | Delete
    fence: int | None = None

    @property
    def may_find_nothing(self) -> bool:
        """Whether it is done where nothing is stored, as only what is there is to be removed."""
        return isinstance(self.step, Delete) and self.fence is None

    @property
    def size_bytes(self) -> int:
        """About how much the server is told."""
        if isinstance(self.step, Delete):
            return 100 * len(self.step.checkpoint_ids or ())
        record = self.step.record
        return len(record.body) + sum(map(len, record.blobs.values())) + 500


def created_at_of(meta: CheckpointMeta) -> datetime | None:
    """Return when a record says that it was made; None where the database has no such time."""
    try:
        created_at = meta.created_at.astimezone(UTC)
    except OverflowError:
        return None
    # The driver takes the first and the last time there is for infinities.
    return created_at if 1 < created_at.year < 9999 else None


def arguments(
    changes: Sequence[Change],
    bodies: Sequence[Packed | None],
    known: Callable[[SessionId], AbstractSet[str]] = lambda _: frozenset(),
) -> list[Any]:
    """
    Return what `apply` is told of changes, from its fifth argument on.

    Args:
        changes: at least one; those of each session behind one another, and the sessions in the
            order of their ids, in which all who change several lock them.
        bodies: what to store of each save; None for the others.
        known: tells the digests of the blobs of a session that are not sent.
    """
    numbers: list[int | None] = []
    texts: list[bytes | None] = []
    times: list[datetime | None] = []
    lists = _Lists()
    for change, body in zip(changes, bodies, strict=True):
        lists.add(change.step, known(change.session_id))
        row = _row(change.step, body)
        numbers += (row.kind, change.fence, *row.numbers, *lists.ends)
        texts += (change.session_id.encode(), *row.texts)
        times.append(row.created_at)
    return [
        numbers, texts, times,
        lists.names, lists.digests, lists.contents, lists.links, lists.links_end,
    ]  # fmt: skip


class _Lists:
    """What changes have several of, one after the other."""

    def __init__(self) -> None:
        self.names: list[bytes] = []
        self.digests: list[bytes] = []
        self.contents: list[bytes] = []
        self.links: list[bytes] = []
        self.links_end: list[int] = []  # of each blob

    @property
    def ends(self) -> tuple[int, int]:
        """Where those of the last change end."""
        return len(self.names), len(self.digests)

    def add(self, step: Save | Delete, known: AbstractSet[str]) -> None:
        """Add those of a change, but for the blobs that are known."""
        if isinstance(step, Delete):
            self.names += [name.encode() for name in step.checkpoint_ids or ()]
            return
        self.names += map(bytes.fromhex, step.record.blob_digests)
        for digest, content in step.record.blobs.items():
            if digest in known:
                continue
            self.digests.append(bytes.fromhex(digest))
            self.contents.append(content)
            self.links += map(bytes.fromhex, dict.fromkeys(blob_links(content)))
            self.links_end.append(len(self.links))


class _Row(NamedTuple):
    """
    A change, but for what it has several of.

    Attributes:
        kind: of change.
        numbers: what is expected, the iteration, the place of the base.
        texts: what is expected, the id, the trigger, the checksum, the content and its SHA-256,
            and the chain of the base.
        created_at: of the record.
    """

    kind: int
    numbers: tuple[int | None, ...]
    texts: tuple[bytes | None, ...]
    created_at: datetime | None


def _row(step: Save | Delete, body: Packed | None) -> _Row:
    if isinstance(step, Delete) or body is None:
        kind = _DELETE_ALL if step == Delete(None) else _DELETE
        return _Row(kind, (0, None, None), (None,) * 7, None)
    record, meta, base = step.record, step.meta, body.base
    expects, expected = 0, None
    if isinstance(step.expected, str):
        expects, expected = 1, step.expected.encode()
    elif step.expected is None:
        expects = 2
    iteration = meta.iteration if meta.iteration in _INT64 else None
    return _Row(
        _SAVE,
        (expects, iteration, None if base is None else base.seq),
        (
            expected,
            record.checkpoint_id.encode(),
            meta.trigger.encode(),
            bytes.fromhex(record.checksum),
            body.content,
            body.sha256,
            None if base is None else base.chain,
        ),
        created_at_of(meta),
    )


def is_baseless(outcome: bytes) -> bool:
    """Tell whether what a body was packed against is not there, and nothing was done."""
    return outcome[0] == _BASELESS


def is_repeatable(change: Change, outcome: bytes) -> bool:
    """Tell whether nothing was done as something was not sent that it needs, and can be sent."""
    if is_baseless(outcome):
        return True
    if outcome[0] != _MISSING or not isinstance(change.step, Save):
        return False
    return outcome[1:].hex() in change.step.record.blobs


def seq_of(outcome: bytes) -> int | None:
    """Return the place of a save that was made; None of one that was not."""
    return int(outcome[1:]) if outcome[0] == _DONE else None


def is_busy(outcome: bytes) -> bool:
    """Tell whether somebody else holds the session, and nothing was done."""
    return outcome[0] == _BUSY


def result_of(
    change: Change, outcome: bytes, location_of: Callable[[SessionId], str]
) -> int | CheckpointError:
    """
    Return the place of a save, how many checkpoints were removed, or why it was refused.

    Args:
        change: what was to be done.
        outcome: what the server answers.
        location_of: tells that of a session.
    """
    code, rest = outcome[0], outcome[1:]
    if code == _CHANGED:
        newest_id = rest[1:].decode() if rest[0] else None
        return SessionChangedError(change.session_id, newest_id)
    if code == _MISSING:
        location = f"{location_of(change.session_id)}/blobs/{rest.hex()}"
        return MissingBlobError(location, rest.hex(), "save")
    if code == _LOST:
        return OwnershipLostError(change.session_id, change.fence or 0)
    return int(rest or b"0")
