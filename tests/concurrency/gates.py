"""File operations that stop, fail or are watched at a chosen moment."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

from aiocheckpoint._disk.files import LocalFiles

GUARD_SECONDS = 60.0
"""No step of a test takes this long; whoever waits longer has found a hang."""

P = ParamSpec("P")
ResultT = TypeVar("ResultT")

COMMIT = "write"
"""The first operation of a commit for which its changes have begun: writing the journal."""

_APPLIER = "aiocheckpoint-apply"


class Gate:
    """Holds the thread that reaches it until it is opened; usable from any loop or thread."""

    def __init__(self) -> None:
        self._arrived: Future[str] = Future()
        self._arrivals: dict[asyncio.AbstractEventLoop, asyncio.Future[str]] = {}
        self._opened = threading.Event()

    def pass_through(self, moment: str) -> None:
        """Announce the moment and wait until the gate is opened."""
        if self._opened.is_set():
            return
        self._arrived.set_result(moment)
        if not self._opened.wait(GUARD_SECONDS):
            raise TimeoutError(f"nobody opened the gate at {moment}")

    def open(self) -> None:
        """Let the held thread, or the one that is still to come, go on."""
        self._opened.set()

    @property
    def is_reached(self) -> bool:
        """Whether a thread is held, or was."""
        return self._arrived.done()

    async def arrival(self) -> str:
        """Wait until a thread is held, and return where; all who wait in a loop wake at once."""
        loop = asyncio.get_running_loop()
        if loop not in self._arrivals:
            self._arrivals[loop] = asyncio.wrap_future(self._arrived)
        return await asyncio.wait_for(asyncio.shield(self._arrivals[loop]), GUARD_SECONDS)

    def wait_arrival(self) -> str:
        """Wait, outside a loop, until a thread is held."""
        return self._arrived.result(GUARD_SECONDS)


class ControlledFiles(LocalFiles):
    """
    File operations with gates and faults, at a failpoint or at the n-th operation.

    What writes the files works when it likes: its operations are not counted, held or failed,
    but its failpoints can be held.

    Attributes:
        operations: the operations begun since `watch_operations`, in order.
        failpoints: the failpoints reached since then, in order.
    """

    def __init__(self) -> None:
        self.operations: list[str] = []
        self.failpoints: list[str] = []
        self._numbers = itertools.count()
        self._gates: dict[str | int, Gate] = {}
        self._faults: dict[str | int, OSError] = {}
        self._gates_made: list[Gate] = []

    def watch_operations(self) -> None:
        """Count the operations anew: the next one is number 0."""
        self.operations = []
        self.failpoints = []
        self._numbers = itertools.count()

    def hold(self, moment: str | int) -> Gate:
        """Return a gate for the first thread to reach a failpoint, an operation, or its number."""
        gate = self._gates[moment] = Gate()
        self._gates_made.append(gate)
        return gate

    def fail(self, moment: str | int, error: OSError) -> None:
        """Let the first operation of that name or number fail instead of having an effect."""
        self._faults[moment] = error

    def open_all(self) -> None:
        """Open every gate, also those nobody has reached."""
        self._gates.clear()
        for gate in self._gates_made:
            gate.open()

    def reached(self, failpoint: str) -> None:
        self.failpoints.append(failpoint)
        self._wait_at(failpoint, failpoint)

    def call(
        self,
        operation: str,
        path: str,
        function: Callable[P, ResultT],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ResultT:
        if threading.current_thread().name == _APPLIER:
            return super().call(operation, path, function, *args, **kwargs)
        number = next(self._numbers)
        self.operations.append(operation)
        for moment in (operation, number):
            self._wait_at(moment, f"{operation} {path}")
            fault = self._faults.pop(moment, None)
            if fault is not None:
                function = _raiser(fault)
        return super().call(operation, path, function, *args, **kwargs)

    def _wait_at(self, moment: str | int, label: str) -> None:
        gate = self._gates.pop(moment, None)
        if gate is not None:
            gate.pass_through(label)


def _raiser(error: OSError) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


class ThreadRecordingFiles(LocalFiles):
    """
    Remembers which thread used which file operation.

    Attributes:
        users: names of the operations used, by thread id.
    """

    def __init__(self) -> None:
        self.users: dict[int, set[str]] = {}

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if callable(found) and not name.startswith("__"):
            self.users.setdefault(threading.get_ident(), set()).add(name)
        return found
