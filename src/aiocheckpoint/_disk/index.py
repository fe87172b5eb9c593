"""What one process remembers of sessions, so that no call has to list them again; pure."""

from __future__ import annotations

import bisect
import errno
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aiocheckpoint._disk.known_blobs import KnownBlobs
from aiocheckpoint._format.entries import Entry, Quarantined, Removed, Saved, SavedBlob
from aiocheckpoint._format.ids import names_of_id
from aiocheckpoint._format.names import (
    BACKUP_SUFFIX,
    FileName,
    ending,
    fine_name,
    id_of_name,
    parse_name,
)
from aiocheckpoint.errors import StorageError
from aiocheckpoint.models import CheckpointId, CheckpointMeta

_MAX_LOOKS = 4
_FEW = 1000


class Signature(NamedTuple):
    """
    Changes whenever somebody makes, removes or renames a file in the directory.

    Attributes:
        device: of the directory.
        inode: of the directory; 0 where there is none.
        modified_ns: its last change.
    """

    device: int = 0
    inode: int = 0
    modified_ns: int = 0


class SessionIndex:
    """
    The checkpoint files of one session, in the order of saving.

    Args:
        names: of the files, oldest first.
        backups: as below.
        signature: as below.
        fine: the same as `names`, which is empty then, as `fine_names` returns them: taken apart
            when that is asked for, as a session that is read once need not be.

    Attributes:
        backups: names of the backup files, oldest first.
        signature: of the directory when the index was last known to be right.
        metas: listing entries of files seen, by name, with the status they had.
        unread: files whose names do not tell their ids; known once `greatest_ids` was called.
        last_stamped: the file, there or removed meanwhile, that the next save is named after.
        identities: ids that files hold for sure, by their names.
        is_assumed: whether changes of our own were entered without reading the directory again.
        is_being_applied: whether this process is changing the directory just now.
        error: why its directory could not be listed: it knows what is in the log alone then.
        has_remains: whether its directory was there, and none of its checkpoints in it.
        has_leftovers: whether temporary files were seen.
        are_blobs_clean: whether this process has removed such files of its blobs.
        pointed: what this process has let `latest.json` name.
        has_blobs: whether the session has, or had, blobs.
        blobs: what is known of them; None before that was asked.
        mutex: held for each short look or change.
    """

    def __init__(
        self,
        names: Iterable[FileName],
        backups: Iterable[str],
        signature: Signature,
        *,
        fine: list[str] | None = None,
    ) -> None:
        self._fine = fine
        self._names = list(names)
        self._by_text = {name.text: name for name in self._names}
        self._parsing = threading.Lock()
        self.backups = list(backups)
        self.signature = signature
        self.metas: dict[str, tuple[tuple[int, ...] | None, CheckpointMeta]] = {}
        self.last_stamped = fine_name(fine[-1]) if fine else max(self._names, default=None)
        self.identities: dict[str, CheckpointId] = {}
        self.is_assumed = False
        self.is_being_applied = False
        self.error: StorageError | None = None
        self.has_remains = False
        self.has_leftovers = False
        self.are_blobs_clean = False
        self.pointed: str | None = None
        self.has_blobs = False
        self.blobs: KnownBlobs | None = None
        self.unread: set[FileName] = set()
        self._state: int | None = None  # an update alone asks for it
        self._ids: list[CheckpointId] | None = None
        self.mutex = threading.Lock()
        # Of a session that is looked at once, it takes longer to make than to do without.
        self._by_id_name: dict[str, list[FileName]] | None = None
        self._looks = 0

    @property
    def names(self) -> list[FileName]:
        """The files, oldest first."""
        self._parse()
        return self._names

    @property
    def by_text(self) -> dict[str, FileName]:
        """The files by their whole names."""
        self._parse()
        return self._by_text

    def _parse(self) -> None:
        if self._fine is not None:
            with self._parsing:
                if self._fine is not None:
                    self._names = [*map(fine_name, self._fine)]
                    self._by_text = dict(zip(self._fine, self._names, strict=True))
                    self._fine = None

    @property
    def state(self) -> int:
        """
        The same for the same files, whoever has listed them, as names are given once.

        Else another, but for one in 2**64. It changes after what it stands for, so who reads it
        first knows afterwards whether what was read next was of one moment.
        """
        with self.mutex:
            return self._known_state()

    def _known_state(self) -> int:
        if self._state is None:
            fine = self._fine
            self._state = sum(map(hash, self._by_text if fine is None else fine))
        return self._state

    @property
    def count(self) -> int:
        """How many files there are."""
        fine = self._fine
        return len(self._names if fine is None else fine)

    def inherit(self, earlier: SessionIndex) -> None:
        """Take over what an earlier index of the session knew and is still right."""
        metas = earlier.metas.copy()  # readers of the earlier index may be adding to it
        self.metas = {key: meta for key, meta in metas.items() if key in self.by_text}
        stamped = [name for name in (self.last_stamped, earlier.last_stamped) if name is not None]
        self.last_stamped = max(stamped, default=None)
        self.identities = {
            text: found for text, found in earlier.identities.copy().items() if text in self.by_text
        }
        is_same = self.signature.inode == earlier.signature.inode
        self.are_blobs_clean = earlier.are_blobs_clean and is_same
        if earlier.blobs is not None and is_same:
            self.blobs = earlier.blobs
            for text in self.blobs.of_file.keys() - self.by_text.keys():
                self.blobs.forget(text)

    def apply(
        self,
        entry: Entry,
        names: Mapping[str, FileName] = {},
        *,
        is_ours: bool = False,
        is_again: bool = False,
    ) -> None:
        """
        Enter what the log says.

        Args:
            entry: of the log.
            names: may have the names in it, taken apart.
            is_ours: whether this process has made it. A blob of others may be damaged in the log,
                and is read before a save relies on it.
            is_again: whether it was entered before, in what this index has inherited: a blob that
                a read has found damaged since is not whole by it.
        """
        match entry:
            case Saved():
                name = names.get(entry.name) or parse_name(entry.name)
                if name is None:
                    return
                self.identities[entry.name] = entry.checkpoint_id
                self.add(name)
                if entry.blobs or self.blobs is not None:
                    with self.mutex:
                        self.has_blobs = True
                        self.blobs = self.blobs or KnownBlobs()
                        self.blobs.enter(entry.name, tuple(map(bytes.hex, entry.blobs)))
            case SavedBlob():
                with self.mutex:
                    self.has_blobs = True
                    self.blobs = self.blobs or KnownBlobs()
                    links = tuple(map(bytes.hex, entry.links))
                    digest = entry.digest.hex()
                    self.blobs.store(digest, links, is_whole=is_ours, is_again=is_again)
            case Removed():
                for text in entry.names:
                    self._take_out(text)
                with self.mutex:
                    if self.blobs is not None:
                        for blob in entry.blobs:
                            self.blobs.remove(blob.hex())
            case Quarantined():
                self._take_out(entry.name)
                with self.mutex:
                    if entry.is_blob and self.blobs is not None:
                        self.blobs.lose(entry.name)
                        self.blobs.remove(entry.name)
            case _:
                pass

    def lose_blob(self, digest: str, *, is_missing: bool) -> None:
        """Note that a read did not find a blob intact, or did not find it."""
        with self.mutex:
            if self.blobs is not None:
                self.blobs.lose(digest, is_missing=is_missing)

    def _take_out(self, text: str) -> None:
        name = self.by_text.get(text)
        if name is not None:
            self.remove(name)
        else:  # its name is not to be given again
            gone = parse_name(text)
            if gone is not None:
                self.last_stamped = max(gone, self.last_stamped or gone)

    def _enter(self, name: FileName) -> None:
        self._by_text[name.text] = name
        if self._by_id_name is not None:
            _enter_id_names(name, self._by_id_name)
        if self._state is not None:
            self._state += hash(name.text)

    @property
    def newest(self) -> FileName | None:
        """The file saved last, None when there is none."""
        fine = self._fine
        try:
            return self._names[-1] if fine is None else fine_name(fine[-1])
        except IndexError:
            return None

    @property
    def has_directory(self) -> bool:
        """Whether there was a directory, if only an empty one, when that was last looked at."""
        return self.signature.inode != 0 or self.has_remains

    def require_complete(self) -> None:
        """
        Refuse to answer for all that is in the directory, if that could not be listed.

        Of what is no directory the log has all that can be told.

        Raises:
            StorageError: it could not.
        """
        if self.error is not None and self.error.errno != errno.ENOTDIR:
            raise self.error

    def newest_first(self) -> list[FileName]:
        """Return all files, the one saved last first."""
        with self.mutex:
            return self.names[::-1]

    def oldest(self, count: int) -> list[FileName]:
        """Return so many files, the one saved first first."""
        with self.mutex:
            return self.names[:count]

    def texts_but(self, known: Mapping[str, object]) -> set[str]:
        """Return the names of files that are not among those known, mostly none, in no order."""
        texts = self.by_text.keys()
        return set() if texts <= known.keys() else texts - known.keys()

    def orphans(self) -> list[FileName]:
        """Return the files that somebody else has removed, and whose backups are there still."""
        files = (parse_name(backup.removesuffix(BACKUP_SUFFIX)) for backup in self.backups[:])
        return [file for file in files if file is not None and file.text not in self.by_text]

    def finds_at_once(self) -> bool:
        """Tell, without waiting, whether `candidates` need not go through many files."""
        return self._by_id_name is not None or self.count <= _FEW

    def may_hold(self, checkpoint_id: CheckpointId) -> bool:
        """Tell, without waiting, whether some file may hold an id."""
        return bool(self._named(checkpoint_id))

    def candidates(self, checkpoint_id: CheckpointId) -> list[FileName]:
        """Return the files that may hold an id, newest first; their bodies decide."""
        with self.mutex:
            if self._by_id_name is None and self._looks >= _MAX_LOOKS:
                by_id_name: dict[str, list[FileName]] = {}
                for name in self.names:
                    _enter_id_names(name, by_id_name)
                self._known_state()  # of many files, whoever asks next may be a loop
                self._by_id_name = by_id_name
            self._looks += 1
            found = self._named(checkpoint_id)
            if len(found) < 2:
                return [*found]
            if any(name.is_rust for name in found):  # then stamps do not tell the order
                return sorted(found, key=self.names.index, reverse=True)
        return sorted(found, reverse=True)

    def _named(self, checkpoint_id: CheckpointId) -> set[FileName]:
        wanted = names_of_id(checkpoint_id)
        known = self._by_id_name
        if known is not None and known.keys().isdisjoint(wanted):  # as those of an id that is new
            return set()
        if known is not None:
            return {name for id_name in wanted for name in known.get(id_name, ())}
        ends = tuple(f"_{id_name}.json" for id_name in wanted)
        fine = self._fine
        if fine is not None:
            likely = [fine_name(text) for end in ends for text in ending(fine, end)]
        else:  # to which others may be adding
            likely = [name for name in self._names[:] if name.text.endswith(ends)]
        return {name for name in likely if not set(wanted).isdisjoint(name.id_names)}

    def add(self, name: FileName) -> None:
        """Enter a file, mostly the newest, if it is not there."""
        with self.mutex:
            self._parse()
            if name.text in self._by_text:
                return
            names = self._names
            if names and name < names[-1]:  # one that was restored
                bisect.insort(names, name)
            else:
                names.append(name)
            if self.last_stamped is None or name > self.last_stamped:
                self.last_stamped = name
            if self._ids is not None:
                self._enter_id(name, self._ids)
            self._enter(name)

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

    def has_ids(self) -> bool:
        """Tell, without waiting, whether `greatest_ids` answers at once and for all files."""
        return self._ids is not None and not self.unread and not self.mutex.locked()

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
            self.identities.pop(name.text, None)
            if self.blobs is not None:
                self.blobs.forget(name.text)
            self.unread.discard(name)
            if self._ids is not None and (found := id_of_name(name)) is not None:
                del self._ids[bisect.bisect_left(self._ids, found)]
            if self._by_id_name is not None:
                _take_out_id_names(name, self._by_id_name)
            if self._state is not None:
                self._state -= hash(name.text)


