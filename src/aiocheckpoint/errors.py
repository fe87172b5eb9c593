"""Every error of the library, in one tree under [CheckpointError][].

Fields are attributes; the text is built from them and says what happened, to
which file or id, and what to do. All of them can be pickled.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, Literal

from aiocheckpoint._frameworks import advice_at, named_at


def shown(value: object, show: Callable[[object], str] = repr) -> str:
    """Return a value as text for an error, also where it has none, as an int of 5,000 digits."""
    try:
        return show(value)
    except Exception:  # noqa: BLE001 - whatever a class of theirs raises
        return f"<{type(value).__qualname__}>"


class CheckpointError(Exception):
    """
    Base of every error this library raises on purpose.

    Subclasses declare their fields as constructor arguments; the same arguments
    are stored in `args`, so every error survives `pickle` and `copy`.

    Attributes:
        others: what else was refused by a call about many sessions, which raises the first; their
            texts are its notes.
        about: what was asked for, as the framework of an adapter names it: `thread 'support-42'`.
            The texts of errors about that have it; None where no adapter has told.
        listed: what a call about many, as `load_newest` or a list of an adapter, would have
            returned without what is refused; None where something is wrong with all of it.
    """

    others: tuple[CheckpointError, ...] = ()
    about: str | None = None
    listed: Any = None

    def _whose(self, session_id: str | None = None, checkpoint_id: str | None = None) -> str:
        """Return what a text has behind a place, or behind an id of the store."""
        return named_at(session_id, checkpoint_id, self.about)


class InvalidIdError(CheckpointError, ValueError):
    """
    An id that no file name and no JSON body can carry.

    Attributes:
        kind: `"session id"`, `"checkpoint id"` or `"blob digest"`; in an adapter also the name that
            its framework has for it.
        value: the id as given.
        reason: what is wrong with it.
    """

    def __init__(self, kind: str, value: object, reason: str) -> None:
        super().__init__(kind, value, reason)
        self.kind = kind
        self.value = value
        self.reason = reason

    def __str__(self) -> str:
        return f"invalid {self.kind} {shown(self.value, ascii)[:80]}: {self.reason}"


class InvalidArgumentError(CheckpointError, ValueError):
    """
    An argument that is of the wrong type or out of range.

    Attributes:
        name: of the argument.
        value: as given.
        wanted: what it should be.
    """

    def __init__(self, name: str, value: object, wanted: str) -> None:
        super().__init__(name, value, wanted)
        self.name = name
        self.value = value
        self.wanted = wanted

    def __str__(self) -> str:
        return f"{self.name} must not be {shown(self.value, ascii)[:80]}; give {self.wanted}"


class RecordTypeError(CheckpointError, TypeError):
    """
    A record type, or a record, that this writer cannot store.

    Attributes:
        record_type: name of the type.
        reason: what is wrong with it.
    """

    def __init__(self, record_type: str, reason: str) -> None:
        super().__init__(record_type, reason)
        self.record_type = record_type
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot store {self.record_type}: {self.reason}"


class CheckpointEncodeError(CheckpointError, ValueError):
    """
    A document that cannot be stored without changing it; nothing was written.

    Attributes:
        path: where in the document, as `messages[3].content.x`.
        reason: what is wrong there and what to do.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot save{self._whose()}: {self.path or 'the document'} {self.reason}"


