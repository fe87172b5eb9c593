"""A session as far as it is known, and as it will be; pure."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from aiocheckpoint.errors import (
    CheckpointCorruptError,
    MissingBlobError,
    OwnershipLostError,
    SessionChangedError,
)
from aiocheckpoint.kit import EncodedRecord, blob_links, reachable_blobs
from aiocheckpoint.models import ANY_NEWEST, CheckpointId, CheckpointMeta, Expected, SessionId
from aiocheckpoint.stores.s3.commits import Blob, Entry, Header, Owner, Piece, reached
from aiocheckpoint.stores.s3.layout import Layout

_STANDS_IN = (
    "it stands for a commit that cannot be read, which may have deleted or replaced older "
    "checkpoints; without it they would come back, and recover names them"
)


class Gone(NamedTuple):
    """
    What nothing refers to any more after a commit.

    Attributes:
        entries: checkpoints.
        blobs: digest to write id.
    """

    entries: tuple[Entry, ...]
    blobs: Mapping[str, str]


NOTHING_GONE = Gone((), {})


class Entries:
    """The checkpoints of a session, the one saved first first, and the blobs they lead to."""

    def __init__(self) -> None:
        self._by_id: dict[CheckpointId, Entry] = {}
        self._in_commit: Counter[int] = Counter()
        self._blobs: dict[str, Blob] = {}
        self._uses: Counter[str] = Counter()
        self._doubtful: set[str] = set()
        self._loose: dict[str, str] = {}
        self._unread: dict[CheckpointId, int] = {}
        self._erased: set[CheckpointId] = set()

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._by_id.values())

    def __reversed__(self) -> Iterator[Entry]:
        return reversed(self._by_id.values())

    def __contains__(self, checkpoint_id: CheckpointId) -> bool:
        return checkpoint_id in self._by_id

    def unread_after(self, entry: Entry) -> int | None:
        """Return the number of a later commit that cannot be read; None where there is none."""
        last = max(self._unread.values(), default=0)
        return last if entry.number < last else None

    @property
    def has_erased(self) -> bool:
        """Whether a commit that was not applied has deleted or replaced any of them."""
        return bool(self._erased)

    @property
    def blobs(self) -> Mapping[str, Blob]:
        """The blobs that checkpoints lead to, by their digests."""
        return self._blobs

    def get(self, checkpoint_id: CheckpointId) -> Entry | None:
        """Return a checkpoint's place; None when there is none."""
        return self._by_id.get(checkpoint_id)

    def alive_in(self, number: int) -> frozenset[CheckpointId]:
        """Return the ids of the checkpoints that stand in a commit."""
        if not self._in_commit[number]:
            return frozenset()
        return frozenset(entry.id for entry in self if entry.number == number)

    def reached(self, digests: Iterable[str]) -> Iterator[str]:
        """Return digests and all that those blobs lead to, each once."""
        return reached(digests, self._blobs)

    def apply(self, piece: Piece) -> list[Entry]:
        """Change what commits changed; return which checkpoints are gone."""
        for digest, blob in piece.blobs.items():
            self._add_blob(digest, blob)
        gone: list[Entry] = []
        replaced = [entry.id for entry in piece.puts]
        before = [*self._by_id] if piece.clears else piece.deletes
        for checkpoint_id in (*before, *replaced):
            entry = self._by_id.pop(checkpoint_id, None)
            self._unread.pop(checkpoint_id, None)
            self._erased.discard(checkpoint_id)
            if entry is not None:
                gone.append(entry)
                self._in_commit[entry.number] -= 1
                self._let_go(entry.blobs)
        for entry in piece.puts:
            self._by_id[entry.id] = entry
            if entry.problem is not None:
                self._unread[entry.id] = entry.number
            if entry.is_erased:
                self._erased.add(entry.id)
            self._in_commit[entry.number] += 1
            self._uses.update(entry.blobs)
        return gone

    def _add_blob(self, digest: str, blob: Blob) -> None:
        before = self._blobs.pop(digest, None)
        if before is None:  # what refers to what follows from the digest
            self._uses.update(blob.links)
        elif before.write_id != blob.write_id:  # it was damaged, and is given anew
            self._loose[digest] = before.write_id
        self._blobs[digest] = blob
        self._doubtful.add(digest)

    def _let_go(self, digests: Iterable[str]) -> None:
        self._uses.subtract(digests)
        self._doubtful.update(digests)

    def collect(self) -> dict[str, str]:
        """Forget the blobs that nothing leads to; return them: digest to write id."""
        loose, self._loose = self._loose, {}
        while self._doubtful:
            digest = self._doubtful.pop()
            if self._uses[digest] <= 0:
                del self._uses[digest]
                blob = self._blobs.pop(digest, None)
                if blob is not None:
                    loose[digest] = blob.write_id
                    self._let_go(blob.links)
        return loose


