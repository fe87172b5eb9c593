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


class Threads:
    """
    All threads of a writer, of which the last one that ends has something to do.

    They are daemons: one that hangs does not hold up the end of the interpreter.

    Args:
        last_words: called when all were told to end, by the last of them.

    Attributes:
        is_started: whether there is, or was, any.
    """

    def __init__(self, last_words: Callable[[], None]) -> None:
        self._last_words = last_words
        self._mutex = threading.Lock()
        self._alive = 0
        self._is_ending = False
        self.is_started = False

    def start(self, name: str, run: Callable[[], None]) -> None:
        """
        Start a thread.

        Raises:
            ThreadStartError: the system grants none.
        """
        thread = threading.Thread(
            target=self._run, args=(run,), name=f"aiocheckpoint-{name}", daemon=True
        )
        with self._mutex:
            self._alive += 1
        try:
            thread.start()
        except RuntimeError as error:
            with self._mutex:
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

    def end(self) -> None:
        """Note that all were told to end, and no more will be started; called once."""
        with self._mutex:
            self._is_ending = True
            is_none = not self._alive
        if is_none:
            self._last_words()


class Pool(Executor):
    """
    Some of the threads, which do what is submitted.

    Not a `ThreadPoolExecutor`: that ends with the main thread, though loops in others go on.

    Args:
        threads: where they are started, as they are needed.
        name: of them.
        max_threads: how many there may be.

    Attributes:
        submitted: how much work was.
    """

    def __init__(self, threads: Threads, name: str, max_threads: int) -> None:
        self._threads = threads
        self._name = name
        self._max_threads = max_threads
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._mutex = threading.Lock()
        self._started = self._open_tasks = 0
        self._is_ending = False
        self.submitted = 0

    def submit(
        self, work: Callable[P, ResultT], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[ResultT]:
        """
        Have work done by one of the threads; it may be cancelled until it begins.

        Raises:
            ThreadStartError: the system grants not even one.
            WriterClosedError: they were told to end.
        """
        future: Future[ResultT] = Future()
        with self._mutex:
            if self._is_ending:
                raise WriterClosedError("the writer is closed")
            if self._started < min(self._open_tasks + 1, self._max_threads):
                self._add_thread()
            self._open_tasks += 1
            self.submitted += 1
            self._queue.put(partial(_complete, future, partial(work, *args, **kwargs)))
        return future

    def _add_thread(self) -> None:
        try:
            self._threads.start(self._name, self._work)
        except ThreadStartError:
            if not self._started:
                raise
        else:
            self._started += 1

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
        """Let the threads end when they have done what was submitted; called once."""
        with self._mutex:
            self._is_ending = True
            for _ in range(self._started):
                self._queue.put(None)


def _complete(future: Future[Any], work: Callable[[], Any]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits for it
            future.set_exception(error)