class ExactValueError(CheckpointError, ValueError):
    """
    A JSON value that `exact.to_json` has not made, or not with these types.

    The file that it was loaded from may be intact.

    Attributes:
        path: where in the document, as `tool_results.seen['!set']`.
        reason: what is wrong there, and what to do.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot restore{self._whose()}: {self.path or 'the value'} {self.reason}"


class CheckpointTooLargeError(CheckpointError, ValueError):
    """
    A document or file over the writer's `max_bytes`; nothing was changed.

    Attributes:
        subject: the checkpoint id or the path of the file.
        size_bytes: its size.
        max_bytes: the limit in force.
    """

    def __init__(self, subject: str, size_bytes: int, max_bytes: int) -> None:
        super().__init__(subject, size_bytes, max_bytes)
        self.subject = subject
        self.size_bytes = size_bytes
        self.max_bytes = max_bytes

    def __str__(self) -> str:
        sizes = f"has {self.size_bytes} bytes, the limit is {self.max_bytes}"
        advice = "raise max_bytes of the writer if this is intended"
        return f"{self.subject}{self._whose()} {sizes}; {advice}"


class CheckpointCorruptError(CheckpointError):
    """
    A checkpoint that is there but is not what was saved.

    Raised instead of handing back anything older: call `recover(session_id)` to
    quarantine the damaged file and go on from `newest_valid_id`. A session that an adapter keeps
    for a framework mostly cannot go on so: the text says what can be done.

    Attributes:
        path: the damaged file.
        reason: what was found.
        expected: the checksum the file claims, or None.
        actual: the checksum of its content, or None.
        newest_valid_id: id of the newest checkpoint of the session that is intact;
            None when there is none, or when it was not looked for: only loads look.
        session_id: the session, None where that is not known, as of a path.
        checkpoint_id: the checkpoint, None likewise, or where it is something else of the session.
    """

    def __init__(
        self,
        path: str,
        reason: str,
        expected: str | None = None,
        actual: str | None = None,
        newest_valid_id: str | None = None,
        session_id: str | None = None,
        checkpoint_id: str | None = None,
    ) -> None:
        super().__init__(path, reason, expected, actual, newest_valid_id, session_id, checkpoint_id)
        self.path = path
        self.reason = reason
        self.expected = expected
        self.actual = actual
        self.newest_valid_id = newest_valid_id
        self.session_id = session_id
        self.checkpoint_id = checkpoint_id

    def __str__(self) -> str:
        whose = self._whose(self.session_id, self.checkpoint_id)
        text = f"{self.path} is damaged{whose}: {self.reason}"
        if self.expected is not None:
            text += f" (expected sha256 {self.expected[:16]}..., got {str(self.actual)[:16]}...)"
        advice = "recover(session_id) moves damaged files to the quarantine"
        if self.newest_valid_id is not None:
            advice = f"the newest intact checkpoint is {self.newest_valid_id!r}; {advice}"
        return f"{text}; {advice_at(self.session_id, self.path, advice)}"


class JournalCorruptError(CheckpointCorruptError):
    """
    A part of the journal is damaged, and nobody can tell which changes it held.

    Raised for every session that may have had some there, instead of handing back what may be
    older than what was acknowledged. Look in a backup for what was saved last. Then
    `recover(session_id)` lets that session go on without that part, which is kept.

    Attributes:
        path: the damaged file, or the copy of it that is kept, where another session went on.
        session_id: the session that was asked for; None where it is about all.
    """

    advice = (
        "look in a backup for what was saved last; then recover(session_id) lets that session go "
        "on without it, and keeps a copy of it in the quarantine"
    )

    def __init__(self, path: str, session_id: str | None = None) -> None:
        sessions = "any session" if session_id is None else f"{session_id!r} and of other sessions"
        reason = f"a part of the journal cannot be read; it may hold changes of {sessions}"
        super().__init__(path, reason, session_id=session_id)
        self.args = (path, session_id)

    def __str__(self) -> str:
        # The reason has the session.
        return f"{self.path} is damaged{self._whose()}: {self.reason}; {self.advice}"


class CheckpointDecodeError(CheckpointError):
    """
    A checkpoint that is intact, and no record of the writer's type; it is left alone.

    It was saved with another `record_type`, or before the type was changed.

    Attributes:
        path: the file.
        record_type: name of the writer's type.
        reason: what in the file does not fit it.
    """

    def __init__(self, path: str, record_type: str, reason: str) -> None:
        super().__init__(path, record_type, reason)
        self.path = path
        self.record_type = record_type
        self.reason = reason

    def __str__(self) -> str:
        text = f"{self.path}{self._whose()} is intact, but no {self.record_type}: {self.reason}"
        advice = (
            "the record_type that it was saved with, or mend the type so that it reads the file"
        )
        return f"{text}; give the writer {advice}"


class FormatVersionError(CheckpointError):
    """
    A file of another format version; it is left alone.

    Attributes:
        path: the file.
        found: the file's `_version`.
        supported: the version this library reads and writes.
    """

    def __init__(self, path: str, found: str, supported: str) -> None:
        super().__init__(path, found, supported)
        self.path = path
        self.found = found
        self.supported = supported

    def __str__(self) -> str:
        versions = f"format version {self.found!r}, this library reads {self.supported!r}"
        advice = "read it with the version that wrote it"
        return f"{self.path}{self._whose()} has {versions}; {advice}"


class CheckpointMismatchError(CheckpointCorruptError):
    """
    An intact checkpoint whose ids are not those of the place where it stands; no damage.

    Whoever copied, moved or renamed it can put it back.

    Attributes:
        found: `(session_id, checkpoint_id)` in the body.
        asked: `(session_id, checkpoint_id)` asked for; None where any would do.
    """

    def __init__(self, path: str, found: tuple[str, str], asked: tuple[str, str | None]) -> None:
        super().__init__(path, f"its body says {found!r}, asked for {asked!r}")
        self.args = (path, found, asked)
        self.found = found
        self.asked = asked

    def __str__(self) -> str:
        (session_id, checkpoint_id), (asked_session, asked_id) = self.found, self.asked
        asked = "a checkpoint" if asked_id is None else f"checkpoint {asked_id!r}"
        text = (
            f"{self.path}{self._whose()} is intact, but in the wrong place: {asked} of session "
            f"{asked_session!r} belongs there, and it is checkpoint {checkpoint_id!r} of session "
            f"{session_id!r}"
        )
        if self.newest_valid_id is not None:
            text += f"; the newest in its place is {self.newest_valid_id!r}"
        advice = f"else recover({asked_session!r}) moves it to the quarantine"
        text += "; find out who moved or copied it and put it back"
        return f"{text}; {advice_at(self.session_id, self.path, advice)}"


class LostIdError(CheckpointCorruptError):
    """
    A session whose id nobody can tell: its place is named by a digest, and nothing intact is in it.

    Whoever knows the id can still call `recover` with it.

    Attributes:
        location: where all of the session is.
    """

    def __init__(self, location: str, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.args = (location, path, reason)
        self.location = location

    def __str__(self) -> str:
        place = f"{self.location}{self._whose()}: {self.path}: {self.reason}"
        return (
            f"nobody can tell the id of the session in {place}; if the application knows the id, "
            "recover(session_id) with it moves what is damaged to the quarantine, else move all of "
            "the session out of the store"
        )


class MissingBlobError(CheckpointCorruptError):
    """
    A checkpoint that refers to a blob which is not there, itself or through other blobs.

    Raised by a read of the blobs, and by a save of a record whose blobs are neither given nor
    stored; nothing was written then.

    Attributes:
        digest: the SHA-256 of the blob.
        operation: `"save"` for one that was refused, which is a mistake in the call and no damage;
            else `"read"`.
    """

    def __init__(self, path: str, digest: str, operation: Literal["read", "save"] = "read") -> None:
        super().__init__(path, "the blob is not there")
        self.args = (path, digest, operation)
        self.digest = digest
        self.operation = operation

    def __str__(self) -> str:
        whose = self._whose(self.session_id)
        if self.operation == "save":
            advice = "give the blob that a record leads to"
            return f"{self.path} is neither given nor there{whose}; {advice}"
        advice = "recover(session_id) moves what still refers to it to the quarantine"
        return f"{self.path} is not there{whose}; {advice_at(self.session_id, self.path, advice)}"


class NotACheckpointError(CheckpointError):
    """
    A path that cannot be a checkpoint at all: a directory, a device, a FIFO, a symlink.

    Attributes:
        path: the path.
        reason: what it is.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        text = f"{self.path}{self._whose()} is not a checkpoint file: {self.reason}"
        return f"{text}; give the path of a cp_*.json"


