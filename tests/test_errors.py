"""Promises of the errors."""

from __future__ import annotations

import contextlib
import copy
import errno
import pickle
import re
from collections.abc import Iterator

import pytest

import aiocheckpoint
from aiocheckpoint import (
    CheckpointCorruptError,
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointTooLargeError,
    CopyError,
    DurabilityUnknownError,
    ErasureIncompleteError,
    ExactValueError,
    FileSizeLimitError,
    FormatVersionError,
    InvalidArgumentError,
    InvalidIdError,
    JournalCorruptError,
    JournalVersionError,
    LostIdError,
    MissingBlobError,
    MissingStoreError,
    NestedCallError,
    NotACheckpointError,
    OwnershipLostError,
    PortalBlockedError,
    RecordTypeError,
    ReplacedStoreError,
    SessionChangedError,
    SessionOwnedError,
    StorageError,
    StorageFullError,
    StoreBusyError,
    StoreUnavailableError,
    ThreadStartError,
    UnsuitableStoreError,
    UnsupportedFileSystemError,
    UnsupportedOperationError,
    WriterClosedError,
)
from aiocheckpoint._disk.files import storage_error
from aiocheckpoint.kit import kept, own_copy

_CHECKSUM = "0123456789abcdef" * 4
# What is wrong with a call, a store or a process, whatever session was asked for.
_OF_NO_SESSION = (
    CopyError, InvalidArgumentError, InvalidIdError, JournalVersionError, MissingStoreError,
    NestedCallError, PortalBlockedError, RecordTypeError, ThreadStartError, UnsuitableStoreError,
    UnsupportedFileSystemError, UnsupportedOperationError, WriterClosedError,
)  # fmt: skip

