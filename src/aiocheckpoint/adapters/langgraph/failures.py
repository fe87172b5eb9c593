"""What graphs within nodes could not store, which LangGraph drops where they end otherwise."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT

from aiocheckpoint.adapters.langgraph.arguments import place_of, run_of
from aiocheckpoint.adapters.langgraph.records import ThreadRecord, configurable_of
from aiocheckpoint.adapters.langgraph.turns import LateError
from aiocheckpoint.kit import kept

_REMEMBERED_FAILURES = 65_536  # more than run at once in a process
_TASK = re.compile(":[^|]*")
_PULLED = "__pregel_pull"  # in the path of a task whose node was not sent for


class _Step(NamedTuple):
    """
    A step of the graphs around one within a node.

    Attributes:
        thread_id: the thread, as text.
        namespace: of the graph within.
        after: the checkpoints, each with its namespace, after which the graphs around it ran it.
    """

    thread_id: str
    namespace: str
    after: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, config: RunnableConfig) -> _Step:
        place, after = place_of(config), configurable_of(config).get("checkpoint_map")
        pairs = after.items() if isinstance(after, Mapping) else ()
        known = frozenset((name, key) for name, key in pairs if isinstance(key, str))
        return cls(str(place.thread_id), place.namespace, known)

    def has(self, other: _Step) -> bool:
        """Tell whether another graph is this one, or within it, and the step is the same."""
        namespace = self.namespace
        if ":" not in other.namespace:  # a memory, which has the same in whatever task
            namespace = _TASK.sub("", namespace)
        is_within = f"{other.namespace}|".startswith(f"{namespace}|")
        return is_within and self.thread_id == other.thread_id and self.after <= other.after


class Failures:
    """
    What graphs within nodes could not store, until the graph around them is told.

    LangGraph drops what failed in the background where a graph within a node ends with a question
    to a person, or with a command to the graph around it. The answer would meet another state than
    the one that was asked about, and the next run of a graph with a memory an older one.
    """

    def __init__(self) -> None:
        self._failed: OrderedDict[_Step, Exception] = OrderedDict()

    @contextmanager
    def storing(self, config: RunnableConfig) -> Iterator[None]:
        """Note that a graph within a node could not store something, where the block raises."""
        try:
            yield
        except LateError:  # its run has been given up
            raise
        except Exception as error:
            step = _Step.of(config)
            if step.namespace:
                self._failed[step] = kept(error)
                if len(self._failed) > _REMEMBERED_FAILURES:
                    self._failed.popitem(last=False)
            raise

    def require_stored(self, writes: ThreadRecord) -> None:
        """Raise why a graph within could not store, where what a task wrote is its question."""
        if self._failed and INTERRUPT in _channels(writes):
            self._raise(self._run_by(writes))

    def tell(self, writes: ThreadRecord) -> None:
        """
        Raise why a graph with a memory could not store, where the task that ran it goes on.

        Only when what the task wrote is stored: what the graph around it stores has no gap.
        """
        if self._failed and ERROR not in _channels(writes):  # it is told there
            self._raise(step for step in self._run_by(writes) if ":" not in step.namespace)

    def _run_by(self, writes: ThreadRecord) -> list[_Step]:
        return [step for step in [*self._failed] if _is_run_by(step, writes)]

    def _raise(self, steps: Iterable[_Step]) -> None:
        for step in steps:
            error = self._failed.pop(step, None)
            if error is not None:
                raise error

    def begin(self, config: RunnableConfig) -> None:
        """
        Forget what a graph within a node, which begins a step again, could not store in it.

        Whoever only looks at it, as a page, begins nothing.
        """
        if not self._failed or run_of(config) is None:
            return
        step = _Step.of(config)
        if step.namespace:
            for failed in filter(step.has, [*self._failed]):
                self._failed.pop(failed, None)


def _channels(writes: ThreadRecord) -> set[str]:
    written: Any = writes.writes or ()
    return {write["channel"] for write in written}


def _is_run_by(step: _Step, writes: ThreadRecord) -> bool:
    """Tell whether the task that wrote has run a graph within it, as far as that is told."""
    around = writes.checkpoint_ns
    if step.thread_id != writes.thread_id or (around, writes.checkpoint) not in step.after:
        return False
    within = step.namespace.removeprefix(f"{around}|") if around else step.namespace
    node, _, task_id = within.partition("|")[0].partition(":")
    if task_id:
        return task_id == writes.task_id
    path = str(writes.task_path or "")
    return _PULLED not in path or path.endswith(f"{_PULLED}, {node}")
