"""What callers ask to be changed, as it waits for its commit; pure but for the job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from aiocheckpoint._engine.jobs import Job
from aiocheckpoint._format.documents import Body
from aiocheckpoint._format.entries import Entry
from aiocheckpoint.errors import CheckpointError
from aiocheckpoint.models import ANY_NEWEST, CheckpointId, Expected, SessionId


class Change(msgspec.Struct, eq=False):
    """
    A change that waits.

    Attributes:
        job: of its caller.
        session_id: the session it is about.
        session: name of the session's directory; empty for none.
        size_bytes: about what it adds to the journal.
        files: how many files are to be written for it.
        held_up: tells why it is not queued yet; None for one that was at once.
        is_removal: whether it makes room.
        leaves: how many quarters of the journal's reserve it leaves to what makes more room.
        waits_for_files: whether its caller wakes only when its files are durable.
        syncs: whether its caller wakes only when the journal is durable; None for a change of
            files, where that is as its writer has it.
    """

    job: Job[Any]
    session_id: SessionId = ""
    session: str = ""
    size_bytes: int = 0
    files: int = 0
    held_up: Callable[[], CheckpointError | None] | None = None
    is_removal: bool = False
    leaves: int = 4
    waits_for_files: bool = False
    syncs: bool | None = None

    @property
    def sessions(self) -> Mapping[str, SessionId]:
        """The sessions it is about, by the names of their directories."""
        return {self.session: self.session_id} if self.session else {}

    @property
    def parts(self) -> Sequence[Change]:
        """The changes to single sessions that it consists of."""
        return (self,)


class Save(Change, kw_only=True):
    """
    A save.

    Attributes:
        checkpoint_id: of the checkpoint.
        body: what is saved.
        digests: the blobs that the record refers to, hex.
        blobs: those that are given, by their digests.
        expected: which checkpoint must be the newest.
        erases: whether somebody asked to remove what it replaces.
    """

    checkpoint_id: CheckpointId
    body: Body
    digests: tuple[str, ...] = ()
    blobs: Mapping[str, bytes] = {}
    expected: Expected = ANY_NEWEST
    erases: bool = False

    def __post_init__(self) -> None:
        self.give(self.blobs)

    def give(self, blobs: Mapping[str, bytes]) -> None:
        """Give it its blobs, or others."""
        self.blobs = blobs
        self.size_bytes = len(self.body.text)
        if blobs:
            self.size_bytes += sum(map(len, blobs.values()))
        self.files = 1 + len(blobs)


class Delete(Change, kw_only=True):
    """
    A delete.

    Attributes:
        checkpoint_ids: which checkpoints; None for the whole session.
    """

    checkpoint_ids: tuple[CheckpointId, ...] | None
    is_removal: bool = True

    def __post_init__(self) -> None:
        self.leaves = 0 if self.checkpoint_ids is None else 1  # nothing of it holds the journal up


class Batch(Change, kw_only=True):
    """
    Changes of one session or several, made together or not at all.

    Attributes:
        states: of the sessions it is about, as they were read, by the names of their directories;
            None for one that may be in any.
        tokens: of the owners that its caller has to be, likewise.
    """

    # Fields where others have properties, which are as good for who reads them.
    sessions: Mapping[str, SessionId]  # pyright: ignore[reportIncompatibleMethodOverride]
    parts: Sequence[Change]  # pyright: ignore[reportIncompatibleMethodOverride]
    states: Mapping[str, int | None]
    tokens: Mapping[str, int]

    def __post_init__(self) -> None:
        self.session, self.session_id = next(iter(self.sessions.items()))
        self.size_bytes = sum(part.size_bytes for part in self.parts)
        self.files = sum(part.files for part in self.parts)
        self.is_removal = all(part.is_removal for part in self.parts)
        self.leaves = max((part.leaves for part in self.parts), default=0)


class Own(Change, kw_only=True):
    """
    A wish to be the owner of a session.

    Attributes:
        process: names the process of the owner, once it is known.
        dead: names of processes that were seen to be dead.
        told: what others say of themselves, by the names of their processes.
    """

    process: str = ""
    dead: set[str] = set()
    told: dict[str, str] = {}
    syncs: bool | None = True  # or after a power cut the same token would be given out again


class Disown(Change, kw_only=True):
    """
    The end of an ownership, if it has not been lost.

    Attributes:
        token: of the owner.
    """

    token: int
    is_removal: bool = True
    leaves: int = 1
    syncs: bool | None = False  # after a power cut nobody owns anything


class Recover(Change, kw_only=True):
    """
    What `recover` has found out.

    Attributes:
        entries: files to quarantine, and what takes their places.
        bodies: of those that have one.
        seen: names of the checkpoint files that there were.
    """

    entries: tuple[Entry, ...]
    bodies: tuple[bytes, ...]
    seen: frozenset[str]
    is_removal: bool = True
    leaves: int = 1
    waits_for_files: bool = True


class Flush(Change, kw_only=True):
    """
    A flush: the files of all that was committed before are durable when it is done.

    Attributes:
        closes: whether it is the last that its writer asks for.
    """

    closes: bool = False
    is_removal: bool = True
    leaves: int = 1
    waits_for_files: bool = True


Wake = Literal["written", "synced", "flushed"]
"""When the callers of a writer's changes wake: its `durability`."""