# Each error, and what its text must say: what happened, to what, and what to do.
_SAMPLES: list[tuple[CheckpointError, list[str]]] = [
    (CheckpointError("anything"), ["anything"]),
    (
        InvalidIdError("session id", "a\ud800", "it holds a lone surrogate; replace it"),
        ["invalid session id", r"'a\ud800'", "replace it"],
    ),
    (
        RecordTypeError("Game", "it does not extend CheckpointRecord"),
        ["cannot store Game", "extend CheckpointRecord"],
    ),
    (
        CheckpointEncodeError("messages[3].content.x", "is nan, which JSON cannot hold"),
        ["cannot save", "messages[3].content.x", "is nan"],
    ),
    (
        ExactValueError("state['!int']", "is no int as to_json writes it"),
        ["cannot restore", "state['!int']", "is no int", "as to_json writes it"],
    ),
    (
        CheckpointTooLargeError("checkpoint 'x'", 70_000_000, 64_000_000),
        ["checkpoint 'x'", "70000000 bytes", "64000000", "raise max_bytes"],
    ),
    (
        CheckpointCorruptError(
            "/r/cp.json", "the checksum does not match", _CHECKSUM, "f" * 64, "b"
        ),
        ["/r/cp.json is damaged", "does not match", "0123456789abcdef.", "ffff", "'b'", "recover("],
    ),
    (
        CheckpointCorruptError("/r/cp.json", "no JSON", session_id="s", checkpoint_id="c"),
        ["/r/cp.json is damaged (checkpoint 'c' of session 's'): no JSON", "recover("],
    ),
    (
        CheckpointCorruptError("postgresql:///d", "no page", session_id="s"),
        ["postgresql:///d is damaged (session 's'): no page", "recover("],
    ),
    (
        JournalCorruptError("/r/log.0", "s"),
        ["/r/log.0 is damaged", "changes of 's' and of other sessions", "in a backup", "recover("],
    ),
    (
        JournalCorruptError("/r/log.0"),
        ["/r/log.0 is damaged", "changes of any session", "in a backup", "recover("],
    ),
    (
        InvalidArgumentError("max_backups", "3", "an int of at least 0"),
        ["max_backups", "'3'", "give an int of at least 0"],
    ),
    (
        CheckpointDecodeError("/r/cp.json", "Game", "it has no level"),
        ["/r/cp.json is intact", "no Game", "it has no level", "mend the type"],
    ),
    (
        FormatVersionError("/r/cp.json", "2.0", "1.0"),
        ["/r/cp.json", "'2.0'", "'1.0'", "read it with the version that wrote it"],
    ),
    (
        CheckpointMismatchError("/r/cp.json", ("t", "x"), ("s", None)),
        [
            "/r/cp.json is intact, but in the wrong place",
            "a checkpoint of session 's' belongs there, and it is checkpoint 'x' of session 't'",
            "put it back; else recover('s') moves it to the quarantine",
        ],
    ),
    (
        CheckpointMismatchError("/r/cp.json", ("s", "x"), ("s", "y")),
        ["checkpoint 'y' of session 's' belongs there, and it is checkpoint 'x' of session 's'"],
    ),
    (
        LostIdError("/r/~sha256-01", "/r/~sha256-01/checkpoints/cp.json", "it is not JSON"),
        ["session in /r/~sha256-01: ", "cp.json: it is not JSON", "recover(", "move all of"],
    ),
    (
        MissingBlobError("/r/s/blobs/0123", "0123"),
        ["/r/s/blobs/0123 is not there", "recover("],
    ),
    (
        MissingBlobError("/r/s/blobs/0123", "0123", "save"),
        ["/r/s/blobs/0123 is neither given nor there", "give the blob"],
    ),
    (
        NotACheckpointError("/dev/null", "it is a device"),
        ["/dev/null is not a checkpoint file", "device", "give the path of"],
    ),
    (
        StorageError("sync file", "/r/cp.json", errno.EIO, "Input/output error"),
        ["sync file failed", "/r/cp.json", "Input/output error"],
    ),
    (
        StorageFullError("write", "/r/cp.json", errno.ENOSPC, "No space left on device"),
        ["write failed", "/r/cp.json", "No space left", "free some", "try again"],
    ),
    (
        FileSizeLimitError("write", "/r/cp.json", errno.EFBIG, "File too large"),
        ["write failed", "/r/cp.json", "File too large", "ulimit -f"],
    ),
    (
        DurabilityUnknownError("sync data", "/r/log.0", errno.EIO, "Input/output error"),
        ["sync data failed", "/r/log.0", "load it (in a directory, after flush()) to see", "again"],
    ),
    (
        NestedCallError("s", "own", "own"),
        ["own of session 's'", "by the task that owns it", "use the owner"],
    ),
    (
        NestedCallError(None, "aclose"),
        ["aclose was called within an update", "when the update has ended"],
    ),
    (
        NestedCallError("s", "save"),
        ["save of session 's'", "within an update", "transaction"],
    ),
    (
        SessionOwnedError("s", 2.5),
        ["session 's' has another owner", "2.5 s", "try again"],
    ),
    (
        OwnershipLostError("s", 7),
        ["session 's'", "token 7", "own it again"],
    ),
    (
        CopyError("s", "b", "differs in the two; compare them"),
        ["session 's' cannot be copied", "checkpoint 'b' differs", "compare them"],
    ),
    (
        UnsupportedOperationError("update_many", "S3Store", "use a store with transactions"),
        ["S3Store has no update_many", "use a store with"],
    ),
    (
        ErasureIncompleteError("s", ("s3://b/p/blobs/s/1", "s3://b/p/sessions/s/9"), "refused"),
        ["deleted of session 's'", "not loaded", "refused", "s3://b/p/blobs/s/1, s3://", "again"],
    ),
    (
        StoreUnavailableError("postgresql://h/d", "connect", "connection refused"),
        ["cannot connect at postgresql://h/d", "connection refused", "try again later"],
    ),
    (
        MissingStoreError("/mnt/state"),
        ["no store at /mnt/state", "must exist", "mounted", "save once without must_exist"],
    ),
    (
        ReplacedStoreError("/mnt/state"),
        ["another store is at /mnt/state", "put that back", "open it anew"],
    ),
    (
        UnsuitableStoreError("s3://b/p", "creates are not exclusive; use another"),
        ["s3://b/p cannot hold checkpoints", "not exclusive"],
    ),
    (
        StoreBusyError("/r/lock", 30.0),
        ["somebody else", "/r/lock", "30 s", "lock_timeout_seconds"],
    ),
    (
        StoreBusyError("session 's'", 30.0, 7),
        ["call of this process", "session 's'", "30 s", "7 wait in line", "lock_timeout_seconds"],
    ),
    (
        SessionChangedError("s", "b"),
        ["session 's' has changed", "'b'", "load it"],
    ),
    (
        JournalVersionError("/r/log.0", 3, 2),
        ["/r/log.0", "version 3", "reads 2", "newer version"],
    ),
    (
        JournalVersionError("/r/journal-x", 1, 2),
        ["/r/journal-x", "version 1", "reads 2", "aiocheckpoint 0.1"],
    ),
    (
        UnsupportedFileSystemError("/r", "nfs4"),
        ["/r is on nfs4", "give a directory on a local disk"],
    ),
    (
        ThreadStartError("can't start new thread"),
        ["can't start new thread", "raise the limit", "call again"],
    ),
    (
        ThreadStartError("can't create new thread at interpreter shutdown"),
        ["at interpreter shutdown", "before the main thread ends", "closing is safe even now"],
    ),
    (
        PortalBlockedError("a thread within this library waits for this call; look"),
        ["waits for this call", "look"],
    ),
    (
        WriterClosedError("the writer is closed"),
        ["the writer is closed", "make a new one"],
    ),
]