class StorageError(CheckpointError):
    """
    The operating system refused a file operation.

    The state before the call still loads, and no temporary file is left unless
    removing it failed too. `__cause__` is the original `OSError`.

    Attributes:
        operation: what was tried, as `"sync file"`.
        path: on which file or directory.
        errno: the error number, None if there was none.
        reason: the system's text for it.
    """

    _advice = ""

    def __init__(self, operation: str, path: str, errno: int | None, reason: str) -> None:
        super().__init__(operation, path, errno, reason)
        self.operation = operation
        self.path = path
        self.errno = errno
        self.reason = reason

    def __str__(self) -> str:
        place = f"{self.path}{self._whose()}"
        return f"{self.operation} failed on {place}: {self.reason}{self._advice}"


class StorageFullError(StorageError):
    """No space, no inodes or no quota left; free some, then try again."""

    _advice = "; free some space, inodes or quota, then try again"


class FileSizeLimitError(StorageError):
    """
    A file would be larger than the system lets this process write; nothing was changed.

    The limit is that of the process (`ulimit -f`, `RLIMIT_FSIZE`) or that of the file system.
    """

    _advice = "; raise the limit of file sizes (ulimit -f), or save less at once"


class DurabilityUnknownError(StorageError):
    """
    A change that may or may not have been made.

    A write to the journal failed, and so did closing the part of the journal it was to be in; or,
    with `durability="file"`, the journal has the checkpoint and its file could not be made
    durable. In a server's store, the answer to the change was lost. It was not acknowledged. `load`
    tells what there is, in a directory after `flush`, which settles it; to save again is safe.
    """

    _advice = "; load it (in a directory, after flush()) to see if it was made, or make it again"


