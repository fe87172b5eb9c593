"""Which sessions there are under a root."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from aiocheckpoint._disk.files import NOT_FOLLOWED, Directory, FileStatus, LocalFiles, absolute
from aiocheckpoint._disk.index import SessionIndex
from aiocheckpoint._engine.bodies import Bodies, VanishedError
from aiocheckpoint._format import documents, names
from aiocheckpoint._format.ids import decode_id, encode_id, find_session_id, may_be_session
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointMismatchError,
    LostIdError,
    StorageError,
)
from aiocheckpoint.models import SessionId

ResultT = TypeVar("ResultT")


def session_names(bodies: Bodies, prefix: str = "") -> list[str]:
    """Return the names of directories, there or to come, of sessions whose ids may begin so."""
    return sorted(
        name
        for name in _all_names(bodies)
        if may_be_session(name) and (decode_id(name) or prefix).startswith(prefix)
    )


def directory_names(bodies: Bodies) -> list[str]:
    """Return the names of all directories of checkpoints, also of those that Rust alone finds."""
    return sorted(
        name
        for name in _all_names(bodies) - {names.PRIVATE_DIRECTORY}
        if may_be_session(name) or _has_checkpoints(bodies, name)
    )


def is_store(bodies: Bodies) -> bool:
    """Tell whether anybody has ever saved under a root."""
    if bodies.view.log is not None:
        return True
    return any(_holds_checkpoints(bodies, name) for name in session_names(bodies))


class Mark(NamedTuple):
    """
    What tells a root from all others, by whatever path it was opened.

    Attributes:
        own: the root; empty where it is not there yet.
        around: it, if it is there, and the directories around it.
    """

    own: str
    around: tuple[str, ...]

    @classmethod
    def of_path(cls, files: LocalFiles, path: str) -> Mark:
        """Return the mark of a root."""
        place = absolute(path)
        status = files.status_of_path(place)
        own = "" if status is None else _told(status)
        while status is None:  # it would be made there
            place = place.rstrip("/").rpartition("/")[0] or "/"
            status = files.status_of_path(place)
        around: list[str] = []
        while status is not None and _told(status) not in around:
            around.append(_told(status))
            place = Directory(place, None).join("..")
            status = files.status_of_path(place)
        return cls(own, tuple(around))

    @classmethod
    def parsed(cls, text: str) -> Mark:
        """Return the mark that `str` gave for it."""
        own, _, around = text.partition(":")
        return cls(own, tuple(around.split(",")))

    def __str__(self) -> str:
        return f"{self.own}:{','.join(self.around)}"

    def meets(self, other: Mark) -> bool:
        """Tell whether both are one place, or one is within the other."""
        is_around = self.own != "" and self.own in other.around
        return is_around or (other.own != "" and other.own in self.around)


def _told(status: FileStatus) -> str:
    device, inode = status.identity
    return f"{device}-{inode}"


def _all_names(bodies: Bodies) -> set[str]:
    view = bodies.view
    view.follow()
    return {*view.files.scan(view.sessions.root), *view.pending_sessions()}


def _has_checkpoints(bodies: Bodies, name: str) -> bool:
    with contextlib.suppress(StorageError), bodies.view.sessions.above(name) as above:
        status = above and bodies.view.files.status(above, names.CHECKPOINTS_DIRECTORY)
        return status is not None and status.is_directory
    return False


def _holds_checkpoints(bodies: Bodies, name: str) -> bool:
    try:
        return session_id_of(bodies, name) is not None
    except StorageError:  # it cannot be looked into, and may be anybody's
        return False
    except CheckpointError:
        return True


def found_in(
    sessions: Iterable[str], look: Callable[[str], Iterable[ResultT]]
) -> tuple[list[ResultT], list[CheckpointError]]:
    """Return what is found in all sessions, and why of some nobody can tell."""
    found: list[ResultT] = []
    errors: list[CheckpointError] = []
    for session in sessions:
        try:
            found += look(session)
        except CheckpointError as error:
            errors.append(error)
    return found, errors


def session_ids(
    bodies: Bodies, found: list[str], lookup: Callable[[str], SessionIndex], prefix: str = ""
) -> tuple[list[SessionId], list[CheckpointError]]:
    """
    Return the ids of those sessions that have checkpoints, and why of some nobody can tell.

    Args:
        bodies: their contents.
        found: their directories.
        lookup: as of `session_id_of`.
        prefix: of the ids that are wanted.
    """

    def look(name: str) -> Iterator[SessionId]:
        session_id = session_id_of(bodies, name, lookup)
        if session_id is not None and session_id.startswith(prefix):
            yield session_id

    return found_in(found, look)


def session_id_of(
    bodies: Bodies, name: str, lookup: Callable[[str], SessionIndex] | None = None
) -> SessionId | None:
    """
    Return the id of the session in a directory; None when it holds no checkpoints.

    Args:
        bodies: the contents of its checkpoints.
        name: of the directory.
        lookup: tells what is in it; None: as it is right now.

    Raises:
        StorageError: its directory cannot be looked into.
        CheckpointError: its id is not in its name, and none of its checkpoints can be read.
    """
    if not is_directory(bodies, name):
        return None
    index = (lookup or bodies.view.lookup)(name)
    if index.newest is None:
        index.require_complete()
        return None
    known = decode_id(name)
    return _id_in_bodies(bodies, name, index) if known is None else known


def _id_in_bodies(bodies: Bodies, name: str, index: SessionIndex) -> SessionId | None:
    """
    Return the id of a session whose name is a digest; what proves it may be damaged otherwise.

    Raises:
        LostIdError: nothing there tells it.
        CheckpointError: something there might, and could not be read.
    """
    refused: list[CheckpointError] = []
    for file in [*(found.text for found in index.newest_first()), *index.backups]:
        path = bodies.path(name, file)
        try:
            found = documents.identity(bodies.text(name, file), path)
        except CheckpointCorruptError as error:
            refused.append(error)
            proven = _proven_id(bodies, name, file)
            if proven is not None:
                return proven
        except CheckpointError as error:
            refused.append(error)
        except VanishedError:
            continue
        else:
            if encode_id(found.session_id, "session id") == name:
                return found.session_id
            there = (found.session_id, found.checkpoint_id)
            refused.append(CheckpointMismatchError(path, there, (name, None)))
    for each in refused:
        if not isinstance(each, CheckpointCorruptError):
            raise each
    for each in refused:
        if isinstance(each, CheckpointCorruptError):
            location = bodies.view.sessions.root.join(name)
            raise LostIdError(location, each.path, each.reason) from each
    return None


def _proven_id(bodies: Bodies, name: str, file: str) -> SessionId | None:
    """Return the id that a damaged file still tells."""
    with contextlib.suppress(CheckpointError):
        return find_session_id(bodies.raw(name, file) or b"", name)
    return None


def is_directory(bodies: Bodies, name: str) -> bool:
    """
    Tell whether a name is a session's directory, or nothing's yet; a file is somebody else's.

    Raises:
        StorageError: it is a symlink, which is never followed, or its checkpoints are in none.
    """
    files, sessions = bodies.view.files, bodies.view.sessions
    status = files.status(sessions.root, name)
    if status is not None and not status.is_directory:
        _refuse_link(files, sessions.root, name)
        return False
    above = Directory(sessions.root.join(name), None)
    status = files.status(above, names.CHECKPOINTS_DIRECTORY)
    if status is not None and not status.is_directory:
        _refuse_link(files, above, names.CHECKPOINTS_DIRECTORY)
        path = above.join(names.CHECKPOINTS_DIRECTORY)
        raise StorageError("open directory", path, errno.ENOTDIR, "it is not a directory")
    return True


def _refuse_link(files: LocalFiles, parent: Directory, name: str) -> None:
    """Refuse a symlink, unless it leads to what is no directory."""
    if files.pointed_at(parent, name) is not None:
        path = parent.join(name)
        target = files.status_of_path(path)
        if target is None or target.is_directory:
            raise StorageError("open directory", path, errno.ELOOP, NOT_FOLLOWED)
