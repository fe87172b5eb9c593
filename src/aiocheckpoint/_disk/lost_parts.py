"""Parts of the log that nobody can read: which sessions they concern, and what goes on without."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from aiocheckpoint._disk.chain import Damage
from aiocheckpoint._disk.files import LocalFiles
from aiocheckpoint._disk.given_up import GivenUp
from aiocheckpoint._disk.log import Log
from aiocheckpoint.errors import JournalCorruptError


class LostParts:
    """
    What is damaged in one log, and was given up of it; nothing where there is no log.

    Args:
        files: the file operations.
        log_: the log; None for a root that has none and is only read.
        sessions: returns the directories of all sessions there are.

    Attributes:
        given_up: the parts that others go on without.
    """

    def __init__(
        self, files: LocalFiles, log_: Log | None, sessions: Callable[[], Iterable[str]]
    ) -> None:
        self._log = log_
        self._sessions = sessions
        self.given_up = GivenUp(files, None if log_ is None else log_.directory)

    @property
    def may_be_some(self) -> bool:
        """Whether any session may lack changes, as far as memory tells."""
        return self.has_damage or self.given_up.is_stale or self.given_up.concerns_some

    @property
    def has_damage(self) -> bool:
        """Whether a part of the log is damaged; from memory."""
        return self._log is not None and bool(self._log.damages)

    def damages(self) -> Iterator[Damage]:
        """Yield the damaged parts of the log of which no copy was kept, so that it may go on."""
        for damage in self._log.damages if self._log is not None else ():
            if not self.given_up.is_kept(damage.kept_name):
                yield damage

    def unreadable(self) -> list[Damage]:
        """Return those of them of which nobody can tell what they held."""
        return [damage for damage in self.damages() if damage.is_total]

    def path_of(self, session: str) -> str | None:
        """Return the path of a part that may hold changes of a session; None if there is none."""
        for damage in self.unreadable():
            return damage.path
        return next(iter(self.given_up.concerning(session)), None)

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
                copies.append(self.given_up.keep(damage.kept_name, data, sessions))
                unreadable += copies[-1:] if damage.is_total else ()
        return copies, unreadable
