"""A forked child of the test's own process."""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Callable


def run_in_child(work: Callable[[], object]) -> str:
    """Return what work returns in a forked child, as text; its traceback, if it raises."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about forking with threads
        child = os.fork()
    if child == 0:
        try:
            text = str(work())
        except BaseException:  # noqa: BLE001 - told to the parent
            text = traceback.format_exc()
        os.write(writing, text.encode()[:60_000])
        os._exit(0)  # nothing of the test may run twice
    os.close(writing)
    with open(reading, encoding="utf-8") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text
