"""Questions to a person: refused where the graph that asks could not store what it asks about."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from langgraph.checkpoint.serde.types import INTERRUPT

from aiocheckpoint.adapters.langgraph.arguments import Place
from aiocheckpoint.adapters.langgraph.records import ThreadRecord

_REMEMBERED_FAILURES = 256


class Questions:
    """
    What graphs within nodes could not store, and may ask about all the same.

    LangGraph drops what failed in the background where a graph within a node ends with a question.
    The question would be put, and its answer would meet another state than the one asked about.
    """

    def __init__(self) -> None:
        self._failed: OrderedDict[tuple[str, str], Exception] = OrderedDict()

    @contextmanager
    def storing(self, place: Place) -> Iterator[None]:
        """Note that a graph within a node could not store something, where the block raises."""
        try:
            yield
        except Exception as error:
            if place.namespace:
                self._failed[str(place.thread_id), place.namespace] = error
                if len(self._failed) > _REMEMBERED_FAILURES:
                    self._failed.popitem(last=False)
            raise

    def require_stored(self, writes: ThreadRecord) -> None:
        """Raise why a graph within could not store, where what a task wrote is its question."""
        written: Any = writes.writes or ()
        if self._failed and any(write["channel"] == INTERRUPT for write in written):
            failed = self._within(writes.thread_id, writes.checkpoint_ns)
            if failed:
                raise failed[0]

    def note_begun(self, state: ThreadRecord) -> None:
        """Forget what failed in earlier runs, where a checkpoint is the first of a run."""
        if not state.checkpoint_ns and state.trigger != "loop":
            self._within(state.thread_id, "")

    def forget(self, place: Place) -> None:
        """Forget what a graph within a node, which begins now, could not store before."""
        if place.namespace:
            self._failed.pop((str(place.thread_id), place.namespace), None)
            self._within(str(place.thread_id), place.namespace)

    def _within(self, thread_id: str, namespace: str) -> list[Exception]:
        """Return what failed in the graphs within another one, and forget it."""
        prefix = f"{namespace}|" if namespace else ""
        keys = [key for key in [*self._failed] if key[0] == thread_id and key[1].startswith(prefix)]
        found = [self._failed.pop(key, None) for key in keys]  # another thread may be as far
        return [error for error in found if error is not None]
