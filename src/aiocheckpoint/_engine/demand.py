"""What is asked of the applier, and who waits for it; over threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from aiocheckpoint._engine.changes import Change, Flush
from aiocheckpoint._engine.jobs import Job
from aiocheckpoint._engine.root import WritableRoot
from aiocheckpoint._engine.waiters import Flushed, Waiter, late_error


class Demand:
    """
    What is asked of the applier: files of what is committed, a flush, room, its end.

    Attributes:
        is_wanted: whether somebody waits for files, or for room.
        tries: how many tries to write files have begun.
        arrived: how many commits have come whose callers wait.
    """

    def __init__(self) -> None:
        self.is_wanted = False
        self.tries = self.arrived = 0
        self._condition = threading.Condition()
        self._waiters: list[Waiter] = []
        self._flushes = 0
        self._is_due = False  # there may be files to write
        self._is_ending = False

    # From other threads

    def committed(self, root: WritableRoot, place: int, late: Sequence[Change]) -> None:
        """Take notice of a commit, and of who waits until its files are durable."""
        if self._is_due and not late:
            return
        with self._condition:
            if late:
                self._waiters.append(Waiter(root, place, late, self.tries))
                self.arrived += 1
                self.is_wanted = True
            if place or late:
                self._note_due()

    def found_waiting(self) -> None:
        """Take notice that files lack of what others have committed, and nobody may be writing."""
        if not self._is_due:
            with self._condition:
                self._note_due()

    def wait_for_flush(self, seconds: float) -> None:
        """Ask for a flush, and wait a moment for it."""
        with self._condition:
            self.is_wanted = True
            flushes = self._flushes
            self._note_due()
            self._condition.wait_for(lambda: self._flushes != flushes, seconds)

    def end(self) -> None:
        """Let the applier end when nobody waits any more."""
        with self._condition:
            self._is_ending = True
            self._condition.notify_all()

    def _note_due(self) -> None:
        self._is_due = True
        self._condition.notify_all()

    # From the applier

    @property
    def hurries(self) -> bool:
        """Whether somebody waits for files, or for room; or for the end."""
        return self.is_wanted or self._is_ending

    @property
    def has_waiters(self) -> bool:
        """Whether somebody waits until files are durable."""
        return bool(self._waiters)

    @property
    def flushes(self) -> list[Flush]:
        """The flushes that wait."""
        changes = [change for waiter in self._waiters for change in waiter.changes]
        return [change for change in changes if isinstance(change, Flush)]

    @property
    def is_closing(self) -> bool:
        """Whether nothing comes after what is there."""
        return self._is_ending or any(flush.closes for flush in self.flushes)

    def wait_for_work(self, gathering_seconds: float, *, has_failed: bool) -> bool:
        """
        Wait until a try to write files is due; False at the end.

        Args:
            gathering_seconds: how long changes are gathered while nobody waits.
            has_failed: whether the last try has.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._is_due or self._waiters or self._is_ending)
            is_abandoned = self._is_due and not has_failed  # or all would be done already
            if self._is_ending and not self._waiters and not is_abandoned:
                return False
            if not self.is_wanted and not has_failed:
                self._condition.wait_for(lambda: self.hurries, gathering_seconds)
            self._is_due = False
            self.tries += 1
            return True

    def pause(self, seconds: float) -> None:
        """Let a while pass, unless somebody waits."""
        with self._condition:
            self._condition.wait_for(lambda: self.hurries, seconds)

    def retry_after(self, seconds: float) -> None:
        """Have another try made, after a while or as soon as somebody waits."""
        with self._condition:
            self.pause(seconds)
            self._is_due = True

    def is_met_by(self, seen: Flushed) -> bool | None:
        """
        Tell whether what another process has flushed is all that is asked for.

        Returns:
            None where that takes an own try.
        """
        root = seen.root
        with self._condition:
            if any(waiter.root is root and waiter.place <= seen.place for waiter in self._waiters):
                return None  # it is flushed, and waits for more than that
            # What others have committed is theirs to write when this one ends.
            last = root.committed if self._is_ending else seen.end
            is_met = not self._waiters and last <= seen.place
            if is_met:
                self.note_flush()
        return is_met

    def has_any_outcome(self, has_outcome: Callable[[Waiter, Change], bool]) -> bool:
        """Tell whether any change has its outcome."""
        return any(
            has_outcome(waiter, change) for waiter in [*self._waiters] for change in waiter.changes
        )

    def wake(self, has_outcome: Callable[[Waiter, Change], bool]) -> None:
        """Wake those whose change has its outcome, after a flush."""
        woken: list[Change] = []
        with self._condition:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                later = [it for it in waiter.changes if not has_outcome(waiter, it)]
                if later:
                    self._waiters.append(waiter._replace(changes=later))
                woken += [change for change in waiter.changes if change not in later]
            self.note_flush()
        Job.deliver(change.job for change in woken)

    def fail_tried(self, error: BaseException) -> None:
        """Give the error to those who waited when the try began; who came later waits on."""
        self.fail(error, lambda waiter: waiter.tries < self.tries)
        self.note_flush()

    def fail(self, error: BaseException, is_meant: Callable[[Waiter], bool]) -> None:
        """Give an error to those that are meant."""
        with self._condition:
            waiters = [waiter for waiter in self._waiters if is_meant(waiter)]
            self._waiters = [waiter for waiter in self._waiters if not is_meant(waiter)]
        changes = [change for waiter in waiters for change in waiter.changes]
        for change in changes:
            change.job.error = late_error(change, error)
        Job.deliver(change.job for change in changes)

    def note_flush(self) -> None:
        """Take notice that a try is over, or that another process has flushed."""
        with self._condition:
            self.is_wanted = bool(self._waiters)
            self._is_due = self._is_due or self.is_wanted
            self._flushes += 1
            self._condition.notify_all()