class UnsupportedFileSystemError(CheckpointError):
    """
    A directory on a file system whose locks or syncs cannot be relied on; nothing was written.

    Attributes:
        path: the directory.
        file_system: its type, as `"nfs4"`.
    """

    def __init__(self, path: str, file_system: str) -> None:
        super().__init__(path, file_system)
        self.path = path
        self.file_system = file_system

    def __str__(self) -> str:
        return (
            f"{self.path} is on {self.file_system}, whose locks do not hold between machines; "
            "give a directory on a local disk"
        )


class SessionChangedError(CheckpointError):
    """
    A save that expected another checkpoint to be the newest; nothing was changed.

    Attributes:
        session_id: the session.
        newest_id: id of the newest checkpoint, that is the one saved last; None for an empty
            session.
    """

    def __init__(self, session_id: str, newest_id: str | None) -> None:
        super().__init__(session_id, newest_id)
        self.session_id = session_id
        self.newest_id = newest_id

    def __str__(self) -> str:
        return (
            f"session {self.session_id!r}{self._whose()} has changed: its newest checkpoint is "
            f"{self.newest_id!r}; load it and decide anew"
        )


class NestedCallError(CheckpointError, RuntimeError):
    """
    A call that could only wait for its own caller; nothing was changed.

    The `work` of an `update` called the store itself: to read its own session, which would not be
    part of the step, or to change any one, which might wait for ever: for the update to end, or for
    another one that waits for this. Or a task that owns a session waits to own it.

    Attributes:
        session_id: the session; None for a call about all, as `aclose`.
        operation: the method that was called.
        within: `"update"` or `"own"`.
    """

    def __init__(
        self, session_id: str | None, operation: str, within: Literal["update", "own"] = "update"
    ) -> None:
        super().__init__(session_id, operation, within)
        self.session_id = session_id
        self.operation = operation
        self.within = within

    def __str__(self) -> str:
        call = self.operation + (f" of session {self.session_id!r}" if self.session_id else "")
        if self.within == "own":
            return f"{call} was called by the task that owns it; use the owner that it has"
        if self.session_id is None:
            return f"{call} was called within an update; call it when the update has ended"
        return (
            f"{call} was called within an update; use the transaction that `work` is given, and "
            "update_many for several sessions"
        )


