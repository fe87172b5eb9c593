"""The threads of one writer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

from aiocheckpoint.errors import ThreadStartError, WriterClosedError

ResultT = TypeVar("ResultT")
P = ParamSpec("P")


class Threads(Executor):
    """
    Threads with a task each, and some more that do what is submitted.

    Daemons all: those of a `ThreadPoolExecutor` end with the main thread, though loops in other
    threads go on, and one that hangs holds up the end of the interpreter.

    Args:
        max_pooled: how many may do what is submitted.
        last_words: called when all were told to end, by the last of them.

    Attributes:
        is_started: whether there is, or was, any.
        submitted: how much work was.
    """

    def __init__(self, max_pooled: int, last_words: Callable[[], None]) -> None:
        self._max_pooled = max_pooled
        self._last_words = last_words
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._mutex = threading.Lock()
        self._alive = self._pooled = self._open_tasks = 0
        self._is_ending = False
        self.is_started = False
        self.submitted = 0

    def start(self, name: str, run: Callable[[], None]) -> None:
        """
        Start a thread.

        Raises:
            ThreadStartError: the system grants none.
        """
        with self._mutex:
            self._start(f"aiocheckpoint-{name}", run)

    def _start(self, name: str, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._run, args=(run,), name=name, daemon=True)
        self._alive += 1
        try:
            thread.start()
        except RuntimeError as error:
            self._alive -= 1
            raise ThreadStartError(str(error)) from error
        self.is_started = True

    def _run(self, run: Callable[[], None]) -> None:
        try:
            run()
        finally:
            with self._mutex:
                self._alive -= 1
                is_last = self._is_ending and not self._alive
            if is_last:
                self._last_words()

    def submit(
        self, work: Callable[P, ResultT], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[ResultT]:
        """
        Have work done by one of several threads; it may be cancelled until it begins.

        Raises:
            ThreadStartError: the system grants not even one.
            WriterClosedError: they were told to end.
        """
        future: Future[ResultT] = Future()
        with self._mutex:
            if self._is_ending:
                raise WriterClosedError("the writer is closed")
            if self._pooled < min(self._open_tasks + 1, self._max_pooled):
                self._add_pooled()
            self._open_tasks += 1
            self.submitted += 1
            self._queue.put(partial(_complete, future, partial(work, *args, **kwargs)))
        return future

    def _add_pooled(self) -> None:
        try:
            self._start("aiocheckpoint-read", self._work)
        except ThreadStartError:
            if not self._pooled:
                raise
        else:
            self._pooled += 1

    def _work(self) -> None:
        while self._has_worked():
            with self._mutex:
                self._open_tasks -= 1

    def _has_worked(self) -> bool:
        """Do the next task, and keep no reference to it; False at the end."""
        task = self._queue.get()
        if task is not None:
            task()
        return task is not None

    def end(self) -> None:
        """Let threads end when they have done what was submitted; called once."""
        with self._mutex:
            self._is_ending = True
            is_none = not self._alive
            for _ in range(self._pooled):
                self._queue.put(None)
        if is_none:
            self._last_words()


def _complete(future: Future[Any], work: Callable[[], Any]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits for it
            future.set_exception(error)
