"""What the blobs of a session lead to."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from aiocheckpoint._engine.bodies import Bodies
from aiocheckpoint._format.blobs import blob_links
from aiocheckpoint.errors import CheckpointCorruptError


class BlobGraph:
    """
    Follows blobs from one to the next; each is looked at once.

    Args:
        bodies: the contents of blobs.
        session: name of its directory.
        reads: whether each is read as a whole, and so known to be intact; otherwise only those
            that refer to others are.
    """

    def __init__(self, bodies: Bodies, session: str, *, reads: bool) -> None:
        self._bodies = bodies
        self._session = session
        self._reads = reads
        self._right: set[str] = set()
        self._links: dict[str, tuple[str, ...] | CheckpointCorruptError] = {}

    def reach(self, digests: Iterable[str]) -> set[str]:
        """
        Return all blobs that some lead to, themselves included.

        Raises:
            CheckpointCorruptError: one is missing or damaged.
        """
        return self._follow(digests, frozenset())

    def require(self, digests: Iterable[str]) -> None:
        """
        Refuse blobs that are missing or damaged, or lead to such.

        What was right once is not followed again.

        Raises:
            CheckpointCorruptError: of the first that is met.
        """
        self._right |= self._follow(digests, self._right)

    def _follow(self, digests: Iterable[str], but: Collection[str]) -> set[str]:
        found: set[str] = set()
        waiting = [*digests]
        while waiting:
            digest = waiting.pop()
            if digest not in found and digest not in but:
                found.add(digest)
                waiting += self._look(digest)
        return found

    def _look(self, digest: str) -> tuple[str, ...]:
        links = self._links.get(digest)
        if links is None:
            try:
                if self._reads:
                    links = blob_links(self._bodies.blob(self._session, digest))
                else:
                    links = self._bodies.links(self._session, digest)
            except CheckpointCorruptError as error:
                links = error
            self._links[digest] = links
        if isinstance(links, CheckpointCorruptError):
            raise links
        return links