class Session:
    """
    What a client knows of a session: its newest commit, and perhaps every checkpoint.

    Attributes:
        session_id: the session.
        number: of the newest commit; 0 where there is none.
        write_id: of that.
        saved_at: not before that of any checkpoint.
        floor: no checkpoint stands in a commit below.
        newest: the newest checkpoint.
        token: the last one that an owner was given.
        owner: who owns it.
        entries: its checkpoints; None while they were not looked up.
    """

    def __init__(self, session_id: SessionId) -> None:
        self.session_id = session_id
        self.number = 0
        self.write_id = ""
        self.saved_at: datetime | None = None
        self.floor = 1
        self.newest: Entry | None = None
        self.token = 0
        self.owner: Owner | None = None
        self.entries: Entries | None = Entries()

    @property
    def is_empty(self) -> bool:
        """Whether all that was ever stored is gone."""
        return self.number > 0 and self.newest is None

    def apply(self, header: Header) -> Gone:
        """Go on by one commit; return what is gone, where the checkpoints are known."""
        gone = NOTHING_GONE
        if header.is_empty:
            if self.entries is not None:
                blobs = {digest: blob.write_id for digest, blob in self.entries.blobs.items()}
                gone = Gone(tuple(self.entries), blobs)
            self.entries = Entries()
        elif self.entries is not None:
            gone = Gone(tuple(self.entries.apply(header.piece)), self.entries.collect())
        self.number, self.write_id = header.number, header.write_id
        self.saved_at, self.floor = header.saved_at, max(self.floor, header.floor)
        self.newest = header.puts[-1] if header.puts else header.newest
        self.token, self.owner = header.token, header.owner
        return gone

    def start_at(self, header: Header) -> None:
        """Begin with a commit, whatever was known before."""
        self.entries = Entries() if header.floor == header.number else None
        self.floor = header.floor
        self.apply(header)


class StagedSave(NamedTuple):
    """
    A record to be stored.

    Attributes:
        record: the record.
        meta: what a listing says of it.
    """

    record: EncodedRecord
    meta: CheckpointMeta


