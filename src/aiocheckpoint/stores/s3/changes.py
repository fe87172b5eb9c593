"""The changes of a session by one client: in the order of the calls, a commit by one create."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from aiocheckpoint.errors import (
    CheckpointError,
    DurabilityUnknownError,
    ErasureIncompleteError,
    MissingStoreError,
    StoreBusyError,
    StoreUnavailableError,
    UnsuitableStoreError,
)
from aiocheckpoint.kit import Patience, own_copy
from aiocheckpoint.stores.s3.bucket import UnsettledError
from aiocheckpoint.stores.s3.commits import encode_commit
from aiocheckpoint.stores.s3.knowledge import Knowledge
from aiocheckpoint.stores.s3.state import NOTHING_GONE, Gone, Staged
from aiocheckpoint.stores.s3.sweep import Sweeper

_MAX_COMMIT_BYTES = 8 * 1024 * 1024
_MAX_COMMIT_CHANGES = 100
_PAUSES_SECONDS = (0.02, 1.0)
_logger = logging.getLogger("aiocheckpoint")


class Change(NamedTuple):
    """
    What a caller wants.

    Attributes:
        stage: stages it, and returns what the caller is told; or raises, and stages nothing.
        needs_entries: whether that asks for the checkpoints.
        erases: whether what is gone is to be gone from the bucket when the caller is told.
        saves: whether it stores anything: its caller is told no error once it is stored.
        size_bytes: about how much there is to store.
    """

    stage: Callable[[Staged], Any]
    needs_entries: bool = False
    erases: bool = False
    saves: bool = True
    size_bytes: int = 0


class Waiting:
    """
    A change that waits for its turn.

    Attributes:
        change: what is wanted.
        is_begun: whether it is under way.
        done: what becomes of it.
    """

    def __init__(self, change: Change) -> None:
        self.change = change
        self.is_begun = False
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def withdraw(self) -> None:
        """Take it back unless it is under way."""
        if not self.is_begun and not self.done.done():
            self.done.cancel()


class Outcome(NamedTuple):
    """
    What became of the changes of a commit.

    Attributes:
        answers: for each change the result, or the error.
        gone: what nothing refers to any more.
        is_stored: whether there was anything to commit.
    """

    answers: list[Any]
    gone: Gone
    is_stored: bool


class Prepare(Protocol):
    """Makes sure that creates exclude one another, before any is relied on."""

    async def __call__(self, *, with_versions: bool = False) -> None:
        """Raise where they do not; `with_versions`: in a bucket that is known to keep versions."""


class Changes:
    """
    Commits what callers want, one commit at a time.

    Args:
        knowledge: of the session.
        sweeper: removes what is gone.
        prepare: awaited before each commit, and with `with_versions` behind one of a bucket that
            keeps versions.
        timeout_seconds: how long others may be faster.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        sweeper: Sweeper,
        prepare: Prepare,
        timeout_seconds: float,
    ) -> None:
        self._knowledge = knowledge
        self._prepare = prepare
        self._sweeper = sweeper
        self._timeout_seconds = timeout_seconds
        self._waiting: deque[Waiting] = deque()
        self._worker: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or is under way."""
        return self._worker is None

    def put(self, change: Change) -> Waiting:
        """Queue a change."""
        waiting = Waiting(change)
        self._waiting.append(waiting)
        if self._worker is None:
            self._worker = asyncio.ensure_future(self._work())
        return waiting

    async def done(self, changes: Iterable[Change]) -> None:
        """Make changes in their order; the first error is raised when all are over."""
        waiting = [self.put(change).done for change in changes]
        for answer in await asyncio.gather(*waiting, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer

    async def finished(self) -> None:
        """Wait until nothing waits."""
        while self._worker is not None:
            await asyncio.wait([self._worker])

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch = self._next()
                if batch:
                    await self._commit_batch(batch)
        finally:
            self._worker = None

    def _next(self) -> list[Waiting]:
        """Take what shares the next commit; what was withdrawn is gone."""
        batch: list[Waiting] = []
        size_bytes = 0
        while self._waiting and len(batch) < _MAX_COMMIT_CHANGES:
            first = self._waiting[0]
            size_bytes += first.change.size_bytes
            if batch and size_bytes > _MAX_COMMIT_BYTES:
                break
            self._waiting.popleft()
            if not first.done.done():
                first.is_begun = True
                batch.append(first)
        return batch

    async def _commit_batch(self, batch: list[Waiting]) -> None:
        try:
            outcome = await self.commit([waiting.change for waiting in batch])
        except BaseException as error:
            for waiting in batch:
                if not waiting.done.done():
                    waiting.done.set_exception(own_copy(error))
            if not isinstance(error, Exception):
                raise
            return
        for waiting, answer in zip(batch, outcome.answers, strict=True):
            if isinstance(answer, CheckpointError):
                waiting.done.set_exception(answer)
            else:
                waiting.done.set_result(answer)

    async def commit(self, changes: Sequence[Change]) -> Outcome:
        """
        Commit changes together, again and again while others are faster.

        Raises:
            StoreBusyError: they were, for too long.
            DurabilityUnknownError: the server was lost in the middle.
            CheckpointError: the server cannot be reached, or damage.
        """
        patience = Patience(self._timeout_seconds, *_PAUSES_SECONDS)
        while True:
            outcome = await self.attempt(changes)
            if outcome is not None:
                return await self._swept(changes, outcome)
            if patience.is_over:
                location = self._knowledge.location(self._knowledge.session.number + 1)
                raise StoreBusyError(location, self._timeout_seconds)
            await patience.pause(is_random=True)

    async def _swept(self, changes: Sequence[Change], outcome: Outcome) -> Outcome:
        """Remove what is gone; who has only deleted is told where that cannot be erased."""
        knowledge = self._knowledge
        erases = any(change.erases for change in changes)
        # To delete once more removes what had to stay, or could not be erased, at the first time.
        is_left = knowledge.session.is_empty or knowledge.unerased != NOTHING_GONE
        if not outcome.is_stored and not (erases and is_left):
            return outcome
        try:
            await self._sweeper.clean(knowledge, outcome.gone, at_once=erases)
        except ErasureIncompleteError as error:
            answered = [*zip(changes, outcome.answers, strict=True)]
            if not any(_is_told(*each) for each in answered):
                _logger.warning("a delete took place, and left bytes: %s", error)
            answers = [own_copy(error) if _is_told(*each) else each[1] for each in answered]
            return outcome._replace(answers=answers)
        return outcome

    async def attempt(self, changes: Sequence[Change]) -> Outcome | None:
        """Commit changes upon the newest commit that is known; None where there is a newer one."""
        knowledge = self._knowledge
        await self._prepare()
        if not knowledge.is_trusted:
            await knowledge.refresh()
        elif not knowledge.session.number:
            await knowledge.require_store()
        if any(change.needs_entries for change in changes):
            await knowledge.entries()
        session = knowledge.session
        number = session.number
        staged = Staged(session, knowledge.layout, knowledge.lost_blobs)
        answers = [_staged(change, staged) for change in changes]
        if not staged.is_nothing:
            return await self._create(staged, answers)
        await knowledge.refresh()
        is_same = knowledge.session is session and session.number == number
        return Outcome(answers, NOTHING_GONE, is_stored=False) if is_same else None

    async def _create(self, staged: Staged, answers: list[Any]) -> Outcome | None:
        """Make the commit, unless there is one of its number."""
        knowledge = self._knowledge
        bucket, layout = knowledge.bucket, knowledge.layout
        write_id = secrets.token_hex(8)
        header = staged.header(write_id, bucket.clock.now())
        session_id, number = header.session_id, header.number
        header, data = encode_commit(header, staged.bodies())
        blobs = staged.new_blobs()  # as of now: what others commit meanwhile changes the session
        before = [
            bucket.put(layout.blob(session_id, digest, write_id), content)
            for digest, content in blobs.items()
        ]
        if header.is_empty:
            before.append(bucket.put(layout.may_be_empty(session_id, number), b""))
        await bucket.gather(before)
        seen_at = knowledge.seen_at or bucket.clock.now()  # others may have found out just now
        began = knowledge.watch(number)
        was_there = asyncio.ensure_future(self._is_there(number - 1))
        try:
            is_mine = await self._made(number, data, write_id, blobs)
        finally:
            await was_there
        if is_mine and (knowledge.presence.has_gone or not was_there.result()):
            await self._require_same(seen_at, number, dict.fromkeys(blobs, write_id))
        if is_mine:
            return Outcome(answers, knowledge.committed(header, began), is_stored=True)
        self._sweeper.drop_blobs(session_id, dict.fromkeys(blobs, write_id))
        return None

    async def _made(
        self, number: int, data: bytes, write_id: str, blobs: Mapping[str, bytes]
    ) -> bool:
        """Create a commit; False where there is another one."""
        knowledge = self._knowledge
        try:
            created = await knowledge.bucket.create(self._key(number), data)
            lost = None
        except UnsettledError as error:
            created, lost = None, error.cause
        except CheckpointError:
            self._sweeper.drop_blobs(knowledge.session_id, dict.fromkeys(blobs, write_id))
            raise
        if created is None:
            is_mine = await self._is_there_already(number, write_id, lost)
            return is_mine and await self._is_in_line(number, write_id, is_new=False)
        if created.version is not None:
            await self._require_exclusive(number, created.version, dict.fromkeys(blobs, write_id))
        return await self._is_in_line(number, write_id, is_new=True)

    async def _require_exclusive(self, number: int, version: str, blobs: Mapping[str, str]) -> None:
        """
        Take a commit back that was made in a bucket with versions, unless creates exclude there.

        It may stand in the place of another one, which is there again then.

        Raises:
            UnsuitableStoreError: they do not.
            StoreUnavailableError: nobody can tell.
            DurabilityUnknownError: it cannot be taken back.
        """
        knowledge = self._knowledge
        try:
            await self._prepare(with_versions=True)
        except CheckpointError as refused:
            knowledge.forget()
            try:
                await knowledge.bucket.take_back(self._key(number), version)
            except CheckpointError as error:
                reason = f"{refused}; version {version} is to be removed, and was not: {error}"
                location = knowledge.location(number)
                raise DurabilityUnknownError("create", location, None, reason) from error
            self._sweeper.drop_blobs(knowledge.session_id, blobs)
            raise

    def _key(self, number: int) -> str:
        return self._knowledge.layout.commit(self._knowledge.session_id, number)

    async def _is_there(self, number: int) -> bool:
        """Tell whether a commit is there, which was seen; where that matters and can be told."""
        knowledge = self._knowledge
        if number and knowledge.presence.must_exist:
            with contextlib.suppress(CheckpointError):
                age = await knowledge.bucket.age(self._key(number))
                return age is not None and knowledge.was_put_before(age)
        return True

    async def _require_same(self, seen_at: datetime, number: int, blobs: Mapping[str, str]) -> None:
        """
        Take a commit back that was made where a store must exist, and was emptied meanwhile.

        Raises:
            MissingStoreError: that is so.
            DurabilityUnknownError: it cannot be taken back, or that cannot be told.
        """
        knowledge = self._knowledge
        location = knowledge.location(number)
        try:
            gone = await knowledge.presence.gone(self._key(number - 1), seen_at)
            if gone is None:
                return
            may_be_empty = knowledge.layout.may_be_empty(knowledge.session_id, number)
            await knowledge.bucket.delete([self._key(number), may_be_empty])
        except CheckpointError as error:
            knowledge.forget()
            raise DurabilityUnknownError("create", location, None, str(error)) from error
        self._sweeper.drop_blobs(knowledge.session_id, blobs)
        raise gone

    async def _is_in_line(self, number: int, write_id: str, *, is_new: bool) -> bool:
        """
        Tell whether a commit of ours stands where others go on; remove one that does not.

        Args:
            number: of the commit.
            write_id: of the commit.
            is_new: whether it was made just now, so that no commit behind it was swept yet.

        Raises:
            DurabilityUnknownError: that cannot be found out, or done.
        """
        knowledge = self._knowledge
        reason = "it took hours, and commits behind it were swept"
        try:
            is_in_line = await knowledge.is_in_line(number, write_id)
            if is_in_line is False or (is_in_line is None and is_new):
                await knowledge.bucket.delete([self._key(number)])
                return False
        except CheckpointError as error:
            is_in_line, reason = None, str(error)
        if not is_in_line:
            raise DurabilityUnknownError("create", knowledge.location(number), None, reason)
        return True

    async def _is_there_already(
        self, number: int, write_id: str, lost: StoreUnavailableError | None
    ) -> bool:
        """
        Tell whether a commit of ours is there, after a create that does not say so.

        Also where no answer was lost here, and the server has told of another object: a proxy that
        loses one sends the create once more, as nginx does by default, and what that finds in its
        way is itself.

        Args:
            number: of the commit.
            write_id: of the commit.
            lost: why there was no answer; None where one told of another object.

        Raises:
            MissingStoreError: the store is not there any more.
            UnsuitableStoreError: the bucket is not.
            DurabilityUnknownError: nobody's is there yet, or that cannot be found out.
        """
        knowledge = self._knowledge
        location = knowledge.location(number)
        if lost is not None:
            knowledge.forget()
        try:
            await knowledge.refresh()
            whose = await knowledge.write_id(number)
        except CheckpointError as error:
            if lost is None and isinstance(error, (MissingStoreError, UnsuitableStoreError)):
                raise
            reason = str(error) if lost is None else lost.reason
            raise DurabilityUnknownError("create", location, None, reason) from error
        if lost is not None and not whose:
            raise DurabilityUnknownError("create", location, None, lost.reason) from lost
        return whose == write_id


def _staged(change: Change, staged: Staged) -> Any:
    try:
        return change.stage(staged)
    except CheckpointError as error:
        return error


def _is_told(change: Change, answer: Any) -> bool:
    """Tell whether a caller is told that something could not be erased, in place of its answer."""
    return change.erases and not change.saves and not isinstance(answer, CheckpointError)