_each_error = pytest.mark.parametrize(
    "error", [error for error, _ in _SAMPLES], ids=[type(error).__name__ for error, _ in _SAMPLES]
)


def _tree(base: type[CheckpointError]) -> Iterator[type[CheckpointError]]:
    """Yield what callers may see of the core; private ones stay within, adapters name their own."""
    yield base
    for kind in base.__subclasses__():
        is_ours = f"{kind.__module__}.".startswith("aiocheckpoint.")
        is_adapters = kind.__module__.startswith("aiocheckpoint.adapters.")
        if is_ours and not is_adapters and not kind.__name__.startswith("_"):
            yield from _tree(kind)


class TestTree:
    def test_every_error_is_covered_here(self) -> None:
        """No error of the library is without the promises below."""
        assert {type(error) for error, _ in _SAMPLES} == set(_tree(CheckpointError))

    def test_every_error_can_be_imported_from_the_top(self) -> None:
        """Whoever catches an error needs no private module."""
        for kind in _tree(CheckpointError):
            assert getattr(aiocheckpoint, kind.__name__) is kind
            assert kind.__name__ in aiocheckpoint.__all__

    @pytest.mark.parametrize(
        ("kind", "builtin"),
        [
            (InvalidIdError, ValueError),
            (RecordTypeError, TypeError),
            (CheckpointEncodeError, ValueError),
            (ExactValueError, ValueError),
            (CheckpointTooLargeError, ValueError),
            (NestedCallError, RuntimeError),
            (UnsupportedOperationError, NotImplementedError),
            (StoreBusyError, TimeoutError),
            (ThreadStartError, RuntimeError),
            (PortalBlockedError, RuntimeError),
            (WriterClosedError, RuntimeError),
            (CheckpointMismatchError, CheckpointCorruptError),
            (StorageFullError, StorageError),
            (FileSizeLimitError, StorageError),
            (DurabilityUnknownError, StorageError),
        ],
    )
    def test_can_be_caught_as_what_it_is(self, kind: type, builtin: type[Exception]) -> None:
        """An error is also the standard error, or the wider one, that a caller would expect."""
        assert issubclass(kind, builtin)

    def test_lock_timeout_has_a_number(self) -> None:
        """Code that reads `errno` of a timeout finds a number there."""
        assert StoreBusyError("/r/s", 1.0).errno == errno.ETIMEDOUT

    def test_times_are_readable(self) -> None:
        """A time that no person would write so is told in a few digits."""
        assert "for 0.3 s;" in str(StoreBusyError("/r/s", 0.1 + 0.2))
        assert "for 60 s;" in str(StoreBusyError("/r/s", 60.0))


