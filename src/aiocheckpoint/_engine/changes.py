"""What callers ask to be changed, as it waits for its commit; pure but for the job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from aiocheckpoint._engine.jobs import Job
from aiocheckpoint._format.documents import Body
from aiocheckpoint._format.entries import Entry
from aiocheckpoint.errors import CheckpointError
from aiocheckpoint.models import ANY_NEWEST, CheckpointId, Expected, SessionId


class Change:
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

    __slots__ = ("files", "held_up", "job", "session", "session_id", "size_bytes")
    is_removal = False
    leaves = 4
    waits_for_files = False
    syncs: bool | None = None

    def __init__(
        self, job: Job[Any], session_id: SessionId = "", session: str = "", size_bytes: int = 0
    ) -> None:
        self.job = job
        self.held_up: Callable[[], CheckpointError | None] | None = None
        self.session_id = session_id
        self.session = session
        self.size_bytes = size_bytes
        self.files = 0

    @property
    def sessions(self) -> Mapping[str, SessionId]:
        """The sessions it is about, by the names of their directories."""
        return {self.session: self.session_id} if self.session else {}

    @property
    def parts(self) -> Sequence[Change]:
        """The changes to single sessions that it consists of."""
        return (self,)


class Save(Change):
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

    __slots__ = ("blobs", "body", "checkpoint_id", "digests", "erases", "expected")

    def __init__(
        self,
        job: Job[Any],
        session_id: SessionId,
        session: str,
        checkpoint_id: CheckpointId,
        body: Body,
        digests: tuple[str, ...] = (),
        blobs: Mapping[str, bytes] = {},
        expected: Expected = ANY_NEWEST,
    ) -> None:
        super().__init__(job, session_id, session)
        self.checkpoint_id = checkpoint_id
        self.body = body
        self.digests = digests
        self.give(blobs)
        self.expected: Expected = expected
        self.erases = False

    def give(self, blobs: Mapping[str, bytes]) -> None:
        """Give it its blobs, or others."""
        self.blobs = blobs
        self.size_bytes = len(self.body.text)
        if blobs:
            self.size_bytes += sum(map(len, blobs.values()))
        self.files = 1 + len(blobs)


class Delete(Change):
    """
    A delete.

    Attributes:
        checkpoint_ids: which checkpoints; None for the whole session.
    """

    __slots__ = ("checkpoint_ids", "leaves")
    is_removal = True

    def __init__(
        self,
        job: Job[Any],
        session_id: SessionId,
        session: str,
        checkpoint_ids: tuple[CheckpointId, ...] | None,
    ) -> None:
        super().__init__(job, session_id, session)
        self.checkpoint_ids = checkpoint_ids
        self.leaves = 0 if checkpoint_ids is None else 1  # nothing of it holds the journal up


class Batch(Change):
    """
    Changes of one session or several, made together or not at all.

    Attributes:
        states: of the sessions it is about, as they were read, by the names of their directories;
            None for one that may be in any.
        tokens: of the owners that its caller has to be, likewise.
    """

    __slots__ = ("_parts", "_sessions", "is_removal", "leaves", "states", "tokens")

    def __init__(
        self,
        job: Job[Any],
        sessions: Mapping[str, SessionId],
        parts: Sequence[Change],
        states: Mapping[str, int | None],
        tokens: Mapping[str, int],
    ) -> None:
        name, session_id = next(iter(sessions.items()))
        super().__init__(job, session_id, name, sum(part.size_bytes for part in parts))
        self.files = sum(part.files for part in parts)
        self.is_removal = all(part.is_removal for part in parts)
        self.leaves = max((part.leaves for part in parts), default=0)
        self.states = states
        self.tokens = tokens
        self._sessions = sessions
        self._parts = parts

    @property
    def sessions(self) -> Mapping[str, SessionId]:
        """The sessions it is about, by the names of their directories."""
        return self._sessions

    @property
    def parts(self) -> Sequence[Change]:
        """The changes to single sessions that it consists of."""
        return self._parts


class Own(Change):
    """
    A wish to be the owner of a session.

    Attributes:
        process: names the process of the owner, once it is known.
        dead: names of processes that were seen to be dead.
        told: what others say of themselves, by the names of their processes.
    """

    __slots__ = ("dead", "process", "told")
    syncs = True  # or after a power cut the same token would be given out again

    def __init__(self, job: Job[Any], session_id: SessionId, session: str) -> None:
        super().__init__(job, session_id, session)
        self.process = ""
        self.dead: set[str] = set()
        self.told: dict[str, str] = {}


class Disown(Change):
    """
    The end of an ownership, if it has not been lost.

    Attributes:
        token: of the owner.
    """

    __slots__ = ("token",)
    is_removal = True
    leaves = 1
    syncs = False  # after a power cut nobody owns anything

    def __init__(self, job: Job[Any], session_id: SessionId, session: str, token: int) -> None:
        super().__init__(job, session_id, session)
        self.token = token


class Recover(Change):
    """
    What `recover` has found out.

    Attributes:
        entries: files to quarantine, and what takes their places.
        bodies: of those that have one.
        seen: names of the checkpoint files that there were.
    """

    __slots__ = ("bodies", "entries", "seen")
    is_removal = True
    leaves = 1
    waits_for_files = True

    def __init__(
        self,
        job: Job[Any],
        session_id: SessionId,
        session: str,
        entries: tuple[Entry, ...],
        bodies: tuple[bytes, ...],
        seen: frozenset[str],
    ) -> None:
        super().__init__(job, session_id, session)
        self.entries = entries
        self.bodies = bodies
        self.seen = seen


class Flush(Change):
    """
    A flush: the files of all that was committed before are durable when it is done.

    Attributes:
        closes: whether it is the last that its writer asks for.
    """

    __slots__ = ("closes",)
    is_removal = True
    leaves = 1
    waits_for_files = True

    def __init__(self, job: Job[Any], *, closes: bool = False) -> None:
        super().__init__(job)
        self.closes = closes


Wake = Literal["written", "synced", "flushed"]
"""When the callers of a writer's changes wake: its `durability`."""
