"""Read, decide and write as one step: what `update` does over sessions of one root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from aiocheckpoint._arguments import checkpoint_ids_of, require_session, result_of
from aiocheckpoint._engine import listing
from aiocheckpoint._engine.changes import Batch, Change, Delete, Save
from aiocheckpoint._engine.jobs import Job
from aiocheckpoint._engine.local_store import LocalStore
from aiocheckpoint._engine.read import NotInMemoryError, Reader
from aiocheckpoint._format.codec import RecordT
from aiocheckpoint._format.ids import encode_id
from aiocheckpoint._patience import Patience
from aiocheckpoint._reading import SessionReads, Work
from aiocheckpoint._staging import Staging
from aiocheckpoint._turns import SessionTurns
from aiocheckpoint.errors import SessionChangedError
from aiocheckpoint.models import CheckpointId, SessionId
from aiocheckpoint.store import NO_BLOBS

ResultT = TypeVar("ResultT")
Encode = Callable[[RecordT, Mapping[str, bytes], Job[Any]], Save]
_EMPTY = 0  # the state of a session without checkpoints
_SEVERAL = 1 << 200  # that of none: of what was read as it was at several moments


class LocalTransaction(SessionReads[RecordT]):
    """
    One session within one call of the work of an update.

    Args:
        store: where it is.
        encode: makes saves of records.
        session_id: the session.
        job: of the update, in whose outcome the parts have theirs.

    Attributes:
        name: of the session's directory.
        state: of the session as it was read; None while nothing was.
        is_seen_at_once: whether all reads were of one moment, at which nobody knew more.
    """

    def __init__(
        self,
        store: LocalStore[RecordT],
        encode: Encode[RecordT],
        session_id: SessionId,
        job: Job[Any],
    ) -> None:
        super().__init__(session_id)
        self._store = store
        self._encode = encode
        self._job = job
        self._staging: Staging[Save] = Staging()
        self.name = encode_id(session_id, "session id")
        self.state: int | None = None
        self.is_seen_at_once = True

    # Reads

    async def _answer(
        self, work: Work[RecordT, ResultT], otherwise: ResultT, *, at_once: bool = False
    ) -> ResultT:
        """Do a read, and note the state of the session that it saw."""
        self._staging.require_running()
        found = self._glanced(work) if at_once else None
        is_glance = found is not None
        if found is None:
            read = partial(self._store.read, partial(self._with_state, work), (_EMPTY, otherwise))
            try:
                found = await self._store.in_thread(self._store.readers, read)
            except Exception:
                self.is_seen_at_once = False  # what it missed was perhaps there before
                raise
        state, result = found
        self.is_seen_at_once &= not is_glance and self.state is None
        self.state = state if self.state in (None, state) else _SEVERAL
        return result

    def _glanced(self, work: Work[RecordT, ResultT]) -> tuple[int, ResultT] | None:
        try:
            return self._store.glance(partial(self._with_state, work))
        except NotInMemoryError:
            return None

    def _with_state(
        self, work: Work[RecordT, ResultT], reader: Reader[RecordT]
    ) -> tuple[int, ResultT]:
        state = reader.session(self._session_id).known.state  # first: it is the last to change
        return state, work(reader)

    # Changes

    def save(self, data: RecordT, /, *, blobs: Mapping[str, bytes] = NO_BLOBS) -> CheckpointId:
        """
        Stage a save; checked and encoded at once, so `data` may be changed afterwards.

        Raises:
            InvalidArgumentError: a record of another session.
            CheckpointError: what `save` of the store refuses.
        """
        self._staging.require_running()
        save = self._encode(data, blobs, self._job)
        require_session(save.session_id, self._session_id)
        self._staging.save(save.checkpoint_id, save, save.digests, save.blobs)
        return save.checkpoint_id

    def delete(self, *checkpoint_ids: CheckpointId) -> None:
        """Stage deletes; of ids that are not there nothing comes."""
        self._staging.require_running()
        self._staging.delete(checkpoint_ids_of(checkpoint_ids))

    def delete_session(self) -> None:
        """Stage the delete of all that the session has, but for what is staged after it."""
        self._staging.require_running()
        self._staging.delete_all()

    # Its end

    def end(self) -> Sequence[Change]:
        """Return what was staged; nothing can be from then on."""
        deletes, saves, erased = self._staging.end()
        parts: list[Change] = []
        if deletes is None or deletes:
            parts.append(Delete(self._job, self._session_id, self.name, checkpoint_ids=deletes))
        for save, blobs in saves:
            save.give(blobs)
            save.erases = save.checkpoint_id in erased
            parts.append(save)
        return parts


Transactions = Mapping[SessionId, LocalTransaction[RecordT]]


class Updates(Generic[RecordT]):
    """
    The updates of one writer.

    Args:
        store: what they change.
        turns: the order of its calls.
        timeout_seconds: how long an update is tried again when others change the session.
    """

    def __init__(
        self,
        store: LocalStore[RecordT],
        turns: SessionTurns,
        timeout_seconds: float,
    ) -> None:
        self._store = store
        self._turns = turns
        self._timeout_seconds = timeout_seconds

    async def run(
        self,
        operation: str,
        session_ids: tuple[SessionId, ...],
        encode: Encode[RecordT],
        work: Callable[[Transactions[RecordT]], Awaitable[ResultT]],
        tokens: Mapping[str, int] = {},
    ) -> ResultT:
        """
        Let work read and stage, and commit what it has staged; again when it was overtaken.

        Args:
            operation: the method that was called.
            session_ids: the sessions.
            encode: makes saves of records; not kept, for the writer it belongs to keeps this.
            work: given a transaction for each.
            tokens: of the owners that the caller has to be, by the names of directories.

        Raises:
            OwnershipLostError: it is not one of them any more.
            SessionChangedError: it was overtaken for too long.
            NestedCallError: the work of another update calls it.
        """
        async with self._turns.update(session_ids, operation):
            patience = Patience(self._timeout_seconds)
            while True:
                try:
                    return await self._try(session_ids, encode, work, tokens)
                except _OvertakenError as overtaken:
                    if patience.is_over:
                        raise overtaken.error from None

    async def _try(
        self,
        session_ids: tuple[SessionId, ...],
        encode: Encode[RecordT],
        work: Callable[[Transactions[RecordT]], Awaitable[ResultT]],
        tokens: Mapping[str, int],
    ) -> ResultT:
        job: Job[Any] = Job()
        made = [LocalTransaction(self._store, encode, id_, job) for id_ in session_ids]
        transactions = {transaction.session_id: transaction for transaction in made}
        try:
            result = await result_of(work, transactions)
        except Exception:
            await self._require_as_read(made)  # or it has failed over what is not so any more
            raise
        finally:
            parts = [part for transaction in made for part in transaction.end()]
        if parts:
            await self._commit(job, made, parts, tokens)
        else:
            await self._require_as_read(made)
        return result

    async def _commit(
        self,
        job: Job[Any],
        transactions: list[LocalTransaction[RecordT]],
        parts: Sequence[Change],
        tokens: Mapping[str, int],
    ) -> None:
        written = {part.session for part in parts}
        concerned = {t.name: t for t in transactions if t.name in written or t.state is not None}
        batch = Batch(
            job,
            sessions={name: transaction.session_id for name, transaction in concerned.items()},
            parts=parts,
            states={name: transaction.state for name, transaction in concerned.items()},
            tokens=tokens,
        )
        try:
            await self._store.made(batch)
        except SessionChangedError as error:
            raise _OvertakenError(error) from error

    async def _require_as_read(self, transactions: list[LocalTransaction[RecordT]]) -> None:
        """
        See that what was read is what there is, where that is not sure.

        Raises:
            _OvertakenError: it is not.
        """
        read = [t for t in transactions if t.state is not None]
        if not read or (len(read) == 1 and read[0].is_seen_at_once):
            return

        def changed(reader: Reader[RecordT]) -> SessionChangedError | None:
            for transaction in read:
                session = reader.session(transaction.session_id)
                if session.known.state != transaction.state:
                    newest = listing.saved_ids(reader, transaction.session_id, "", 1)
                    return SessionChangedError(transaction.session_id, next(iter(newest), None))
            return None

        lost = [t for t in read if t.state != _EMPTY]  # if there is no root any more
        otherwise = SessionChangedError(lost[0].session_id, None) if lost else None
        look = partial(self._store.read, changed, otherwise)
        error = await self._store.in_thread(self._store.readers, look)
        if error is not None:
            raise _OvertakenError(error)


class _OvertakenError(Exception):
    """Somebody has changed a session since it was read."""

    def __init__(self, error: SessionChangedError) -> None:
        super().__init__(error)
        self.error = error
