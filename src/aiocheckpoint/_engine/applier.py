"""The applier: one thread, of one process at a time, that makes files of what is committed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from aiocheckpoint._copied_errors import kept
from aiocheckpoint._disk.files import monotonic_seconds, printable
from aiocheckpoint._disk.locks import LOCK_NAME, MovedError
from aiocheckpoint._disk.pending import Committed
from aiocheckpoint._engine.carry import Failure, carry_failed
from aiocheckpoint._engine.changes import Change
from aiocheckpoint._engine.demand import Demand
from aiocheckpoint._engine.last_words import done_up_to
from aiocheckpoint._engine.root import WritableRoot
from aiocheckpoint._engine.sync import Touched
from aiocheckpoint._engine.waiters import Flushed, late_error
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointError,
    JournalCorruptError,
    StorageError,
    StorageFullError,
)

ROUND_SECONDS = 0.05
TENURE_SECONDS = 1.0
# Who lets go of the GIL for short calls alone has it back before the loop has woken up for it:
# that takes it by force after 5 ms. So, as long as there is time, it is left alone now and then.
_PAUSE_SECONDS = 0.0001
_FEW_ENTRIES = 128  # in a round of 50 ms
_RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0)
_logger = logging.getLogger("aiocheckpoint")


class Applier:
    """
    Applies and flushes, and wakes who waits for that.

    Args:
        demand: what is asked for.
        opened: returns the open root; it may be opened anew meanwhile.
        rounds: for how many times `ROUND_SECONDS` changes are gathered while nobody waits.
        has_lost_journal: tells whether its journal was removed, and files lack of what it held.

    Attributes:
        demand: what is asked for.
        error: why files could not be written or synced last, None if they could; not to be raised.
    """

    def __init__(
        self,
        demand: Demand,
        opened: Callable[[], WritableRoot],
        rounds: int = 1,
        has_lost_journal: Callable[[], bool] = bool,
    ) -> None:
        self.demand = demand
        self._opened = opened
        self._has_lost_journal = has_lost_journal
        self._gathering_seconds = rounds * ROUND_SECONDS
        self.error: Exception | None = None
        self._looked: tuple[Flushed, int] | None = None
        self._failed: dict[str, Failure] = {}
        self._failures = 0

    def run(self) -> None:
        """Apply what is committed, until the end."""
        while self.demand.wait_for_work(self._gathering_seconds, has_failed=self._failures > 0):
            try:
                self._tenure()
            except MovedError as moved:
                self.demand.fail_tried(_moved(str(moved)))
                with contextlib.suppress(Exception):  # the next use looks for itself
                    if self._has_lost_journal():  # and is written when opened anew
                        self.demand.found_waiting()
            except Exception as raised:  # noqa: BLE001 - the thread must outlive a bug of ours
                self._note(raised)
                self.demand.fail_tried(raised)
            if self.error is not None:
                self._retry_later()

    def _note(self, error: Exception | None) -> None:
        """Note why files lack, and tell when that has changed."""
        if error is None and self.error is not None:
            _logger.info("files are written again; tries that failed: %d", self._failures)
        noted = error and kept(error)
        if error is not None and _kind_of(noted) != _kind_of(self.error):
            _tell(error)
        self.error = noted
        self._failures = 0 if error is None else self._failures + 1

    def _tenure(self) -> None:
        """Be the applier: apply in rounds, then flush; unless others do all that is waited for."""
        root = self._opened()
        # Those of an older root; of a newer one may have come since it was opened.
        tries = self.demand.tries
        self.demand.fail(
            _moved(root.log.directory.path),
            lambda waiter: waiter.root is not root and waiter.tries < tries,
        )
        with root.log.applying(partial(self._look, root)) as is_applier:
            if not is_applier:
                return
            root.view.follow()
            touched = Touched(root.view.files, root.view.sessions.root)
            self._failed.clear()
            try:
                place = self._rounds(root, touched)
                damaged = root.view.lost.unreadable()
                place = min([place, *(damage.place for damage in damaged)])
                self._flush(root, touched, place)
            finally:
                touched.close()
            if not damaged:
                self._note(self._failure())
            self._wake_waiters(root, place)
            if damaged:
                raise JournalCorruptError(damaged[0].path)

    def _look(self, root: WritableRoot) -> bool | None:
        """
        Wake those whose files another process has flushed meanwhile.

        Returns:
            whether nothing is left to do here; None where that takes an own try.

        Raises:
            MovedError: the root is another one by now.
        """
        if self._opened() is not root:
            raise MovedError(root.log.directory.path)
        seen = self._seen(root)
        if seen is None:
            return None
        arrived, looked = self.demand.arrived, self._looked
        if looked != (seen, arrived):  # else it is as it was at the last look
            self._looked = seen, arrived
            if looked is not None and seen.place > looked[0].place:
                root.log.applier_waits_since = monotonic_seconds()  # a line that moves
            self._wake_flushed(root, seen)
        return self.demand.is_met_by(seen)

    def _wake_flushed(self, root: WritableRoot, seen: Flushed) -> None:
        """Wake those that have what they wait for."""
        if self.demand.has_any_outcome(seen.has_files):
            root.log.require_in_place(LOCK_NAME)
            self.demand.wake(seen.has_files)

    def _seen(self, root: WritableRoot) -> Flushed | None:
        """Return how far others have flushed; None where an own try has to tell what is so."""
        with contextlib.suppress(CheckpointError, MovedError), root.view.mutex:
            root.view.follow()
            control, end, place = root.log.control, root.log.end, root.view.flushed
            is_whole = not root.view.pending.stuck and not root.view.lost.unreadable()
            # Without an end nothing was read: the last time failed in the middle.
            if control is not None and end and is_whole and self.error is None:
                return Flushed(root, place, end, is_erased=not control.must_erase)
        return None

    def _failure(self) -> CheckpointError | None:
        """Return why the files of a session could not be written, None if all could."""
        return next((failure.error for failure in self._failed.values()), None)

    def _rounds(self, root: WritableRoot, touched: Touched) -> int:
        """Apply until nothing is left, or a while, or somebody waits; return up to where."""
        started = monotonic_seconds()
        place = root.view.flushed
        while True:
            synced = self._synced(root)
            self._prepare_spare(root, root.appender.free.spare_bytes())
            self._apply(root, self._entries(root, place, synced), synced, touched)
            is_done = synced == place
            place = max(place, synced)
            is_late = monotonic_seconds() - started > TENURE_SECONDS
            if is_done or is_late or self.demand.is_wanted or _is_flush_wanted(root):
                return place
            self.demand.pause(self._gathering_seconds)
            root.view.follow()

    def _entries(
        self, root: WritableRoot, after: int, up_to: int
    ) -> dict[str, Sequence[Committed]]:
        """Return what to apply, by session; of those that failed, nothing more in this tenure."""
        with root.view.mutex:
            root.view.follow()  # of what was read, some may not count after all
            found = {
                name: [c for c in session.entries if after < c.place <= up_to]
                for name, session in root.view.pending.sessions.items()
                if name not in self._failed
            }
        return {name: entries for name, entries in found.items() if entries}

    def _synced(self, root: WritableRoot) -> int:
        """Return up to where the log is durable: nothing is applied before."""
        control = root.log.control
        if control is not None and control.visible > control.synced:
            with root.log.locked():
                root.view.catch_up()
                root.appender.make_ready(root.max_bytes)
                root.appender.sync()
                control = root.log.control
        return control.synced if control else 0

    def _apply(
        self,
        root: WritableRoot,
        sessions: Mapping[str, Sequence[Committed]],
        place: int,
        touched: Touched,
    ) -> None:
        """Apply each session by itself: an error stays with it, and the others go on."""
        full: dict[str, Sequence[Committed]] = {}
        has_time = sum(map(len, sessions.values())) <= _FEW_ENTRIES

        def make_way() -> None:
            if has_time and not self.demand.hurries:
                root.view.files.pause(_PAUSE_SECONDS)

        root.files.make_way = make_way
        for name, entries in sessions.items():
            try:
                root.files.apply(name, entries, place, touched)
            except StorageFullError:
                full[name] = entries
            except CheckpointError as error:
                self._failed[name] = Failure(error, place)
        for name, entries in full.items():  # what was removed has made room by now
            written: set[str] = set()
            try:
                root.files.remove(name, entries, touched)
                root.files.apply(name, entries, place, touched, written)
            except CheckpointError as error:
                self._failed[name] = Failure(error, place, done_up_to(entries, written))

    # Flushing

    def _flush(self, root: WritableRoot, touched: Touched, place: int) -> None:
        root.view.files.reached("before_flush")
        touched.sync()
        root.view.files.reached("after_flush")
        is_flushed = place <= root.view.flushed
        # Also for a flush that waits elsewhere, which does not end before that.
        erases = self.demand.has_waiters or root.view.wanted > root.view.flushed
        control = root.log.control
        must_erase = erases and control is not None and control.must_erase
        if is_flushed and not must_erase and not self.demand.is_closing:
            return
        root.view.keep_owners(place)
        with root.log.locked():
            root.view.catch_up()
            root.appender.make_ready(root.max_bytes)
            carried = carry_failed(root, self._failed, place)
            root.appender.publish_flushed(carried)
            root.view.drop_flushed()
            if any(
                isinstance(failure.error, StorageFullError) for failure in self._failed.values()
            ):
                root.appender.free.trim(0, spares=0)  # what was flushed makes room for the rest
                return
            if erases and root.appender.must_erase:
                root.appender.erase(ends_segment=bool(self.demand.flushes))
            if self.demand.is_closing and not self._failed:
                root.appender.leave_empty()
                return
            spare_bytes = root.appender.free.trim(root.max_bytes)
        self._prepare_spare(root, spare_bytes)

    def _prepare_spare(self, root: WritableRoot, size: int) -> None:
        """Make a slot ahead, so that no commit has to do it under the lock."""
        if not size or self._failures:  # the room may be wanted for the files
            return
        # Without it the commit that needs a slot makes one, or says why it cannot.
        with contextlib.suppress(StorageError):
            root.log.slots.prepare(size)
            with root.log.locked():
                root.view.catch_up()  # or what others have committed meanwhile does not count
                root.appender.free.adopt_spare()

    # Who waits

    def _wake_waiters(self, root: WritableRoot, tried: int) -> None:
        """
        Wake those whose files are durable; with an error where some session is stuck.

        Who came after the try that failed waits for another one.
        """
        durable = max(tried, root.log.control.flushed if root.log.control else 0)
        self.demand.wake(
            lambda it, change: (
                it.root is root and it.place <= durable and self._is_over(change, it.place)
            )
        )

    def _is_over(self, change: Change, place: int) -> bool:
        """Tell whether a change that was tried has its outcome; note the error, if it is one."""
        sessions = change.sessions or self._failed
        failures = [failure for name, failure in self._failed.items() if name in sessions]
        change.job.error = late_error(change, failures[0].error) if failures else None
        return not failures or any(failure.place >= place for failure in failures)

    def _retry_later(self) -> None:
        """Try again after a while: the log keeps everything."""
        self.demand.retry_after(_RETRY_SECONDS[min(self._failures, len(_RETRY_SECONDS)) - 1])


def _tell(error: Exception) -> None:
    """Tell why files lack, and what becomes of what was saved, in texts that the docs name."""
    if isinstance(error, CheckpointCorruptError):  # no try helps, and `recover` does
        _logger.warning(
            "%s; until then the journal keeps what has no files, and flush raises",
            printable(str(error)),
        )
    elif isinstance(error, CheckpointError):
        _logger.warning(
            "%s; it is tried again, and what was saved is kept until then", printable(str(error))
        )
    else:
        _logger.error(
            "%s; it is tried again, and what was saved is kept until then",
            printable(repr(error)),
            exc_info=error,
        )


def _kind_of(error: Exception | None) -> tuple[object, ...]:
    """Return what of an error is the same when it comes again; temporary files have other names."""
    return (type(error), getattr(error, "operation", None), getattr(error, "reason", None))


def _is_flush_wanted(root: WritableRoot) -> bool:
    """Tell whether another process waits for a flush, or the log for room."""
    is_half_full = 2 * root.view.pressing_bytes() > root.max_bytes
    return root.view.wanted > root.view.flushed or is_half_full


def _moved(path: str) -> StorageError:
    return StorageError("flush", path, None, "the directory was moved or removed; try again")