class SessionOwnedError(CheckpointError):
    """
    Another owner holds the session.

    Attributes:
        session_id: the session.
        waited_seconds: how long it was waited for.
        owner: who owns it, in words, as far as the store knows that; a directory knows the process
            and its machine, a server until when it is owned. Empty where nothing is known.
    """

    def __init__(self, session_id: str, waited_seconds: float, owner: str = "") -> None:
        super().__init__(session_id, waited_seconds, owner)
        self.session_id = session_id
        self.waited_seconds = waited_seconds
        self.owner = owner

    def __str__(self) -> str:
        who = f" ({self.owner})" if self.owner else ""
        return (
            f"session {self.session_id!r}{self._whose()} has another owner{who}, after waiting for "
            f"{self.waited_seconds:g} s; try again later"
        )


class OwnershipLostError(CheckpointError):
    """
    A write by a former owner of a session; nothing was changed.

    Attributes:
        session_id: the session.
        token: of the owner that was refused.
    """

    def __init__(self, session_id: str, token: int) -> None:
        super().__init__(session_id, token)
        self.session_id = session_id
        self.token = token

    def __str__(self) -> str:
        what = f"session {self.session_id!r}{self._whose()} is not owned any more by the owner"
        return f"{what} with token {self.token}; own it again, load it and decide anew"


class CopyError(CheckpointError):
    """
    A session that cannot be copied to another store; what that holds of it was not changed.

    Attributes:
        session_id: the session.
        checkpoint_id: the checkpoint in the target.
        reason: what is wrong with it, and what to do.
    """

    def __init__(self, session_id: str, checkpoint_id: str, reason: str) -> None:
        super().__init__(session_id, checkpoint_id, reason)
        self.session_id = session_id
        self.checkpoint_id = checkpoint_id
        self.reason = reason

    def __str__(self) -> str:
        what = f"checkpoint {self.checkpoint_id!r} {self.reason}"
        return f"session {self.session_id!r} cannot be copied: {what}"


class UnsupportedOperationError(CheckpointError, NotImplementedError):
    """
    The store cannot do this; nothing was changed.

    Attributes:
        operation: the method that was called.
        store: which kind of store.
        reason: why not, and what to do instead.
    """

    def __init__(self, operation: str, store: str, reason: str) -> None:
        super().__init__(operation, store, reason)
        self.operation = operation
        self.store = store
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.store} has no {self.operation}: {self.reason}"


class ErasureIncompleteError(CheckpointError):
    """
    A delete that took place, of what could not be erased: nobody loads it, and bytes of it stay.

    The same call again, by the same store, erases them. By any store `delete_session` does, also of
    a session that is deleted already.

    Attributes:
        session_id: the session.
        locations: where they may be: objects, or what the names of several begin with, with `*`.
        reason: why they are there still.
    """

    def __init__(self, session_id: str, locations: tuple[str, ...], reason: str) -> None:
        super().__init__(session_id, locations, reason)
        self.session_id = session_id
        self.locations = locations
        self.reason = reason

    def __str__(self) -> str:
        places = ", ".join(self.locations[:3])
        what = f"session {self.session_id!r}{self._whose()} is not loaded any more, and not erased"
        where = f"yet at {places}: {self.reason}; make the same call again"
        return f"what was deleted of {what} {where}"


class StoreUnavailableError(CheckpointError):
    """
    The server of a store cannot be reached, or refuses to work; nothing was changed.

    Attributes:
        location: of the store, without credentials.
        operation: what was tried.
        reason: the server's or the client's text.
    """

    def __init__(self, location: str, operation: str, reason: str) -> None:
        super().__init__(location, operation, reason)
        self.location = location
        self.operation = operation
        self.reason = reason

    def __str__(self) -> str:
        what = f"cannot {self.operation} at {self.location}{self._whose()}: {self.reason}"
        return f"{what}; check the location and its credentials, or try again later"


