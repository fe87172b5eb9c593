"""The threads of a writer end, and who is the last lets go of the root."""

from __future__ import annotations

import queue
import threading

from aiocheckpoint._engine.threads import Threads


def test_who_tells_them_to_end_lets_go_of_nothing() -> None:
    """It may be an event loop, which is not to wait for the disk, and slower than all of them."""
    said: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()
    threads = Threads(lambda: said.put(threading.current_thread()))
    threads.start("quick", lambda: None)
    for thread in threading.enumerate():
        if thread.name == "aiocheckpoint-quick":
            thread.join()
    threads.end()
    assert said.get(timeout=60) is not threading.current_thread()
