"""What one process remembers of a session's directory, so that no call has to scan it again; pure."""

from __future__ import annotations

import bisect
import threading
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable
from typing import NamedTuple

from aiocheckpoint._format.names import FileName, id_of_name, names_of_id, parse_name
from aiocheckpoint._format.retention import surplus
from aiocheckpoint.models import CheckpointId, CheckpointMeta


class Signature(NamedTuple):
    """
    Changes whenever somebody saves, deletes or replaces in the directory.

    Attributes:
        inode: of the directory.
        modified_ns: its last change; coarse on older kernels, hence the pointer beside it.
        pointed: what `latest.json` names.
    """

    inode: int
    modified_ns: int
    pointed: str | None


class KnownBlobs:
    """
    What is known of a session's blobs; changed only with the session's lock held.

    Attributes:
        generation: new whenever somebody removes blobs; `stored` is right for this one.
        stored: digests of blobs that are there, intact and durable; there may be more.
        is_swept: whether what earlier processes left was looked for.
        is_linked: whether this process has made the directory's own entry durable.
        of_file: the digests that a checkpoint file refers to, by the file's name.
        users: how many of those files refer to a digest.
        unused: digests of blobs that no file refers to, as far as is known.
    """

    def __init__(self) -> None:
        self.generation: str | None = None
        self.stored: set[str] = set()
        self.is_swept = False
        self.is_linked = False
        self.of_file: dict[str, tuple[str, ...]] = {}
        self.users: Counter[str] = Counter()
        self.unused: set[str] = set()

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


class SessionIndex:
    """
    The checkpoint files of one session, in the order of saving.

    Attributes:
        names: oldest first.
        backups: names of the backup files, oldest first.
        signature: of the directory when the index was last known to be right.
        metas: listing entries of files seen, by name, with the status they had.
        by_text: the files by their whole names.
        unread: files whose names do not tell their ids; known once `greatest_ids` was called.
        last_stamped: the file, there or removed meanwhile, that the next save is named after.
        is_assumed: whether changes of our own were entered without reading the directory again.
        has_leftovers: whether temporary files of crashed saves were seen and left.
        entries_synced: whether this process has made the directory's own entry durable.
        blobs: what is known of the session's blobs; None when it has none.
        mutex: held for each short look or change; readers and the session's lane share it.
    """

    def __init__(
        self, names: Iterable[FileName], backups: Iterable[str], signature: Signature
    ) -> None:
        self.names = list(names)
        self.backups = list(backups)
        self.signature = signature
        self.metas: dict[str, tuple[tuple[int, ...], CheckpointMeta | None]] = {}
        self.last_stamped = max(self.names, default=None)
        self.is_assumed = False
        self.has_leftovers = False
        self.entries_synced = False
        self.by_text: dict[str, FileName] = {}
        self.blobs: KnownBlobs | None = None
        self.unread: set[FileName] = set()
        self._ids: list[CheckpointId] | None = None
        self.mutex = threading.Lock()
        self._by_id_name: dict[str, list[FileName]] = {}
        for name in self.names:
            self._enter(name)

    def inherit(self, earlier: SessionIndex) -> None:
        """Take over what an earlier index of the session knew and is still right."""
        metas = earlier.metas.copy()  # readers of the earlier index may be adding to it
        self.metas = {key: meta for key, meta in metas.items() if key in self.by_text}
        stamped = [name for name in (self.last_stamped, earlier.last_stamped) if name is not None]
        self.last_stamped = max(stamped, default=None)
        same_directory = self.signature.inode == earlier.signature.inode
        self.entries_synced = earlier.entries_synced and same_directory
        if self.blobs is not None and earlier.blobs is not None and same_directory:
            self.blobs = earlier.blobs
            for text in self.blobs.of_file.keys() - self.by_text.keys():
                self.blobs.forget(text)

    def never_give_again(self, texts: Iterable[str]) -> None:
        """Let the next saves be named after files that failed saves have left or removed."""
        names = [name for name in map(parse_name, texts) if name is not None]
        self.last_stamped = max([*names, *filter(None, [self.last_stamped])], default=None)

    def _enter(self, name: FileName) -> None:
        self.by_text[name.text] = name
        for id_name in name.id_names:
            self._by_id_name.setdefault(id_name, []).append(name)

    @property
    def newest(self) -> FileName | None:
        """The file saved last, None when there is none."""
        with self.mutex:
            return self.names[-1] if self.names else None

    def newest_first(self) -> list[FileName]:
        """Return all files, the one saved last first."""
        with self.mutex:
            return self.names[::-1]

    def newest_besides(self, doomed: Collection[FileName]) -> FileName | None:
        """Return the file saved last that is not among `doomed`, None when there is none."""
        with self.mutex:
            return next((name for name in reversed(self.names) if name not in doomed), None)

    def surplus(self, max_kept: int | None) -> list[FileName]:
        """Return the files to remove, oldest first, so that the newest `max_kept` stay."""
        with self.mutex:
            return [*surplus(self.names, max_kept)]

    def candidates(self, checkpoint_id: CheckpointId) -> list[FileName]:
        """Return the files that may hold an id, newest first; their bodies decide."""
        with self.mutex:
            found = {n for key in names_of_id(checkpoint_id) for n in self._by_id_name.get(key, ())}
            if any(name.is_rust for name in found):  # then stamps do not tell the order
                return sorted(found, key=self.names.index, reverse=True)
        return sorted(found, reverse=True)

    def add(self, name: FileName) -> None:
        """Enter the newest file."""
        with self.mutex:
            self.names.append(name)
            self.last_stamped = max(name, self.last_stamped or name)
            self._enter(name)
            if self._ids is not None:
                self._enter_id(name, self._ids)

    def greatest_ids(
        self, prefix: str, before: CheckpointId | None, limit: int | None
    ) -> list[CheckpointId]:
        """Return the ids that names tell, those with a prefix and below another, greatest first."""
        with self.mutex:
            ids = self._sorted_ids()
            end = bisect.bisect_right(ids, prefix, key=lambda found: found[: len(prefix)])
            if before is not None:
                end = min(end, bisect.bisect_left(ids, before))
            start = bisect.bisect_left(ids, prefix)
            if limit is not None:
                start = max(start, end - 2 * limit)  # of some there may be two files
            return list(dict.fromkeys(ids[start:end][::-1]))[:limit]

    def unread_names(self) -> list[FileName]:
        """Return the files whose names do not tell their ids; call `greatest_ids` first."""
        with self.mutex:
            return [*self.unread]

    def _sorted_ids(self) -> list[CheckpointId]:
        if self._ids is None:
            ids: list[CheckpointId] = []
            for name in self.names:
                self._enter_id(name, ids, is_sorted=False)
            ids.sort()
            self._ids = ids
        return self._ids

    def _enter_id(self, name: FileName, ids: list[CheckpointId], *, is_sorted: bool = True) -> None:
        found = id_of_name(name)
        if found is None:
            self.unread.add(name)
        elif is_sorted:
            bisect.insort(ids, found)
        else:
            ids.append(found)

    def remove(self, name: FileName) -> None:
        """Take out a file."""
        with self.mutex:
            position = bisect.bisect_left(self.names, name)
            if self.names[position : position + 1] != [name]:  # Rust's order within a second
                position = self.names.index(name)
            del self.names[position]
            del self.by_text[name.text]
            self.metas.pop(name.text, None)
            if self.blobs is not None:
                self.blobs.forget(name.text)
            self.unread.discard(name)
            if self._ids is not None and (found := id_of_name(name)) is not None:
                del self._ids[bisect.bisect_left(self._ids, found)]
            for id_name in name.id_names:
                remaining = [other for other in self._by_id_name[id_name] if other != name]
                if remaining:
                    self._by_id_name[id_name] = remaining
                else:
                    del self._by_id_name[id_name]


