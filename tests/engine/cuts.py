"""Power cuts at every moment of a history, and what has to be seen after each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from tests.engine.disk import Disk
from tests.engine.kernel import CONTROL_PATH
from tests.engine.ledger import Ledger
from tests.engine.nodes import NOTHING, Choice, Image
from tests.engine.process import Process

_LEAVE = b""


def require_kept(
    disk: Disk, image: Image, ledger: Ledger, control: bytes | None = _LEAVE
) -> Process:
    """
    See that what was promised is there after a cut, after two saves, and after a second cut.

    Args:
        disk: to be left in the last state.
        image: what the cut left.
        ledger: what was promised.
        control: what the shared positions are then; None for no file.

    Returns:
        the process that looked last.
    """
    ledger = ledger.copy()
    ledger.power_cut()
    disk.install(image, control, CONTROL_PATH)
    reader, process, other = Process(disk), Process(disk), Process(disk)
    process.to_write()
    ledger.check(reader, process)  # each looks first
    assert ledger.save(process, "s", "z", 1) is None
    ledger.check(reader, process)
    assert ledger.save(other, "s", "y", 2) is None  # this one saves first
    ledger.check(reader, process, other)
    disk.install(disk.image(NOTHING))
    last = Process(disk)
    ledger.check(last)
    return last


class Moment(NamedTuple):
    """
    A cut that may have been.

    Attributes:
        step: before which.
        choice: name of what it leaves.
        image: the same.
        ledger: what was promised by then.
        controls: what the shared positions had been by then, since they were made durable last.
    """

    step: int
    choice: str
    image: Image
    ledger: Ledger
    controls: tuple[bytes, ...]


class Moments:
    """
    The cuts that may be, gathered while a history comes to pass; each that differs once.

    Args:
        disk: on which.
        ledger: what is promised.
        choices: of what a cut leaves; called at each moment.
    """

    def __init__(self, disk: Disk, ledger: Ledger, choices: Callable[[], Iterable[Choice]]) -> None:
        self._disk = disk
        self._ledger = ledger
        self._choices = choices
        self._keys: set[object] = set()
        self.found: list[Moment] = []

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Gather while the history comes to pass, and at its end."""
        self._disk.on_step = self.gather
        try:
            yield
        finally:
            self._disk.on_step = None
        self.gather()

    def gather(self) -> None:
        """Note what a cut may leave just now."""
        ledger = self._ledger.copy()
        ledger.power_cut()
        promise = frozenset((name, frozenset(states)) for name, states in ledger.cut.items())
        for choice in self._choices():
            image = self._disk.image(choice)
            key = image.key(), promise
            if key not in self._keys:
                self._keys.add(key)
                since = self._disk.controls[self._disk.synced_control :]
                controls = tuple(dict.fromkeys(since))
                self.found.append(Moment(self._disk.steps, choice.name, image, ledger, controls))

    def check(
        self,
        controls: Callable[[Moment], Sequence[bytes | None]] = lambda moment: (_LEAVE,),
        then: Callable[[Process], object] = lambda process: None,
        every: int = 1,
    ) -> None:
        """See that no cut, of every so many, breaks a promise, whatever the shared positions."""
        for moment in self.found[::every]:
            for number, control in enumerate(controls(moment)):
                try:
                    then(require_kept(self._disk, moment.image, moment.ledger, control))
                except BaseException as error:
                    error.add_note(
                        f"after a cut before step {moment.step} that leaves {moment.choice}, "
                        f"with shared positions number {number}"
                    )
                    raise