class TestText:
    def test_says_so_of_a_value_without_a_text(self) -> None:
        """A value that cannot be shown, as an int of 5,000 digits, does no harm."""
        for error in (
            InvalidArgumentError("max_backups", 10**5000, "an int"),
            InvalidIdError("session id", 10**5000, "it is no str"),
        ):
            assert "<int>" in str(error)

    @pytest.mark.parametrize(
        ("error", "parts"), _SAMPLES, ids=[type(error).__name__ for error, _ in _SAMPLES]
    )
    def test_says_what_where_and_what_to_do(self, error: CheckpointError, parts: list[str]) -> None:
        """The text of each error names the trouble, the file or id, and the way out."""
        text = str(error)

        assert [part for part in parts if part not in text] == []
        text.encode()

    @pytest.mark.parametrize("kind", [CheckpointDecodeError, FormatVersionError])
    def test_what_is_no_damage_is_not_called_so(self, kind: type[CheckpointError]) -> None:
        """An intact file that cannot be read is never sent to the quarantine by its error."""
        assert not issubclass(kind, CheckpointCorruptError)
        (text,) = [str(error) for error, _ in _SAMPLES if type(error) is kind]
        assert "recover" not in text
        assert "damage" not in text

    def test_damage_without_details(self) -> None:
        """Where there is no checksum and no intact checkpoint, none is made up."""
        assert str(CheckpointCorruptError("/r/cp.json", "it is not JSON")) == (
            "/r/cp.json is damaged: it is not JSON; "
            "recover(session_id) moves damaged files to the quarantine"
        )

    def test_what_an_adapter_asked_for_is_told(self) -> None:
        """An adapter says it in the words of its framework, and they survive a pickle."""
        error = CheckpointCorruptError("/r/cp.json", "why", session_id="x")
        error.about = "thread 'support-42'"
        text = str(pickle.loads(pickle.dumps(error)))
        assert text.startswith("/r/cp.json is damaged (session 'x', thread 'support-42'): why; ")

    @pytest.mark.parametrize(
        ("error", "begin"),
        [
            (
                MissingBlobError("/r/s/blobs/01", "01"),
                "/r/s/blobs/01 is not there (session 'x', thread 'support-42'); recover(",
            ),
            (
                JournalCorruptError("/r/log.1", "x"),
                "/r/log.1 is damaged (thread 'support-42'): a part of the journal",
            ),
        ],
    )
    def test_so_it_is_of_what_is_gone(self, error: CheckpointCorruptError, begin: str) -> None:
        """A missing blob and a part of the journal are told in the same words."""
        error.session_id = "x"
        error.about = "thread 'support-42'"
        assert str(pickle.loads(pickle.dumps(error))).startswith(begin)

    @pytest.mark.parametrize(
        "error",
        [error for error, _ in _SAMPLES[1:] if not isinstance(error, _OF_NO_SESSION)],
        ids=lambda error: type(error).__name__,
    )
    def test_so_is_whatever_concerns_a_session(self, error: CheckpointError) -> None:
        """Each error that a call on one session may raise says whose it is, once, in brackets."""
        told = copy.copy(error)
        told.about = "thread 'support-42'"
        text = str(told)
        assert re.search(r"[( ]thread 'support-42'\)", text)
        assert str(error) in (
            text.replace(" (thread 'support-42')", ""), text.replace(", thread 'support-42'", "")
        )  # fmt: skip

    def test_the_whole_document_may_be_at_fault(self) -> None:
        """An encoding error without a path speaks of the document."""
        assert str(CheckpointEncodeError("", "is odd")) == "cannot save: the document is odd"

    def test_long_id_is_cut(self) -> None:
        """An id of any length makes a text that can be read."""
        assert len(str(InvalidIdError("session id", "x" * 5_000, "reason"))) < 200


