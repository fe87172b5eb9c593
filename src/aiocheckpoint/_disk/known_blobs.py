"""What one process remembers of a session's blobs; pure."""

from __future__ import annotations

from collections import Counter


class KnownBlobs:
    """
    What is known of a session's blobs.

    Attributes:
        stored: digests of blobs that are there and intact; there may be more.
        of_file: the digests that a checkpoint file refers to, by the file's name.
        users: how many of those files refer to a digest.
        unused: digests of blobs that no file refers to, as far as is known.
        is_swept: whether what earlier processes left was looked for.
        removals: how many blobs were removed since this is kept.
    """

    def __init__(self) -> None:
        self.stored: set[str] = set()
        self.of_file: dict[str, tuple[str, ...]] = {}
        self.users: Counter[str] = Counter()
        self.unused: set[str] = set()
        self.is_swept = False
        self.removals = 0

    def enter(self, text: str, digests: tuple[str, ...]) -> None:
        """Note what a file refers to."""
        self.forget(text)
        self.of_file[text] = digests
        self.users.update(digests)
        self.unused.difference_update(digests)

    def forget(self, text: str) -> None:
        """Note that a file is gone."""
        for digest in self.of_file.pop(text, ()):
            self.users[digest] -= 1
            if not self.users[digest]:
                del self.users[digest]
                self.unused.add(digest)

    def remove(self, digest: str) -> None:
        """Note that a blob is gone."""
        self.removals += 1
        self.stored.discard(digest)
        self.unused.discard(digest)
