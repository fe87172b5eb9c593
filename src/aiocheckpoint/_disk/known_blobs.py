"""What one process remembers of a session's blobs; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class BlobUses:
    """
    Which blobs are in use: those that files name, those that they name, and so on.

    It counts who names each: files, and blobs in use. No blob can name itself, as its name follows
    from what it names; so where the count is 0, nothing leads to it.

    Args:
        under: what to begin with, itself under nothing; it is not changed.

    Attributes:
        users: how many files and blobs in use name a blob; only those that differ from `under`.
        links: what blobs name, of those where that is known; only those that `under` lacks.
        unused: digests of blobs that nothing leads to, as far as is known.
        unread: digests of blobs in use where it is not known what they name.
    """

    def __init__(self, under: BlobUses | None = None) -> None:
        self._under = under
        self._users_below: Mapping[str, int] = {} if under is None else under.users
        self.users: dict[str, int] = {}
        self.links: dict[str, tuple[str, ...]] = {}
        self.unused: set[str] = set()
        self.unread: set[str] = set()

    def copy(self) -> BlobUses:
        """Return the same, over the same."""
        copied = BlobUses(self._under)
        copied.users, copied.links = self.users.copy(), self.links.copy()
        copied.unused, copied.unread = self.unused.copy(), self.unread.copy()
        return copied

    def count(self, digest: str) -> int:
        """Return how many files and blobs in use name a blob."""
        found = self.users.get(digest)
        return self._users_below.get(digest, 0) if found is None else found

    def links_of(self, digest: str) -> tuple[str, ...] | None:
        """Return what a blob names, None where that is not known."""
        found = self.links.get(digest)
        return self._under.links_of(digest) if found is None and self._under else found

    def use(self, digests: Iterable[str]) -> None:
        """Note that one more names each of some blobs."""
        users, below = self.users, self._users_below  # a record names many: no call for each
        waiting = [*digests]
        while waiting:
            digest = waiting.pop()
            count = users.get(digest)
            if count is None:
                count = below.get(digest, 0)
            users[digest] = count + 1
            if count:
                continue
            self.unused.discard(digest)
            links = self.links_of(digest)
            if links is None:
                self.unread.add(digest)
            else:
                waiting += links

    def release(self, digests: Iterable[str]) -> None:
        """Note that one less names each of some blobs."""
        users, below = self.users, self._users_below  # a record names many: no call for each
        waiting = [*digests]
        while waiting:
            digest = waiting.pop()
            count = users.get(digest)
            if count is None:
                count = below.get(digest, 0)
            users[digest] = count = count - 1
            if count:
                continue
            if self._under is None:
                del self.users[digest]
            self.unused.add(digest)
            self.unread.discard(digest)
            waiting += self.links_of(digest) or ()

    def learn(self, digest: str, links: tuple[str, ...]) -> None:
        """Note what a blob names, which never changes."""
        if self.links_of(digest) is None:
            self.links[digest] = links
            self.unread.discard(digest)
            if self.count(digest):
                self.use(links)

    def all_unused(self) -> set[str] | None:
        """Return the blobs that nothing leads to; None if one in use may name any of them."""
        unused, unread = self.unused, self.unread
        if self._under is not None:
            unused, unread = unused | self._under.unused, unread | self._under.unread
        if any(self.links_of(digest) is None and self.count(digest) for digest in unread):
            return None
        return {digest for digest in unused if not self.count(digest)}


class KnownBlobs(BlobUses):
    """
    What is known of a session's blobs.

    Attributes:
        stored: digests of blobs that are there, with all that they lead to; there may be more.
        lost: digests of blobs that a read has found missing or damaged, and nobody has given since.
            One that is missing, and was not known either, is not among them: so there are no more
            than blobs, whatever is asked for, and a save looks for such a one anyway.
        of_file: the digests that a checkpoint file names, by the file's name.
        is_swept: whether what earlier processes left was looked for.
        removals: how many blobs were removed, or lost, since this is kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stored: set[str] = set()
        self.lost: set[str] = set()
        self.of_file: dict[str, tuple[str, ...]] = {}
        self.is_swept = False
        self.removals = 0

    def enter(self, text: str, digests: tuple[str, ...]) -> None:
        """Note what a file names."""
        before = self.of_file.get(text, ())
        self.of_file[text] = digests
        self.use(digests)
        self.release(before)

    def forget(self, text: str) -> None:
        """Note that a file is gone."""
        self.release(self.of_file.pop(text, ()))

    def store(
        self, digest: str, links: tuple[str, ...], *, is_whole: bool = True, is_again: bool = False
    ) -> None:
        """
        Note that a blob was saved, after all that it names or with it.

        Args:
            digest: of the blob.
            links: what it names.
            is_whole: whether we know that.
            is_again: whether it is told of a save that was noted before: a read may have found it
                damaged since.
        """
        self.learn(digest, links)
        if not is_again:
            if is_whole:
                self.stored.add(digest)
            self.lost.discard(digest)
        if not self.count(digest):
            self.unused.add(digest)

    def lacks(self, digest: str) -> bool:
        """Tell whether a blob is surely not there: all that are there are known."""
        return self.is_swept and not self._is_known(digest)

    def _is_known(self, digest: str) -> bool:
        return digest in self.links or digest in self.unused or self.count(digest) > 0

    def remove(self, digest: str) -> None:
        """Note that a blob is gone, and all that lead to it are, or go with it."""
        self.removals += 1
        self.stored.discard(digest)
        self.lost.discard(digest)
        self.unused.discard(digest)
        if not self.count(digest):
            self.links.pop(digest, None)

    def lose(self, digest: str, *, is_missing: bool = False) -> None:
        """Note that a read found a blob missing or damaged: what leads to it is not stored."""
        lost: set[str] = set()
        leading = {digest}
        while leading:
            lost |= leading
            leading = {
                parent
                for parent, links in self.links.items()
                if parent not in lost and not leading.isdisjoint(links)
            }
        self.stored -= lost
        if not is_missing or self._is_known(digest):
            self.lost.add(digest)
        self.removals += 1
