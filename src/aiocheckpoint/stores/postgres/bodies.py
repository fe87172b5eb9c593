"""The bodies that one event loop knows: packing what it saves, remembering what it read."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence

from aiocheckpoint.kit import ended
from aiocheckpoint.models import SessionId
from aiocheckpoint.stores.postgres.blobs import KnownBlobs
from aiocheckpoint.stores.postgres.changes import Change, Delete, Save, is_baseless, seq_of
from aiocheckpoint.stores.postgres.packing import Packed, Version, may_be_base, packed, plain

_INLINE_BYTES = 64 * 1024  # what is larger, all bodies of a commit together, is packed in a thread
_KNOWN_BYTES = 64 << 20


class Bodies:
    """
    The newest bodies of the sessions that were used last, as far as there is room for them.

    Args:
        compressed: whether to compress what is saved.

    Attributes:
        blobs: which blobs sessions have already.
    """

    def __init__(self, *, compressed: bool) -> None:
        self.blobs = KnownBlobs()
        self._compressed = compressed
        self._known: OrderedDict[SessionId, Version] = OrderedDict()
        self._size_bytes = 0

    async def packed(
        self, changes: Sequence[Change], *, is_alone: bool = False
    ) -> list[Packed | None]:
        """
        Return what to store of each save, None for the others; it cannot be cancelled.

        Args:
            changes: what is to be done.
            is_alone: whether nothing is to be packed against what is known.
        """
        sources = [self._source(change, is_alone=is_alone) for change in changes]
        size_bytes = sum(_cost_bytes(*source) for source in sources if source is not None)
        if not self._compressed or size_bytes <= _INLINE_BYTES:
            return self._all_packed(sources)
        packing = asyncio.ensure_future(asyncio.to_thread(self._all_packed, sources))
        await ended(packing)
        return packing.result()

    def _source(self, change: Change, *, is_alone: bool) -> tuple[bytes, Version | None] | None:
        if not isinstance(change.step, Save):
            return None
        base = None if is_alone else self._known.get(change.session_id)
        return change.step.record.body, base

    def _all_packed(
        self, sources: Sequence[tuple[bytes, Version | None] | None]
    ) -> list[Packed | None]:
        pack = packed if self._compressed else lambda body, _: plain(body)
        return [None if source is None else pack(*source) for source in sources]

    def made(
        self, changes: Sequence[Change], bodies: Sequence[Packed | None], outcomes: Sequence[bytes]
    ) -> None:
        """Remember what was stored, and that what is gone is no base any more."""
        for change, body, outcome in zip(changes, bodies, outcomes, strict=True):
            seq = seq_of(outcome)
            if is_baseless(outcome) or change.step == Delete(None):
                self.forget(change.session_id)
            elif isinstance(change.step, Save) and body is not None and seq is not None:
                self._put(change.session_id, body.version(seq, change.step.record.body))

    def loaded(self, session_id: SessionId, seq: int, parts: Sequence[bytes], body: bytes) -> None:
        """Remember the newest of a session, which was read."""
        version = self._known.get(session_id)
        if version is not None and version.seq == seq and version.body is body:
            return  # `known` has given it
        digests = tuple([hashlib.sha256(part).digest() for part in parts])
        self._put(session_id, Version(seq, body, digests))

    def known(self, session_id: SessionId, parts: Sequence[bytes]) -> bytes | None:
        """Return the body that contents come to, if it is the one that is remembered."""
        version = self._known.get(session_id)
        if version is None or sum(map(len, parts)) > _INLINE_BYTES:
            return None
        return version.body if version.is_made_of(parts) else None

    def _put(self, session_id: SessionId, version: Version) -> None:
        self.forget(session_id)
        is_too_large = len(version.body) > _KNOWN_BYTES // 4
        if is_too_large or not self._compressed or not may_be_base(version.body):
            return  # of many small ones what is around them takes more than they do
        self._known[session_id] = version
        self._size_bytes += len(version.body)
        while self._size_bytes > _KNOWN_BYTES:
            _, oldest = self._known.popitem(last=False)
            self._size_bytes -= len(oldest.body)

    def forget(self, session_id: SessionId) -> None:
        """Pack the next body of a session alone."""
        version = self._known.pop(session_id, None)
        if version is not None:
            self._size_bytes -= len(version.body)


def _cost_bytes(body: bytes, base: Version | None) -> int:
    """About how much is looked at to pack a body: a large base costs as much as a large body."""
    return len(body) if base is None else max(len(body), len(base.body))