def _enter_id_names(name: FileName, known: dict[str, list[FileName]]) -> None:
    for id_name in name.id_names:
        if id_name in known:
            known[id_name].append(name)
        else:
            known[id_name] = [name]


def _take_out_id_names(name: FileName, known: dict[str, list[FileName]]) -> None:
    for id_name in name.id_names:
        remaining = [other for other in known[id_name] if other != name]
        if remaining:
            known[id_name] = remaining
        else:
            del known[id_name]


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

    @property
    def all(self) -> Mapping[str, SessionIndex]:
        """The indexes by session, to look at without counting them as used."""
        return self._indexes

    def get(self, session_name: str) -> SessionIndex | None:
        """Return the index of a session and count it as used."""
        with self._mutex:
            index = self._indexes.get(session_name)
            if index is not None:
                self._indexes.move_to_end(session_name)
                self._count(session_name, index)
            return index

    def peek(self, session_name: str) -> SessionIndex | None:
        """Return the index of a session without counting it as used."""
        return self._indexes.get(session_name)

    def put(self, session_name: str, index: SessionIndex) -> None:
        """Remember an index, forgetting those used longest ago."""
        with self._mutex:
            self._use(session_name, index)

    def clear(self) -> None:
        """Forget all sessions."""
        with self._mutex:
            self._indexes.clear()
            self._counted.clear()
            self._files = 0

    def drop(self, session_name: str) -> None:
        """Forget a session, so that the next call scans its directory."""
        with self._mutex:
            self._forget(session_name)

    def _use(self, session_name: str, index: SessionIndex) -> None:
        self._forget(session_name)
        self._indexes[session_name] = index
        self._count(session_name, index)

    def _count(self, session_name: str, index: SessionIndex) -> None:
        """Count the files of an index anew, since it may have grown; there may be too many now."""
        count = index.count
        self._files += count - self._counted.get(session_name, 0)
        self._counted[session_name] = count
        while len(self._indexes) > 1 and (
            len(self._indexes) > self._max_sessions or self._files > self._max_files
        ):
            self._forget(next(iter(self._indexes)))

    def _forget(self, session_name: str) -> None:
        self._indexes.pop(session_name, None)
        self._files -= self._counted.pop(session_name, 0)
