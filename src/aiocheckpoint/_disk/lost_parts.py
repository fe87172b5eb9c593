"""Parts of the log that nobody can read: which sessions they concern, and what goes on without."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import NamedTuple

from aiocheckpoint._disk.files import Directory, LocalFiles, random_name
from aiocheckpoint._disk.log import Log
from aiocheckpoint._disk.segments import Damage
from aiocheckpoint._format.names import QUARANTINE_DIRECTORY, TEMP_PREFIX
from aiocheckpoint.errors import JournalCorruptError, StorageError

_PREFIX = "journal-"
_SESSIONS_SUFFIX = ".sessions"


class Part(NamedTuple):
    """
    A damaged part of the log that was given up.

    Attributes:
        name: of the copy that is kept.
        path: of that; where it would be, if it was removed since.
        since_ns: when it was given up, ns since 1970; None for one that was removed.
        sessions: directories of those that may lack changes, and were not recovered since.
    """

    name: str
    path: str
    since_ns: int | None
    sessions: frozenset[str]


class LostParts:
    """
    What is damaged in one log, and what was given up of it; nothing where there is no log.

    Of each part that was given up there is a copy in the quarantine. Beside it is a directory with
    an empty file for each session there was: it goes when that session is recovered, or all of them
    at once, by hand.

    Args:
        files: the file operations.
        log_: the log; None for a root that has none and is only read.
        sessions: returns the directories of all sessions there are.

    Attributes:
        is_stale: whether another process may have given up something since this one looked.
    """

    def __init__(
        self, files: LocalFiles, log_: Log | None, sessions: Callable[[], Iterable[str]]
    ) -> None:
        self._files = files
        self._log = log_
        self._sessions = sessions
        self._parent = None if log_ is None else log_.directory
        path = "" if self._parent is None else self._parent.join(QUARANTINE_DIRECTORY)
        self._place = Directory(path, None)
        self._mutex = threading.Lock()
        self._concerned: dict[str, frozenset[str]] = {}
        self.is_stale = True

    @property
    def may_be_some(self) -> bool:
        """Whether any session may lack changes, as far as memory tells."""
        return self.has_damage or self.is_stale or self.concerns_some

    @property
    def has_damage(self) -> bool:
        """Whether a part of the log is damaged; from memory."""
        return self._log is not None and bool(self._log.damages)

    def damages(self) -> Iterator[Damage]:
        """Yield the damaged parts of the log of which no copy was kept, so that it may go on."""
        for damage in self._log.damages if self._log is not None else ():
            if not self._is_kept(damage.kept_name):
                yield damage

    def unreadable(self) -> list[Damage]:
        """Return those of them of which nobody can tell what they held."""
        return [damage for damage in self.damages() if damage.is_total]

    def path_of(self, session: str) -> str | None:
        """Return the path of a part that may hold changes of a session; None if there is none."""
        for damage in self.unreadable():
            return damage.path
        return next(iter(self.concerning(session)), None)

    def require_none(self, session_id: str, session: str) -> None:
        """
        Refuse to answer of a session while changes of it may be lost with a part of the log.

        Args:
            session_id: the session.
            session: its directory.

        Raises:
            JournalCorruptError: nobody can tell what stood there; `recover` goes on knowingly.
        """
        path = self.path_of(session)
        if path is not None:
            raise JournalCorruptError(path, session_id)

    def keep(self) -> tuple[list[str], list[str]]:
        """
        Keep copies of the damaged parts of the log, so that it may go on without them.

        Returns:
            the paths of the copies made, and those of parts of which nobody can tell what they
            held.
        """
        copies: list[str] = []
        unreadable: list[str] = []
        for damage in self.damages():
            data = None if self._log is None else self._log.segment_of(damage)
            if data is not None:
                sessions = self._sessions() if damage.is_total else None
                copies.append(self._keep(damage.kept_name, data, sessions))
                unreadable += copies[-1:] if damage.is_total else ()
        return copies, unreadable

    # What was given up

    @property
    def concerns_some(self) -> bool:
        """Whether some session may lack changes, as it was when somebody looked last."""
        return bool(self._concerned)

    def _is_kept(self, name: str) -> bool:
        """Tell whether there is a copy of a part, so that the log may go on without it."""
        return self._files.status_of_path(self._place.join(name)) is not None

    def _keep(self, name: str, data: bytes, sessions: Iterable[str] | None) -> str:
        """
        Keep a copy of a part, durably; return its path.

        Args:
            name: of the copy.
            data: of the segment.
            sessions: directories of those that may have had changes there; None where it is
                known what was there, and those are damaged that it concerns.
        """
        if self._parent is None:
            raise StorageError("open directory", self._place.path, None, "it is not there")
        files = self._files
        files.make_subdirectory(self._parent, QUARANTINE_DIRECTORY)
        files.sync_directory(self._parent)
        opened = files.require_subdirectory(self._parent, QUARANTINE_DIRECTORY)
        with files.closing(opened) as quarantine:
            if sessions is not None:  # first, for with the copy there the log goes on
                self._note(quarantine, name + _SESSIONS_SUFFIX, sessions)
            files.replace(quarantine, name, data)
        self.is_stale = True
        return self._place.join(name)

    def _note(self, quarantine: Directory, name: str, sessions: Iterable[str]) -> None:
        """Note which sessions a part concerns: all or none, and as it was where it is noted."""
        files, temporary = self._files, random_name(TEMP_PREFIX)
        files.make_subdirectory(quarantine, temporary)
        with files.closing(files.require_subdirectory(quarantine, temporary)) as noted:
            for session in sessions:
                files.close(files.write_new(noted, session, b"", 0), noted.join(session))
            files.sync_directory(noted)
            if files.status(quarantine, name) is None:
                files.rename(quarantine, temporary, name)
                files.sync_directory(quarantine)  # or a crash may leave the copy alone
                return
            for session in files.scan(noted):
                files.discard(noted, session)
        files.remove_subdirectory(quarantine, temporary)

    def concerning(self, session: str) -> list[str]:
        """Return the paths of the parts for which a session has to be recovered."""
        with self._mutex:
            if self.is_stale:
                self._look()
            return [
                self._place.join(name)
                for name, sessions in self._concerned.items()
                if session in sessions and self._is_noted(name, session)
            ]

    def _is_noted(self, name: str, session: str) -> bool:
        noted = self._place.join(name + _SESSIONS_SUFFIX, session)
        return self._files.status_of_path(noted) is not None

    def settle(self, session: str) -> None:
        """Let a session go on without what was given up, durably."""
        for part in self.parts():
            with (
                self._opened() as quarantine,
                self._opened_in(quarantine, part.name + _SESSIONS_SUFFIX) as noted,
            ):
                if noted is not None and self._files.unlink(noted, session):
                    self._files.sync_directory(noted)

    def parts(self) -> list[Part]:
        """Return what was given up and is kept, or still concerns a session."""
        with self._opened() as quarantine:
            if quarantine is None:
                return []
            entries = self._files.scan(quarantine)
            noted = [entry for entry in sorted(entries) if entry.endswith(_SESSIONS_SUFFIX)]
            names = [entry.removesuffix(_SESSIONS_SUFFIX) for entry in noted]
            return [self._part(quarantine, name) for name in names if name.startswith(_PREFIX)]

    def _part(self, quarantine: Directory, name: str) -> Part:
        status = self._files.status(quarantine, name)
        with self._opened_in(quarantine, name + _SESSIONS_SUFFIX) as noted:
            sessions = frozenset(() if noted is None else self._files.scan(noted))
        path = self._place.join(name)
        return Part(name, path, status and status.modified_ns, sessions)

    def _look(self) -> None:
        self.is_stale = False
        try:
            found = {part.name: part.sessions for part in self.parts() if part.sessions}
        except BaseException:
            self.is_stale = True
            raise
        self._concerned = found

    def _opened(self) -> contextlib.AbstractContextManager[Directory | None]:
        return self._opened_in(self._parent, QUARANTINE_DIRECTORY)

    @contextlib.contextmanager
    def _opened_in(self, parent: Directory | None, name: str) -> Generator[Directory | None]:
        try:
            found = None if parent is None else self._files.open_subdirectory(parent, name)
        except StorageError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            found = None  # a file or a symlink is not of ours
        with self._files.closing(found):
            yield found
