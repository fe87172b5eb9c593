"""Leaving the writing of files to a process of its own, which is just another one on the root."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence

import msgspec

from aiocheckpoint._disk.companion import Companion, Principal
from aiocheckpoint._disk.files import LocalFiles, monotonic_seconds, printable
from aiocheckpoint._disk.index import Signature
from aiocheckpoint._disk.locks import MovedError
from aiocheckpoint._disk.pending import Committed
from aiocheckpoint._engine.applier import ROUND_SECONDS, Applier
from aiocheckpoint._engine.root import WritableRoot, open_to_write
from aiocheckpoint._engine.sync import Touched
from aiocheckpoint.errors import CheckpointError, StorageError

_RESTART_SECONDS = 10.0
_logger = logging.getLogger("aiocheckpoint")

_Applied = tuple[str, Signature, Signature]
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Applied).decode


class Delegate:
    """
    A process that writes files for this one, as long as all goes well and nobody waits for them.

    It takes the locks that any other process takes, and leaves all errors to this one: it ends
    at the first, and whoever it worked for does the work himself.

    Args:
        max_bytes: of one file.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._companion: Companion | None = None
        self._starts_at = 0.0

    def work(self, root: WritableRoot, is_urgent: Callable[[], bool]) -> bool:
        """
        Let it apply and flush what is committed.

        Args:
            root: what to write to.
            is_urgent: whether to wait for it no more.

        Returns:
            False where it was not, or not completely, done.
        """
        try:
            companion = self._started(root)
            if companion is None:
                return False
            # What it was asked for may have been done by this process, and more have come since.
            if companion.is_busy and not self._is_done(companion, root, is_urgent):
                return False
            companion.ask()
            return self._is_done(companion, root, is_urgent)
        except StorageError as error:
            _logger.warning("%s; this process writes files by itself", printable(str(error)))
            self.end()
        return False

    def _is_done(
        self, companion: Companion, root: WritableRoot, is_urgent: Callable[[], bool]
    ) -> bool:
        while companion.is_busy and not is_urgent():
            for line in filter(None, companion.lines(ROUND_SECONDS)):
                root.view.learn(*_decode(line))
        root.view.follow()
        return not companion.is_busy

    def _started(self, root: WritableRoot) -> Companion | None:
        if self._companion is None and monotonic_seconds() >= self._starts_at:
            self._starts_at = monotonic_seconds() + _RESTART_SECONDS
            path = root.view.sessions.root.path
            arguments = [path, str(self._max_bytes), str(root.max_bytes)]
            self._companion = Companion(__name__, arguments)
        return self._companion

    def end(self) -> None:
        """End the process, if there is one."""
        companion, self._companion = self._companion, None
        if companion is not None:
            companion.end()


class _Delegated(Applier):
    """Applies for another process, and tells it how it leaves the directories of sessions."""

    def __init__(self, root: WritableRoot, principal: Principal) -> None:
        super().__init__(lambda: root)
        self._principal = principal
        self._applied = root.files.applied = []

    def work(self) -> bool:
        """Apply and flush what is committed; False where some could not be."""
        self._tenure()
        return self.error is None

    def _apply(
        self,
        root: WritableRoot,
        sessions: Mapping[str, Sequence[Committed]],
        place: int,
        touched: Touched,
    ) -> None:
        super()._apply(root, sessions, place, touched)
        self._principal.hint([_encode(applied) for applied in self._applied])
        self._applied.clear()


def main() -> None:
    """Write the files of a root for the process that has started this one, until it ends."""
    path, max_bytes, max_journal_bytes = sys.argv[1:]
    _logger.disabled = True  # whoever asked tells what goes wrong
    principal = Principal()
    try:
        root = open_to_write(path, LocalFiles(), int(max_bytes), int(max_journal_bytes))
        applier = _Delegated(root, principal)
        for _ in principal.requests():
            if not applier.work():
                break
            principal.done()
    except (CheckpointError, MovedError, OSError):
        return  # whoever asked does it himself, and tells
