"""The disk as one process uses it, which can be killed, and whose calls can be made to fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar

from aiocheckpoint._disk.files import Directory as OpenDirectory
from aiocheckpoint._disk.files import FileStatus, LocalFiles
from tests.engine.disk import Disk
from tests.engine.kernel import STEPS

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


class KilledError(BaseException):
    """The process that makes the call is dead."""


class Call(NamedTuple):
    """
    A system call that is about to be made.

    Attributes:
        operation: as in the errors.
        path: of the file or directory.
        function: its name.
        descriptor: that it is made on, if it is one; or else -1.
        owner: who makes it.
    """

    operation: str
    path: str
    function: str
    descriptor: int
    owner: DiskFiles

    @property
    def is_log_sync(self) -> bool:
        """Whether it makes a slot of the log durable."""
        return self.function == "data_sync" and "/log." in self.path


class DiskFiles(LocalFiles):
    """
    The disk as one process uses it.

    Args:
        disk: shared by all.

    Attributes:
        before: called before each call and failpoint; raises what is to be raised.
        dies_at: the step at which this process is killed; None for never.
        is_dead: whether it was.
        fails_after: the error with which its next call fails after all; 0 for none.
    """

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.before: Callable[[Call], None] | None = None
        self.dies_at: int | None = None
        self.is_dead = False
        self.fails_after = 0

    def kill(self) -> None:
        """Let this process do nothing more."""
        self.is_dead = True
        self.disk.kill(self)

    def pause(self, seconds: float) -> None:
        """Go on at once: nobody else does anything meanwhile."""

    def reached(self, failpoint: str) -> None:
        self._prepare(Call(failpoint, "", failpoint, -1, self))

    def call(
        self,
        operation: str,
        path: str,
        function: Callable[P, ResultT],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ResultT:
        name = function.__name__

        def attempt() -> ResultT:
            descriptor = args[0] if args and isinstance(args[0], int) else -1
            self._prepare(Call(operation, path, name, descriptor, self))
            if name in STEPS:
                self._step()
            result = self.disk.perform(self, name, function, args, kwargs)
            if self.fails_after:
                number, self.fails_after = self.fails_after, 0
                raise OSError(number, "injected")
            return result

        return super().call(operation, path, attempt)

    def _prepare(self, call: Call) -> None:
        if self.is_dead:
            raise KilledError
        if self.before is not None:
            self.before(call)

    def _step(self) -> None:
        if self.dies_at is not None and self.disk.steps >= self.dies_at:
            self.kill()
            raise KilledError
        self.disk.steps += 1
        if self.disk.on_step is not None:
            self.disk.on_step()

    # Which file system something is on

    def file_system_type(self, status: FileStatus) -> str:
        return ""

    def directory_status(self, directory: OpenDirectory) -> FileStatus:
        return self._moved(super().directory_status(directory), directory.path)

    def status_of_path(self, path: str) -> FileStatus | None:
        found = super().status_of_path(path)
        return None if found is None else self._moved(found, path)

    def still_leads_to(self, path: str, held: FileStatus) -> bool:
        found = self.status_of_path(path)
        return found is not None and found.identity == held.identity

    def _moved(self, status: FileStatus, path: str) -> FileStatus:
        node = self.disk.node_of(path)
        if node is None or node.device == 0:
            return status
        return status._replace(device=node.device)
