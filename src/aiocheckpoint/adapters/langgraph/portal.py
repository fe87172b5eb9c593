"""Asynchronous work for callers that are not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from os import getpid as process_id
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


class Portal:
    """
    An event loop in a thread of its own, started by the first call.

    Callers wait for it and for nothing else, so they never wait for themselves, whether they
    have a running loop or not. The thread does not keep the process alive.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process_id = process_id()
        self._mutex = threading.Lock()

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """
        Run a coroutine and return its result.

        Raises:
            RuntimeError: in a forked process, or in the portal's own thread, which would wait
                for itself.
        """
        if threading.current_thread() is self._thread or self._process_id != process_id():
            work.close()
            raise RuntimeError("synchronous calls do not work here; make a saver of your own")
        with self._mutex:  # so that no work comes to a loop after its end
            running = asyncio.run_coroutine_threadsafe(work, self._started())
        return running.result()

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=_run, args=(self._loop,), name="aiocheckpoint-portal", daemon=True
            )
            self._thread.start()
        return self._loop

    def close(self) -> None:
        """Let the thread end when its work is done; the next call starts another."""
        with self._mutex:
            loop, self._loop, self._thread = self._loop, None, None
            if loop is not None and self._process_id == process_id():
                loop.call_soon_threadsafe(loop.stop)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        while tasks := asyncio.all_tasks(loop):  # somebody waits for them
            loop.run_until_complete(asyncio.wait(tasks))
        loop.run_until_complete(asyncio.sleep(0))  # they are told an iteration later
    finally:
        loop.close()
