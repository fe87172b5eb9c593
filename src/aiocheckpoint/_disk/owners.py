"""Who owns sessions, as the journal's flushed part said it, and which processes live."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping

from aiocheckpoint._disk.files import (
    NO_FILE,
    Directory,
    LocalFiles,
    printable,
    random_bytes,
    this_process,
)
from aiocheckpoint._format.entries import Owned
from aiocheckpoint._format.log import encode_owners, encode_process, parse_owners, told_by
from aiocheckpoint._format.names import TEMP_PREFIX
from aiocheckpoint.errors import CheckpointError, NotACheckpointError, StorageError

_logger = logging.getLogger("aiocheckpoint")

_NAME = "owners"
_PREFIX = "owner-"
_NONE = ""  # the name of no session
_MAX_BYTES = 1 << 28
_MAX_PROCESS_BYTES = 4096


class Owners:
    """
    The file that says who owned which session when the journal was flushed.

    Durable for the sake of the tokens: after a power cut no process that owned anything lives.

    Args:
        files: the file operations.
        directory: the store's own, open.

    Attributes:
        path: where it is.
    """

    def __init__(self, files: LocalFiles, directory: Directory) -> None:
        self._files = files
        self._directory = directory
        self._is_told = False
        self.path = directory.join(_NAME)

    def read(self) -> dict[str, Owned]:
        """
        Return what it says, by the names of the sessions' directories; nothing where it is damaged.

        Sessions have no owners then. Who owned one is refused, as after a loss to another: tokens
        grow with the clock.

        Raises:
            StorageError: also of what is no file.
            JournalVersionError: a newer version of this library wrote it.
        """
        found = self._parsed()
        if found is None and not self._is_told:
            _logger.warning("%s is damaged: nobody owns what it told of", printable(self.path))
        self._is_told = found is None
        return {owned.session: owned for owned in found or ()}

    def is_damaged(self) -> bool:
        """Tell whether it is there, and does not hold what was written; errors as of `read`."""
        return self._parsed() is None

    def _parsed(self) -> list[Owned] | None:
        try:
            data = self._files.read(self._directory, _NAME, _MAX_BYTES)
        except NotACheckpointError as error:
            raise StorageError("read", self.path, None, NO_FILE) from error
        return [] if data is None else parse_owners(data, self.path)

    def write(self, owners: Iterable[Owned], token: int) -> None:
        """
        Replace it, durably; `token` is the greatest that was given.

        For who applies.
        """
        for entry in self._files.scan(self._directory):
            if entry.startswith(TEMP_PREFIX):  # of who was killed here
                self._files.discard(self._directory, entry)
        data = encode_owners([*owners, Owned(_NONE, token)])
        self._files.replace(self._directory, _NAME, data)


class Presence:
    """
    Tells other processes that this one lives: by a file that it keeps locked as long as it does.

    Args:
        files: the file operations.
        directory: the store's own, open.
    """

    def __init__(self, files: LocalFiles, directory: Directory) -> None:
        self._files = files
        self._directory = directory
        self._descriptor: int | None = None
        self._id = ""

    def announce(self) -> str:
        """
        Return what names this process, after making its file, and removing those of the dead.

        Where somebody has removed its file, it gets another name: what it owned may be taken.
        """
        path = self._directory.join(f"{_PREFIX}{self._id}")
        if self._descriptor is not None and not self._files.leads_to(path, self._descriptor):
            self.close()
        while self._descriptor is None:
            self._remove_dead()
            name = f"{_PREFIX}{random_bytes(16).hex()}"
            path = self._directory.join(name)
            descriptor = self._files.open_file(self._directory, name, write=True, create=True)
            if descriptor is None:
                raise StorageError("open", path, None, "it was removed; try again")
            with contextlib.ExitStack() as stack:
                stack.callback(self._files.close, descriptor, path)
                if self._is_held(descriptor, path):  # or who looks for dead ones came in between
                    with contextlib.suppress(StorageError):  # it is for people: a disk may be full
                        self._files.write_at(descriptor, encode_process(*this_process()), 0, path)
                    self._descriptor, self._id = descriptor, name.removeprefix(_PREFIX)
                    stack.pop_all()
        return self._id

    def _is_held(self, descriptor: int, path: str) -> bool:
        files = self._files
        return files.try_lock_file(descriptor, path) and files.leads_to(path, descriptor)

    def is_alive(self, process: str) -> bool:
        """Tell whether the process of a name lives; one that is stopped does."""
        is_own = process == self._id and process != ""
        return is_own or self._files.is_locked(self._directory, f"{_PREFIX}{process}")

    def told_of(self, process: str) -> str:
        """Return what a process says of itself, in words; empty where it says nothing."""
        if process == self._id:
            return "a call of this process"
        with contextlib.suppress(CheckpointError):
            name = f"{_PREFIX}{process}"
            return told_by(self._files.read(self._directory, name, _MAX_PROCESS_BYTES) or b"")
        return ""

    def _remove_dead(self) -> None:
        for name in self._files.scan(self._directory):
            if name.startswith(_PREFIX) and not self.is_alive(name.removeprefix(_PREFIX)):
                self._files.discard(self._directory, name)

    def close(self) -> None:
        """Be gone for the others."""
        if self._descriptor is not None:
            name = f"{_PREFIX}{self._id}"
            self._files.discard(self._directory, name)
            with contextlib.suppress(StorageError):
                self._files.close(self._descriptor, self._directory.join(name))
            self._descriptor, self._id = None, ""


def greatest_token(owners: Iterable[Owned]) -> int:
    """Return the greatest token of owners, present and former; 0 for none."""
    return max((owned.token for owned in owners), default=0)


def living(owners: Mapping[str, Owned], is_alive: Callable[[str], bool]) -> list[Owned]:
    """Return those that own something, and live."""
    held = [owned for owned in owners.values() if owned.process]
    alive = {process for process in {owned.process for owned in held} if is_alive(process)}
    return [owned for owned in held if owned.process in alive]
