"""Deletes of several sessions that one call of a framework asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from aiocheckpoint import CheckpointStore, ErasureIncompleteError, SessionId
from aiocheckpoint.kit import raise_all


class Erasing:
    """
    Deletes sessions; the same call again erases what its store could not erase the first time.

    A session that is deleted is listed no more, so those are remembered.
    """

    def __init__(self) -> None:
        self._left: dict[str, set[SessionId]] = {}

    async def delete(
        self, store: CheckpointStore[Any], asked: str, session_ids: AsyncIterator[SessionId]
    ) -> None:
        """
        Delete sessions, those that an earlier call has left first.

        Args:
            store: where they are.
            asked: what stands for the call.
            session_ids: which; one after the other is deleted.

        Raises:
            ErasureIncompleteError: all are deleted, and some of them not erased.
            CheckpointError: what else the store raises; those behind it are not deleted.
        """
        left = self._left.setdefault(asked, set())
        errors: list[ErasureIncompleteError] = []

        async def delete(session_id: SessionId) -> None:
            try:
                await store.delete_session(session_id)
            except ErasureIncompleteError as error:
                left.add(session_id)
                errors.append(error)
            else:
                left.discard(session_id)

        try:
            for session_id in sorted(left):
                await delete(session_id)
            async for session_id in session_ids:
                await delete(session_id)
        finally:
            if not left:
                self._left.pop(asked, None)
        raise_all(errors)
