"""Ordered work on a thread pool: one lane for each session, for saves that sync their own files.

Jobs of a lane run in the order they were submitted, one at a time; lanes run beside one
another. A lane exists only while it has jobs.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from aiocheckpoint._engine.jobs import Job
from aiocheckpoint.errors import WriterClosedError

_Waiting = deque[tuple[Job[Any], Callable[[], Any]]]


class Lanes:
    """
    Lanes over an executor.

    Args:
        executor: runs one hop for each job.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._waiting: dict[str, _Waiting] = {}
        self._mutex = threading.Lock()
        self._closed = False
        self._drained: Future[None] = Future()

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, lane: str, job: Job[Any], work: Callable[[], Any]) -> None:
        """
        Put work at the end of a lane.

        Raises:
            WriterClosedError: after `close`.
            ThreadStartError: there is no thread to run it.
        """
        with self._mutex:
            if self._closed:
                raise WriterClosedError("the writer is closed")
            waiting = self._waiting.get(lane)
            if waiting is None:
                waiting = deque()
                self._executor.submit(self._run, lane, waiting)
                self._waiting[lane] = waiting
            waiting.append((job, work))

    def _run(self, lane: str, waiting: _Waiting) -> None:
        """Run the next job of a lane, then stand in line for a thread behind the other lanes."""
        with self._mutex:
            if not waiting:  # its submission failed
                return
            job, work = waiting.popleft()
        if job.begin():
            job.run(work)
            Job.deliver([job])
        with self._mutex:
            if waiting:
                self._executor.submit(self._run, lane, waiting)
            else:
                del self._waiting[lane]
                self._note_drained()

    def _note_drained(self) -> None:
        if self._closed and not self._waiting and not self._drained.done():
            self._drained.set_result(None)

    def close(self) -> Future[None]:
        """Take no more work; the future is done when all that was submitted has run."""
        with self._mutex:
            self._closed = True
            self._note_drained()
        return self._drained