class MissingStoreError(CheckpointError):
    """
    No store is at the location, and it was opened with `must_exist`; nothing was made.

    Attributes:
        location: where, without credentials.
    """

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location

    def __str__(self) -> str:
        what = f"no store at {self.location}, and it must exist; see whether its disk is mounted"
        return f"{what} and the location right, or save once without must_exist to begin a new one"


class ReplacedStoreError(MissingStoreError):
    """
    Another store is at the location than the one that was used there before, with `must_exist`.

    That was moved or removed, and another one made, mounted or linked there; it was not changed.

    Attributes:
        location: where, without credentials.
    """

    def __str__(self) -> str:
        what = f"another store is at {self.location} than the one used before, which must exist"
        return f"{what}; put that back, or close this one and open it anew to use what is there now"


class UnsuitableStoreError(CheckpointError):
    """
    A server that would lose or double checkpoints, or is not set up for them; nothing was changed.

    Attributes:
        location: of the store, without credentials.
        reason: what it lacks, and what to do.
    """

    def __init__(self, location: str, reason: str) -> None:
        super().__init__(location, reason)
        self.location = location
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.location} cannot hold checkpoints: {self.reason}"


class StoreBusyError(CheckpointError, TimeoutError):
    """
    Another process, or one call of this one, held on for too long; the change was not made.

    Attributes:
        path: the lock that was wanted, or the session.
        timeout_seconds: how long it was waited for that one; a line that moves is waited for.
        waiting: how many calls of this process waited in line for the session, this one included,
            where one of its own held on; None where somebody else did.
    """

    def __init__(self, path: str, timeout_seconds: float, waiting: int | None = None) -> None:
        super().__init__(path, timeout_seconds, waiting)
        self.errno = errno.ETIMEDOUT  # `OSError` takes the first of several arguments for it
        self.path = path
        self.timeout_seconds = timeout_seconds
        self.waiting = waiting

    def __str__(self) -> str:
        held = f"has held {self.path}{self._whose()} for {self.timeout_seconds:g} s"
        if self.waiting is None:
            advice = "is it stopped? Raise lock_timeout_seconds if it is only slow"
            return f"somebody else {held}; {advice}"
        return (
            f"a call of this process {held}, and {self.waiting} wait in line for it; see what the "
            "work of its update awaits, or raise lock_timeout_seconds if it is only slow"
        )


class JournalVersionError(CheckpointError):
    """
    A journal of another version of this library; nothing was touched.

    It may hold saves that only that version can bring back.

    Attributes:
        path: a file of the journal.
        found: its version; 1 are the journals of aiocheckpoint 0.1.
        supported: the version this library reads and writes.
    """

    def __init__(self, path: str, found: int, supported: int) -> None:
        super().__init__(path, found, supported)
        self.path = path
        self.found = found
        self.supported = supported

    def __str__(self) -> str:
        advice = "open the directory with that newer version of aiocheckpoint"
        if self.found < self.supported:
            advice = "open the directory once with aiocheckpoint 0.1 and close it: that empties it"
        versions = f"has journal version {self.found}, this library reads {self.supported}"
        return f"{self.path} {versions}; {advice}"


class WriterClosedError(CheckpointError, RuntimeError):
    """
    The writer was closed, or belongs to the parent of this forked process.

    Attributes:
        reason: which of the two.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason}; make a new one"


class ThreadStartError(CheckpointError, RuntimeError):
    """
    The system granted the writer no thread; nothing was changed.

    It may have none left, or the interpreter is ending: Python 3.12.0 and 3.12.1 start none after
    the main thread has ended, and go on with those that run.

    Attributes:
        reason: the system's text.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        if "shutdown" in self.reason:
            return f"{self.reason}; call before the main thread ends; closing is safe even now"
        return f"{self.reason}; raise the limit of threads or memory and call again"


class PortalBlockedError(CheckpointError, RuntimeError):
    """
    A call that would wait for ever; nobody knows whether what it was to do is done.

    A thread within this library waits for it. Mostly the garbage collector ends a generator there
    that was left, as `graph.stream` of LangGraph of which only a part was taken.
    """
