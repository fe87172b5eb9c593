"""Blobs that need not be loaded again to go on from a history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiocheckpoint.history import LoadBlobs
from aiocheckpoint.kit import reachable_blobs

_MAX_BYTES = 1 << 20


class RecentBlobs:
    """
    The newest blobs of one history, by digest, some 64 KiB of them and at most 1 MiB.

    They are what their digests say, whoever has changed the session meanwhile, so nothing has to
    be found out before they are used. May be used by several threads.
    """

    def __init__(self) -> None:
        self._blobs: Mapping[str, bytes] = {}

    def or_else(self, load_blobs: LoadBlobs) -> LoadBlobs:
        """Return what loads the blobs that are not known, and those alone."""

        async def load(digests: Iterable[str]) -> Mapping[str, bytes]:
            wanted, known = [*digests], self._blobs
            found = {digest: known[digest] for digest in wanted if digest in known}
            missing = [digest for digest in wanted if digest not in found]
            return found | {**await load_blobs(missing)} if missing else found

        return load

    def keep(self, roots: Iterable[str], new: Mapping[str, bytes]) -> None:
        """Know the blobs of a save from now on, and of those before what it still leads to."""
        blobs = {**self._blobs, **new}
        reached = {
            digest: blobs[digest] for digest in reachable_blobs(roots, blobs) if digest in blobs
        }
        small = sum(map(len, reached.values())) <= _MAX_BYTES
        self._blobs = reached if small else {}