class TestCopies:
    @_each_error
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    @pytest.mark.some(60)
    def test_survives_pickle(self, error: CheckpointError, protocol: int) -> None:
        """An error that crosses a process boundary arrives whole."""
        _assert_same(pickle.loads(pickle.dumps(error, protocol)), error)

    @_each_error
    def test_survives_copy(self, error: CheckpointError) -> None:
        """A copy, shallow or deep, is the same error."""
        _assert_same(copy.copy(error), error)
        _assert_same(copy.deepcopy(error), error)

    @_each_error
    def test_keeps_what_was_set_later(self, error: CheckpointError) -> None:
        """Notes and attributes given to an error after it was made are copied too."""
        changed = copy.copy(error)
        changed.add_note("while saving")
        changed.newest_valid_id = "later"  # type: ignore[attr-defined]

        copied = pickle.loads(pickle.dumps(changed))

        _assert_same(copied, changed)
        assert copied.__notes__ == ["while saving"]
        assert copied.newest_valid_id == "later"

    @_each_error
    def test_what_is_kept_holds_nothing_that_went_on(self, error: CheckpointError) -> None:
        """A copy to keep has neither traceback nor cause, and what it is told later is its own."""
        raised = copy.copy(error)
        raised.add_note("before")
        with contextlib.suppress(CheckpointError):
            raise raised from OSError("cause")

        found = kept(raised)

        assert isinstance(found, CheckpointError)
        _assert_same(found, raised)
        assert (found.__traceback__, found.__cause__, found.__context__) == (None, None, None)
        found.add_note("after")
        assert raised.__notes__ == ["before"]

    @pytest.mark.parametrize("is_group", [False, True])
    def test_what_is_kept_of_several_holds_nothing_either(self, is_group: bool) -> None:
        """The errors within one are copies, too; notes and texts are as they were."""
        inner = [StorageError("save", f"/r/{n}", None, "why") for n in range(3)]
        for each in inner:
            with contextlib.suppress(CheckpointError):
                raise each from OSError("cause")
        several: Exception = ExceptionGroup("three", inner) if is_group else inner[0]
        several.add_note("before")
        inner[0].others = tuple(inner[1:])
        inner[1].others = tuple(inner)  # as of one that has been told twice

        found = kept(several)

        assert type(found) is type(several)
        assert str(found) == str(several)
        assert found.__notes__ == ["before"]
        within = found.exceptions if isinstance(found, ExceptionGroup) else (found,)
        others = [it for each in within for it in (each, *vars(each).get("others", ()))]
        assert {str(each) for each in others} == {str(each) for each in inner}
        for each in (found, *others):
            assert (each.__traceback__, each.__cause__, each.__context__) == (None, None, None)

    def test_what_cannot_be_copied_is_kept_as_text(self) -> None:
        """Of an error whose class takes other arguments than it passes on, its name and text."""

        class _OddError(Exception):
            def __init__(self, first: str, second: str) -> None:
                super().__init__(first + second)

        class _OddCheckpointError(CheckpointError):
            def __init__(self, first: str, *, second: str) -> None:
                super().__init__(first + second)

        class _AnotherError(Exception):
            def __reduce__(self) -> tuple[type[str], tuple[str]]:
                return str, ("no error",)

        assert str(kept(_OddError("a", "b"))) == "_OddError: ab"
        odd = _OddCheckpointError("a", second="b")
        assert str(kept(odd)) == "_OddCheckpointError: ab"
        assert own_copy(odd) is odd
        several = StorageError("save", "/r", None, "why")
        several.others = (odd,)
        assert type(kept(several)) is StorageError
        assert [*map(str, vars(kept(several))["others"])] == ["_OddCheckpointError: ab"]
        assert str(kept(_AnotherError("d"))) == "_AnotherError: d"
        assert str(kept(ValueError("c"))) == "c"

    def test_each_caller_has_its_own(self) -> None:
        """Several callers get copies with the cause; what is not ours they share."""
        cause = OSError("cause")
        error = StorageError("save", "/r", None, "why")
        error.__cause__ = cause
        own = own_copy(error)
        _assert_same(own, error)
        assert own is not error
        assert own.__cause__ is cause
        assert own_copy(cause) is cause

    def test_fields_of_a_special_damage_are_kept(self) -> None:
        """An error with fields of its own keeps them beside the general ones."""
        error = CheckpointMismatchError("/r/cp.json", ("t", "x"), ("s", None))
        error.newest_valid_id = "b"

        copied = pickle.loads(pickle.dumps(error))

        assert copied.newest_valid_id == "b"
        assert copied.found == ("t", "x")


def _assert_same(copied: CheckpointError, error: CheckpointError) -> None:
    assert type(copied) is type(error)
    assert copied.args == error.args
    assert vars(copied) == vars(error)
    assert str(copied) == str(error)


class TestStorageError:
    @pytest.mark.parametrize(
        ("number", "kind"),
        [
            (errno.ENOSPC, StorageFullError),
            (errno.EDQUOT, StorageFullError),
            (errno.EFBIG, FileSizeLimitError),
            (errno.EIO, StorageError),
            (errno.EROFS, StorageError),
        ],
    )
    def test_stands_for_the_system_error(self, number: int, kind: type[StorageError]) -> None:
        """The error keeps the number and the system's words; a full disk has its own type."""
        error = storage_error("write", "/r/x", OSError(number, "system words", "/other"))

        assert type(error) is kind
        assert (error.operation, error.path) == ("write", "/r/x")
        assert (error.errno, error.reason) == (number, "system words")

    def test_system_error_without_a_number(self) -> None:
        """An `OSError` that has a text alone keeps it."""
        error = storage_error("open", "/r/x", OSError("odd"))

        assert (error.errno, error.reason) == (None, "odd")
