"""What graphs within nodes could not store, which LangGraph drops where they end otherwise."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from langgraph.checkpoint.serde.types import ERROR, INTERRUPT

from aiocheckpoint.adapters.langgraph.arguments import Place
from aiocheckpoint.adapters.langgraph.records import ThreadRecord

_REMEMBERED_FAILURES = 256
_PULLED = "__pregel_pull"  # in the path of a task whose node was not sent for


class Failures:
    """
    What graphs within nodes could not store, until the graph around them is told.

    LangGraph drops what failed in the background where a graph within a node ends with a question
    to a person, or with a command to the graph around it. The answer would meet another state than
    the one that was asked about, and the next run of a graph with a memory an older one.
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
        """Raise why a graph within could not store, where its task goes on, or is to wait."""
        written: Any = writes.writes or ()
        channels = {write["channel"] for write in written} if self._failed else ()
        if channels and ERROR not in channels:  # or the error is told there
            for within, error in self._within(writes.thread_id, writes.checkpoint_ns).items():
                if _is_of_task(within, writes) and (INTERRUPT in channels or _is_memory(within)):
                    raise error

    def note_begun(self, state: ThreadRecord) -> None:
        """Forget what failed in earlier runs, where a checkpoint is the first of a run."""
        if self._failed and not state.checkpoint_ns and state.trigger != "loop":
            self._forget_within(state.thread_id, "")

    def forget(self, place: Place) -> None:
        """Forget what a graph within a node, which begins now, could not store before."""
        if self._failed and place.namespace:
            self._failed.pop((str(place.thread_id), place.namespace), None)
            self._forget_within(str(place.thread_id), place.namespace)

    def _forget_within(self, thread_id: str, namespace: str) -> None:
        prefix = f"{namespace}|" if namespace else ""
        for within in self._within(thread_id, namespace):
            self._failed.pop((thread_id, prefix + within), None)

    def _within(self, thread_id: str, namespace: str) -> dict[str, Exception]:
        """Return what failed in the graphs within another one, by their names there."""
        prefix = f"{namespace}|" if namespace else ""
        return {
            key[1].removeprefix(prefix): error
            for key, error in [*self._failed.items()]
            if key[0] == thread_id and key[1].startswith(prefix)
        }


def _is_memory(within: str) -> bool:
    """Tell whether later runs read a graph within a node again; others end with their task."""
    return ":" not in within


def _is_of_task(within: str, writes: ThreadRecord) -> bool:
    """Tell whether a graph within a node was run by the task that wrote, as far as that is told."""
    node, _, task_id = within.partition("|")[0].partition(":")
    if task_id:
        return task_id == writes.task_id
    path = str(writes.task_path or "")
    return _PULLED not in path or path.endswith(f"{_PULLED}, {node}")