class Staged:
    """
    A session as it will be after one more commit; changes are staged in their order.

    Args:
        session: as it is. Its checkpoints are to be known for whatever asks for them.
        layout: where things stand, for errors.
        lost_blobs: which blobs are to be put anew, if they are given: digest and write id.
    """

    def __init__(
        self, session: Session, layout: Layout, lost_blobs: AbstractSet[tuple[str, str]]
    ) -> None:
        self._session = session
        self._layout = layout
        self._lost_blobs = lost_blobs
        self._puts: dict[CheckpointId, StagedSave] = {}
        self._deletes: dict[CheckpointId, None] = {}
        self._blobs: dict[str, bytes] = {}
        self.token = session.token
        self.owner = session.owner
        self._is_owner_changed = False

    @property
    def is_nothing(self) -> bool:
        """Whether a commit of it would change nothing."""
        return not (self._puts or self._deletes or self._is_owner_changed)

    @property
    def _entries(self) -> Entries:
        assert self._session.entries is not None  # noqa: S101 - whoever calls has looked them up
        return self._session.entries

    def require_owner(self, token: int | None) -> None:
        """
        Refuse a write by a former owner.

        Raises:
            OwnershipLostError: the session has another owner, or none.
        """
        if token is not None and (self.owner is None or self.owner.token != token):
            raise OwnershipLostError(self._session.session_id, token)

    def set_owner(self, owner: Owner | None) -> None:
        """Give the session to an owner, or set it free."""
        self.owner = owner
        self.token = self.token if owner is None else owner.token
        self._is_owner_changed = True

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Stage all that the block stages, or nothing of it if it raises."""
        before = self._puts.copy(), self._deletes.copy(), self._blobs.copy()
        try:
            yield
        except BaseException:
            self._puts, self._deletes, self._blobs = before
            raise

    def newest_id(self) -> CheckpointId | None:
        """Return the id of what will be the newest checkpoint."""
        if self._puts:
            return next(reversed(self._puts))
        entry = self._newest_left()
        return None if entry is None else entry.id

    def _newest_left(self) -> Entry | None:
        """Return the newest of the checkpoints that were there and stay."""
        newest = self._session.newest
        if newest is None or not self._is_gone(newest.id):
            return newest
        return next(
            (entry for entry in reversed(self._entries) if not self._is_gone(entry.id)), None
        )

    def _is_gone(self, checkpoint_id: CheckpointId) -> bool:
        return checkpoint_id in self._deletes or checkpoint_id in self._puts

    def save(self, save: StagedSave, expected: Expected) -> CheckpointId:
        """
        Stage a save.

        Raises:
            SessionChangedError: another checkpoint is the newest.
            MissingBlobError: a blob is neither given nor there.
        """
        record = save.record
        if expected is not ANY_NEWEST and self.newest_id() != expected:
            raise SessionChangedError(record.session_id, self.newest_id())
        for digest in reachable_blobs(record.blob_digests, record.blobs):
            if digest not in record.blobs and not self._has_blob(digest):
                place = self._layout.location(self._layout.blobs_of(record.session_id))
                raise MissingBlobError(f"{place}{digest}", digest, "save")
        self._puts.pop(record.checkpoint_id, None)
        self._puts[record.checkpoint_id] = save
        self._blobs |= record.blobs
        return record.checkpoint_id

    def _has_blob(self, digest: str) -> bool:
        return digest in self._blobs or digest in self._entries.blobs

    def holds(self, entry: Entry) -> bool:
        """Tell whether a checkpoint is still what it was."""
        return self._entries.get(entry.id) == entry

    def delete(self, checkpoint_ids: Iterable[CheckpointId]) -> int:
        """
        Stage deletes that somebody asks for; return how many of them there were.

        Raises:
            CheckpointCorruptError: one stands for a commit that cannot be read, and without it
                nobody would know that older ones may be deleted or replaced.
        """
        wanted = dict.fromkeys(checkpoint_ids)
        session_id = self._session.session_id
        for entry in filter(None, map(self._entries.get, wanted)):
            if entry.problem is not None and self._has_older(entry, wanted):
                commit = self._layout.location(self._layout.commit(session_id, entry.number))
                raise CheckpointCorruptError(
                    commit, _STANDS_IN, session_id=session_id, checkpoint_id=entry.id
                )
        return self.drop(wanted)

    def _has_older(self, entry: Entry, besides: Iterable[CheckpointId]) -> bool:
        return any(
            older.number < entry.number and older.id not in besides and not self._is_gone(older.id)
            for older in self._entries
        )

    def drop(self, checkpoint_ids: Iterable[CheckpointId]) -> int:
        """Stage deletes, whatever there is; return how many of them there were."""
        count = 0
        for checkpoint_id in dict.fromkeys(checkpoint_ids):
            is_staged = self._puts.pop(checkpoint_id, None) is not None
            was_there = checkpoint_id in self._entries and checkpoint_id not in self._deletes
            if was_there:
                self._deletes[checkpoint_id] = None
            count += is_staged or was_there
        return count

    def clear(self) -> bool:
        """Stage the delete of everything; False when there is nothing."""
        everything = [entry.id for entry in self._entries]
        return bool(self.drop([*everything, *self._puts]))

    def keep(self, max_checkpoints: int) -> None:
        """Stage the deletes of the oldest ones above a number."""
        left = [entry.id for entry in self._entries if not self._is_gone(entry.id)]
        excess = len(left) + len(self._puts) - max_checkpoints
        if excess > 0:
            oldest = [*left, *self._puts][:excess]
            self.drop(oldest)

    def new_blobs(self) -> dict[str, bytes]:
        """Return the blobs that are to be put before the commit."""
        if not self._blobs:
            return {}
        named = {digest for save in self._puts.values() for digest in save.record.blob_digests}
        reached = {*reachable_blobs(named, self._blobs)}
        return {
            digest: content
            for digest, content in self._blobs.items()
            if digest in reached and not self._has_intact(digest)
        }

    def _has_intact(self, digest: str) -> bool:
        blob = self._entries.blobs.get(digest)
        return blob is not None and (digest, blob.write_id) not in self._lost_blobs

    def header(self, write_id: str, now: datetime) -> Header:
        """
        Return the header of the commit.

        Args:
            write_id: of the commit and of its new blobs.
            now: by the server's clock, as far as that is known.
        """
        session = self._session
        number = session.number + 1
        saved_at = session.saved_at
        entries: list[Entry] = []
        offset = 0
        for save in self._puts.values():
            saved_at = now if saved_at is None else max(now, saved_at + timedelta.resolution)
            entries.append(_entry(save, number, offset, saved_at))
            offset += len(save.record.body) + 1
        newest = None if entries else self._newest_left()
        return Header(
            session_id=session.session_id,
            number=number,
            write_id=write_id,
            previous=session.write_id,
            saved_at=saved_at or now,
            floor=self._floor(number, is_empty=not entries and newest is None),
            puts=tuple(entries),
            blobs={key: blob_links(content) for key, content in self.new_blobs().items()},
            deletes=() if not entries and newest is None else tuple(self._deletes),
            newest=newest,
            token=self.token,
            owner=self.owner,
        )

    def _floor(self, number: int, *, is_empty: bool) -> int:
        if is_empty:
            return number + 1
        if self._session.entries is None:
            return self._session.floor
        left = (entry.number for entry in self._entries if not self._is_gone(entry.id))
        blobs = (blob.number for blob in self._entries.blobs.values())
        return min(next(left, number), next(blobs, number))

    def bodies(self) -> list[bytes]:
        """Return the documents, in the order of the header."""
        return [save.record.body for save in self._puts.values()]


def _entry(save: StagedSave, number: int, offset: int, saved_at: datetime) -> Entry:
    return Entry(
        id=save.record.checkpoint_id,
        number=number,
        offset=offset,
        length=len(save.record.body),
        saved_at=saved_at,
        created_at=save.meta.created_at,
        trigger=save.meta.trigger,
        iteration=save.meta.iteration,
        checksum=save.record.checksum,
        blobs=save.record.blob_digests,
    )


def stand_in(session: Session, damaged: Header) -> Header:
    """Return a commit that cannot be read as one that changes nothing else of a session."""
    return msgspec.structs.replace(
        damaged,
        write_id=f"damaged-{damaged.number}",
        saved_at=max(session.saved_at or damaged.saved_at, damaged.saved_at),
        floor=session.floor,
        token=session.token,
        owner=session.owner,
    )