class IndexCache:
    """
    The indexes used last, bounded in sessions and in files.

    Args:
        max_sessions: how many sessions to remember.
        max_files: how many files in all; one session may exceed it alone.
    """

    def __init__(self, max_sessions: int = 1024, max_files: int = 200_000) -> None:
        self._max_sessions = max_sessions
        self._max_files = max_files
        self._indexes: OrderedDict[str, SessionIndex] = OrderedDict()
        self._counted: dict[str, int] = {}
        self._files = 0
        self._mutex = threading.Lock()

    def __len__(self) -> int:
        return len(self._indexes)

    def get(self, session_name: str) -> SessionIndex | None:
        """Return the index of a session and count it as used."""
        with self._mutex:
            index = self._indexes.get(session_name)
            if index is not None:
                self._use(session_name, index)
            return index

    def put(self, session_name: str, index: SessionIndex) -> None:
        """Remember an index, forgetting those used longest ago."""
        with self._mutex:
            self._use(session_name, index)

    def drop(self, session_name: str) -> None:
        """Forget a session, so that the next call scans its directory."""
        with self._mutex:
            self._forget(session_name)

    def _use(self, session_name: str, index: SessionIndex) -> None:
        """Put an index last, its files counted anew, since it may have grown."""
        self._forget(session_name)
        self._indexes[session_name] = index
        self._counted[session_name] = len(index.names)
        self._files += len(index.names)
        while len(self._indexes) > 1 and (
            len(self._indexes) > self._max_sessions or self._files > self._max_files
        ):
            self._forget(next(iter(self._indexes)))

    def _forget(self, session_name: str) -> None:
        self._indexes.pop(session_name, None)
        self._files -= self._counted.pop(session_name, 0)
