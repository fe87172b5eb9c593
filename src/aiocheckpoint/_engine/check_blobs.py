"""Finding which blobs of a session are missing, damaged or of no use, and changing nothing."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from aiocheckpoint._disk.files import Directory
from aiocheckpoint._engine.bodies import Bodies, VanishedError
from aiocheckpoint._format import names
from aiocheckpoint._format.blobs import blob_digests, is_digest
from aiocheckpoint.errors import CheckpointCorruptError, CheckpointError, MissingBlobError
from aiocheckpoint.models import FindingKind

Found = tuple[FindingKind, Path, str]


def check_blobs(bodies: Bodies, session: str) -> list[Found]:
    """Return which blobs are missing, damaged or of no use."""
    view = bodies.view
    index = view.lookup(session)
    state = index.state
    users, is_complete = users_of_blobs(bodies, session)
    with view.sessions.blobs(session) as directory:
        found = [] if directory is None else sorted(view.files.scan(directory))
        bad = {} if directory is None else bad_blobs(bodies, directory, session, found)
    # Where files have come meanwhile, one of them may refer to any blob.
    knows_users = is_complete and view.lookup(session).state == state
    place = Path(view.sessions.root.path) / session / names.BLOBS_DIRECTORY
    waiting = view.pending.sessions.get(session)
    findings: list[Found] = []
    there: set[str] = set()
    for name in found:
        digest = name.removesuffix(names.NODE_SUFFIX)
        there.add(digest)
        if names.is_leftover(name):
            if waiting is None:
                detail = "a write that never ended left it; the next save of a blob removes it"
                findings.append(("leftover", place / name, detail))
        elif isinstance(error := bad.get(name), CheckpointCorruptError):
            findings.append(("damaged", place / name, error.reason))
        elif error is not None:
            findings.append(("unreadable", place / name, str(error)))
        elif is_digest(digest) and digest not in users and waiting is None and knows_users:
            findings.append(("unused-blob", place / name, "no checkpoint refers to it"))
    for digest in sorted(users.keys() - there):
        if view.saved_blob(session, digest) is None and not bodies.is_gone(session, users[digest]):
            index.lose_blob(digest, is_missing=True)
            findings.append(("missing-blob", place / digest, f"{users[digest]} refers to it"))
    return findings


def users_of_blobs(
    bodies: Bodies, session: str, gone: Collection[str] = ()
) -> tuple[dict[str, str], bool]:
    """
    Return the blobs that intact checkpoints lead to, each with one of their files.

    And whether all could be read: others may lead to any blob.

    Args:
        bodies: the contents of checkpoints.
        session: name of its directory.
        gone: files that do not count.
    """
    users: dict[str, str] = {}
    is_complete = True
    for name in bodies.view.lookup(session).newest_first():
        if name.text in gone:
            continue
        try:
            digests = blob_digests(bodies.text(session, name.text))
        except VanishedError:
            continue
        except CheckpointError:
            is_complete = False
            continue
        waiting = [*digests]
        while waiting:
            digest = waiting.pop()
            if digest in users:
                continue
            users[digest] = name.text
            try:
                waiting += bodies.links_if_known(session, digest)
            except CheckpointError:
                is_complete = False
    return users, is_complete


def bad_blobs(
    bodies: Bodies, directory: Directory, session: str, found: list[str]
) -> dict[str, CheckpointError]:
    """
    Return which blob files are damaged, or cannot be read, and why.

    Those that the journal has do not count.
    """
    bad: dict[str, CheckpointError] = {}
    removed = bodies.view.removed(session)
    for name in found:
        digest = name.removesuffix(names.NODE_SUFFIX)
        if not is_digest(digest) or digest in removed:
            continue
        if bodies.view.saved_blob(session, digest) is not None:
            continue
        try:
            with bodies.losing(session, digest):
                bodies.read_blob(directory, digest, is_node=name != digest)
        except CheckpointError as error:
            bad[name] = error
    return bad


def bad_waiting_blobs(bodies: Bodies, session: str) -> dict[str, CheckpointCorruptError]:
    """Return which blobs the journal has, but not as they were saved, and no file has either."""
    bad: dict[str, CheckpointCorruptError] = {}
    waiting = bodies.view.pending.sessions.get(session)
    for digest in sorted(map(bytes.hex, waiting.blobs.copy() if waiting else ())):
        try:
            bodies.blob(session, digest)
        except MissingBlobError:
            continue  # it was removed meanwhile
        except CheckpointCorruptError as error:
            bad[digest] = error
    return bad
