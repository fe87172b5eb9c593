"""What an update has staged, as changes that come to the same in whatever order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from aiocheckpoint.kit import EncodedRecord, RecordKit, StagedDelete, StagedSave, blob_links
from aiocheckpoint.models import CheckpointId, SessionId
from aiocheckpoint.stores.postgres.changes import Change, Delete, Save
from aiocheckpoint.stores.postgres.listing import meta_of
from aiocheckpoint.stores.postgres.pools import Connection
from aiocheckpoint.stores.postgres.queries import DOOMED, HELD, HOLD, LET_GO
from aiocheckpoint.stores.postgres.server import Server


class Staged(NamedTuple):
    """
    What was staged of a session, whose row is locked.

    Attributes:
        session_id: the session.
        key: of its row.
        deletes: ids that go; None for all that there are.
        saves: the records to store, in order.
    """

    session_id: SessionId
    key: int
    deletes: tuple[CheckpointId, ...] | None
    saves: tuple[EncodedRecord, ...]

    @classmethod
    def of(
        cls, session_id: SessionId, key: int, steps: Iterable[StagedSave | StagedDelete]
    ) -> Staged:
        """Return what steps of the kit are."""
        deletes: tuple[CheckpointId, ...] | None = ()
        saves: list[EncodedRecord] = []
        for step in steps:
            if isinstance(step, StagedSave):
                saves.append(step.record)
            else:
                deletes = step.checkpoint_ids
        return cls(session_id, key, deletes, tuple(saves))

    @property
    def is_nothing(self) -> bool:
        """Whether nothing was staged."""
        return self.deletes == () and not self.saves


class Preparing:
    """
    Asks, within the transaction of an update, what its changes have to say.

    The server makes changes one after the other, and with each it removes what is too many, and the
    blobs that nothing names. So what is to go is told to it at last, and blobs are held meanwhile.

    Args:
        server: where.
        connection: of the transaction.
        kit: of the store.
        max_checkpoints: how many checkpoints to keep in a session; None for all.
    """

    def __init__(
        self,
        server: Server,
        connection: Connection,
        kit: RecordKit[Any],
        max_checkpoints: int | None,
    ) -> None:
        self._server = server
        self._connection = connection
        self._kit = kit
        self._max_checkpoints = max_checkpoints

    async def changes(self, staged: Staged, fence: int | None) -> list[Change]:
        """Return the changes of a session: saves first, then one delete of all that goes."""
        session_id = staged.session_id
        location = self._server.location_of(session_id)
        doomed = await self._doomed(staged)
        steps: list[Save | Delete] = [
            Save(record, meta_of(self._kit, record, location)) for record in staged.saves
        ]
        if doomed or not steps:  # of ids that are not there too: only an owner may do that
            steps.append(Delete(tuple(doomed)))
        if len(steps) > 1:
            await self._hold(staged)
        return [Change(session_id, step, fence) for step in steps]

    async def _doomed(self, staged: Staged) -> list[CheckpointId]:
        """Return which checkpoints go, in the end: those deleted, and those above the bound."""
        saved = [record.checkpoint_id for record in staged.saves]
        keep = self._max_checkpoints
        surplus = 0 if keep is None else max(0, len(saved) - keep)
        doomed = [*(staged.deletes or ()), *saved[:surplus]]
        if staged.deletes is None:
            room = 0
        elif keep is None:
            return doomed
        else:
            room = max(0, keep - len(saved))
        named = [name.encode() for name in {*saved, *doomed}]
        rows = await self._connection.fetch(self._server.sql(DOOMED), staged.key, named, room)
        return doomed + [row["checkpoint_id"].decode() for row in rows]

    async def _hold(self, staged: Staged) -> None:
        """Keep the blobs that records lead to, and that were there before."""
        given = {digest for record in staged.saves for digest in record.blobs}
        wanted = {digest for record in staged.saves for digest in record.blob_digests}
        for record in staged.saves:
            wanted.update(*map(blob_links, record.blobs.values()))
        if held := [bytes.fromhex(digest) for digest in wanted - given]:
            await self._connection.execute(self._server.sql(HOLD), staged.key, held)

    async def let_go(self, all_staged: Sequence[Staged]) -> None:
        """Let what was held go, if nothing leads to it by now."""
        for staged in all_staged:
            if any(record.blob_digests for record in staged.saves):
                held = await self._connection.fetchval(self._server.sql(HELD), staged.key)
                if held:
                    await self._connection.execute(self._server.sql(LET_GO), staged.key, held)
