"""The threads of one writer."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeAlias, TypeVar

from aiocheckpoint.errors import ThreadStartError, WriterClosedError

ResultT = TypeVar("ResultT")
P = ParamSpec("P")
Work: TypeAlias = Callable[[], Callable[[], object]]


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
        self._alive: dict[threading.Thread, bool] = {}  # and whether it has begun
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
        try:
            with self._mutex:
                self._alive[thread] = False
            thread.start()
        except BaseException as error:  # also that of a handler of a signal
            with self._mutex:
                if not self._alive.get(thread):
                    self._alive.pop(thread, None)  # it will not run
            if isinstance(error, RuntimeError):
                raise ThreadStartError(str(error)) from error
            raise
        self.is_started = True

    def _run(self, run: Callable[[], None]) -> None:
        thread = threading.current_thread()
        with self._mutex:
            if thread not in self._alive:  # who has started it was interrupted
                return
            self._alive[thread] = self.is_started = True
        try:
            run()
        finally:
            with self._mutex:
                del self._alive[thread]
                is_last = self._is_ending and not self._alive
            if is_last:
                self._last_words()

    def end(self) -> None:
        """Note that all were told to end, and no more will be started; called once."""
        with self._mutex:
            self._is_ending = True
            is_none = not self._alive
        if not is_none:
            return
        if self.is_started:  # all were quicker than this one, which may be a loop's
            with contextlib.suppress(RuntimeError):
                name = "aiocheckpoint-end"
                threading.Thread(target=self._last_words, name=name, daemon=True).start()
                return
        self._last_words()


class Workers:
    """
    Those of the threads that do what pools are given, started as they are needed.

    What they do returns what is left to tell when they are idle again: who is told, and has more
    to do at once, needs no other thread then.

    Args:
        threads: where they are started.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._mutex = threading.Lock()
        self._started = self._busy = 0

    def do(self, work: Work) -> None:
        """
        Have something done at once, by a thread that is idle or new.

        Raises:
            ThreadStartError: none is idle, and the system grants no other.
        """
        with self._mutex:
            if self._started > self._busy:
                self._put(work)
            else:  # it begins while its start is still waited for here
                self._started += 1  # before: who asks may be interrupted once it has begun
                self._busy += 1
                try:
                    self._threads.start("work", partial(self._run, [work]))
                except ThreadStartError:
                    self._started -= 1
                    self._busy -= 1
                    raise

    def do_next(self, work: Work) -> None:
        """Have something done by those that there are."""
        with self._mutex:
            self._put(work)

    def _put(self, work: Work) -> None:
        self._busy += 1
        self._queue.put(work)

    def _run(self, given: list[Work]) -> None:
        while self._has_worked(given):
            pass

    def _has_worked(self, given: list[Work]) -> bool:
        """Do the next work, and keep no reference to it; False at the end."""
        work = given.pop() if given else self._queue.get()
        if work is None:
            return False
        tell = work()
        with self._mutex:
            self._busy -= 1
        tell()
        return True

    def end(self) -> None:
        """Let the threads end when they have done what they were given; called once."""
        with self._mutex:
            for _ in range(self._started):
                self._queue.put(None)


class Pool(Executor):
    """
    Does what is submitted, some of it at a time.

    Not a `ThreadPoolExecutor`: that ends with the main thread, though loops in others go on.

    Args:
        workers: who do it, and what other pools are given.
        max_at_once: how much of it.

    Attributes:
        submitted: how much work was.
    """

    def __init__(self, workers: Workers, max_at_once: int) -> None:
        self._workers = workers
        self._max_at_once = max_at_once
        self._mutex = threading.Lock()
        self._waiting: deque[Work] = deque()
        self._at_once = 0  # at least one while something waits
        self._is_ending = False
        self.submitted = 0

    def submit(
        self, work: Callable[P, ResultT], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[ResultT]:
        """
        Have work done by one of the workers; it may be cancelled until it begins.

        Raises:
            ThreadStartError: the system grants not even one.
            WriterClosedError: they were told to end.
        """
        future: Future[ResultT] = Future()
        task = partial(self._done, future, partial(work, *args, **kwargs))
        with self._mutex:
            if self._is_ending:
                raise WriterClosedError("the writer is closed")
            if self._at_once >= self._max_at_once or not self._has_begun(task):
                self._waiting.append(task)
            self.submitted += 1
        return future

    def _has_begun(self, task: Work) -> bool:
        try:
            self._workers.do(task)
        except ThreadStartError:
            if not self._at_once:
                raise
            return False
        self._at_once += 1
        return True

    def _done(self, future: Future[Any], work: Callable[[], Any]) -> Callable[[], object]:
        tell = _outcome(future, work)
        with self._mutex:
            if self._waiting:
                self._workers.do_next(self._waiting.popleft())
            else:
                self._at_once -= 1
        return tell

    def end(self) -> None:
        """Take no more work, and leave all that was submitted to the workers; called once."""
        with self._mutex:
            self._is_ending = True
            while self._waiting:
                self._at_once += 1
                self._workers.do_next(self._waiting.popleft())


def _outcome(future: Future[Any], work: Callable[[], Any]) -> Callable[[], object]:
    """Do work, unless it was cancelled, and return what tells of its end."""
    if not future.set_running_or_notify_cancel():
        return _nothing
    try:
        return partial(future.set_result, work())
    except BaseException as error:  # noqa: BLE001 - raised by whoever waits for it
        return partial(future.set_exception, error)


def _nothing() -> None:
    pass
