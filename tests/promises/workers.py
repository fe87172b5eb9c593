"""Other processes with a writer each: driven call by call, stopped, killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, TypeVar

from aiocheckpoint import CheckpointData, CheckpointMeta
from tests.nursery import Forked, Nursery
from tests.promises import worker_process
from tests.promises.places import GUARD_SECONDS, holders, is_held, wait_until
from tests.promises.worker_process import Answer, Order, Target

_PROJECT = Path(__file__).parents[2]
_SCRIPT = "import sys; from tests.promises.worker_process import main; main(sys.argv[1])"
ResultT = TypeVar("ResultT")


class WorkerGoneError(Exception):
    """The process has ended without an answer."""


class Pending(Generic[ResultT]):
    """A call that another process has begun."""

    def __init__(self, worker: Worker, number: int) -> None:
        self._worker = worker
        self._number = number

    def note(self) -> Any:
        """Return the next thing that the call tells before its end."""
        answer = self._worker.answer_to(self._number)
        assert answer.kind == "note", answer
        return answer.value

    def is_done(self, within_seconds: float = 0.0) -> bool:
        """Tell whether the call has come to an end."""
        return self._worker.has_answer_to(self._number, within_seconds)

    def result(self, within_seconds: float = GUARD_SECONDS) -> ResultT:
        """Wait for the end of the call; return its value or raise its error."""
        answer = self._worker.answer_to(self._number, within_seconds)
        if answer.kind == "raised":
            raise answer.value
        assert answer.kind == "returned", answer
        value: ResultT = answer.value
        return value


class Worker:
    """
    A process with a writer on a root.

    Args:
        root: of the store.
        prefix: a command that runs the process, as `setpriv ...`.
        options: of the writer.
    """

    def __init__(self, root: Path, prefix: Sequence[str] = (), **options: Any) -> None:
        self.root = root
        self._connection, other = Pipe()
        with other:
            self._process = _started(other.fileno(), prefix)
        self._numbers = iter(range(1 << 62))
        self._answers: defaultdict[int, deque[Answer]] = defaultdict(deque)
        self._connection.send((root, options))

    @property
    def connection(self) -> Connection:
        """What answers come from, for `multiprocessing.connection.wait`."""
        return self._connection

    def begin(self, target: Target, *args: Any, **kwargs: Any) -> Pending[Any]:
        """Begin a method of the writer, or a function of `tasks`."""
        number = next(self._numbers)
        self._connection.send(Order(number, target, args, kwargs))
        return Pending(self, number)

    def call(self, target: Target, *args: Any, **kwargs: Any) -> Any:
        """Begin one and wait for its end."""
        return self.begin(target, *args, **kwargs).result()

    def answer_to(self, number: int, within_seconds: float = GUARD_SECONDS) -> Answer:
        """Wait for the next answer to an order."""
        end = time.monotonic() + within_seconds
        while not self._answers[number]:
            self._receive(end)
        return self._answers[number].popleft()

    def has_answer_to(self, number: int, within_seconds: float) -> bool:
        """Tell whether there is an answer to an order, or comes soon."""
        if not self._answers[number] and self._connection.poll(within_seconds):
            self._receive(time.monotonic() + GUARD_SECONDS)
        return bool(self._answers[number])

    def _receive(self, end: float) -> None:
        if not self._connection.poll(max(end - time.monotonic(), 0)):
            raise TimeoutError(f"no answer within {GUARD_SECONDS} s")
        try:
            answer: Answer = self._connection.recv()
        except (EOFError, ConnectionError):
            raise WorkerGoneError(f"it ended with {self._process.wait(GUARD_SECONDS)}") from None
        self._answers[answer.number].append(answer)

    # The calls that tests make most

    def save(self, data: Any, **kwargs: Any) -> str:
        """Save."""
        saved: str = self.call("save", data, **kwargs)
        return saved

    def load(self, session_id: str, checkpoint_id: str | None = None) -> CheckpointData | None:
        """Load."""
        loaded: CheckpointData | None = self.call("load", session_id, checkpoint_id)
        return loaded

    def list(self, session_id: str) -> tuple[CheckpointMeta, ...]:
        """List, newest first."""
        metas: tuple[CheckpointMeta, ...] = self.call("list", session_id)
        return metas

    def listed_ids(self, session_id: str) -> tuple[str, ...]:
        """Return the ids that are listed, newest first."""
        return tuple(meta.checkpoint_id for meta in self.list(session_id))

    def ids(self, session_id: str) -> tuple[str, ...]:
        """Return the ids, greatest first."""
        found: tuple[str, ...] = self.call("ids", session_id)
        return found

    def delete(self, session_id: str, checkpoint_id: str) -> bool:
        """Delete a checkpoint."""
        was_there: bool = self.call("delete", session_id, checkpoint_id)
        return was_there

    # What happens to processes

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill it, and wait until it is gone with all its locks."""
        self._process.kill()
        self._process.wait(GUARD_SECONDS)

    def stop(self) -> None:
        """Stop it where it is, and wait until it has."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def go_on(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def stop_without_locks(self) -> None:
        """Stop it at a moment when it holds nobody up."""
        self._stop_when(lambda: not any(is_held(self.root, name) for name in ("turn", "lock")))

    def stop_idle(self) -> None:
        """Stop it at a moment when it writes no files either."""
        names = ("turn", "lock", "applier")
        self._stop_when(lambda: not any(is_held(self.root, name) for name in names))

    def stop_amid_commit(self) -> None:
        """Stop it at a moment when it holds the lock of the log; it must be saving all the time."""
        self._stop_when(self._is_amid_commit)

    def _is_amid_commit(self) -> bool:
        """Tell whether it, not another that writes its files meanwhile, holds the log's lock."""
        pids = holders(self.root, "lock")
        return is_held(self.root, "lock") if pids is None else self._process.pid in pids

    def _stop_when(self, condition: Callable[[], bool]) -> None:
        def try_once() -> bool:
            self.stop()
            if condition():
                return True
            self.go_on()
            return False

        wait_until(try_once, "stopped at such a moment")

    def close(self) -> None:
        """Close its writer and let it end; whatever is wrong on the way is raised."""
        self.call("aclose")
        self.end()

    def end(self) -> None:
        """Let it end, its writer closed or not."""
        self._connection.send(None)
        assert self._process.wait(GUARD_SECONDS) == 0

    def discard(self) -> None:
        """Kill it if it is there still, and let go of it."""
        with contextlib.suppress(ProcessLookupError):
            self.kill()
        self._connection.close()


def _started(descriptor: int, prefix: Sequence[str]) -> subprocess.Popen[bytes] | Forked:
    if sys.platform == "linux" and not prefix:
        return _nursery().start(worker_process.main, descriptors=[descriptor])
    command = [*prefix, sys.executable, "-W", "error", "-c", _SCRIPT, str(descriptor)]
    return subprocess.Popen(command, pass_fds=[descriptor], cwd=_PROJECT)


@cache
def _nursery() -> Nursery:
    return Nursery("tests.promises.tasks")


def discard_all(workers: Iterable[Worker]) -> None:
    """Kill all that are there still."""
    for worker in workers:
        worker.discard()
