"""Which sessions there are under a root."""

from __future__ import annotations

import contextlib

from aiocheckpoint._engine.read import Bodies, VanishedError
from aiocheckpoint._format import documents, names
from aiocheckpoint._format.ids import decode_id, encode_id, may_be_session
from aiocheckpoint.errors import CheckpointError
from aiocheckpoint.models import SessionId


def session_names(bodies: Bodies, prefix: str = "") -> list[str]:
    """Return the names of directories, there or to come, of sessions whose ids may begin so."""
    view = bodies.view
    view.follow()
    found = {*view.files.scan(view.sessions.root), *view.pending_sessions()}
    return sorted(
        name
        for name in found
        if name != names.PRIVATE_DIRECTORY and (decode_id(name) or prefix).startswith(prefix)
    )


def session_ids(bodies: Bodies, found: list[str]) -> list[SessionId]:
    """Return the ids of those sessions that have checkpoints."""
    ids = (session_id_of(bodies, name) for name in found)
    return [session_id for session_id in ids if session_id is not None]


def session_id_of(bodies: Bodies, name: str) -> SessionId | None:
    """
    Return the id of the session in a directory; None when it holds no checkpoints.

    A hashed name needs the body of one checkpoint; where none can be read the answer is None.

    Raises:
        StorageError: its directory could not be looked into.
    """
    if not may_be_session(name) or not is_directory(bodies, name):
        return None
    index = bodies.view.lookup(name)
    if index.newest is None:
        return None
    session_id = decode_id(name)
    if session_id is not None:
        return session_id
    for file in index.newest_first():
        with contextlib.suppress(CheckpointError, VanishedError):
            path = bodies.path(name, file.text)
            found = documents.identity(bodies.text(name, file.text), path).session_id
            if encode_id(found, "session id") == name:
                return found
    return None


def is_directory(bodies: Bodies, name: str) -> bool:
    """Tell whether a name is a directory's, or nothing's yet; a file or symlink is not ours."""
    view = bodies.view
    for parent, part in ((view.sessions.root, name), (None, names.CHECKPOINTS_DIRECTORY)):
        if parent is not None:
            status = view.files.status(parent, part)
            if status is not None and not status.is_directory:
                return False
            continue
        with view.sessions.above(name) as above:
            status = above and view.files.status(above, part)
            if status is not None and not status.is_directory:
                return False
    return True
