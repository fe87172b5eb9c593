"""Ids of checkpoints and versions of channels by a clock of each saver's own, not the machine's."""

from __future__ import annotations

import hashlib
import re
from contextvars import ContextVar
from typing import Any
from uuid import UUID

import langgraph.checkpoint.base
import langgraph.pregel._checkpoint
import pytest
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.checkpoint.base import BaseCheckpointSaver

_BEGIN = 0x1F0_0000_0000_0000  # in 2024, in units of 100 ns since 1582
_TASK = re.compile(":[^|]*")
_TICK = 1 << 11  # two of them are one millisecond for the saver, so ids begin alike


class Clock:
    """
    Tells the time of runs one after the other, the same for the same runs with any saver.

    Graphs that run side by side do not see each other's ticks: in which order they store is not
    the same with each saver. Whoever comes after both is later than both.
    """

    def __init__(self) -> None:
        self._times: dict[str, int] = {}

    def tick(self) -> tuple[int, str]:
        """Return a later time than all before it, and which graph, by its namespace, asks."""
        config: Any = var_child_runnable_config.get() or {}
        namespace = config.get("configurable", {}).get("checkpoint_ns", "")
        own = _TASK.sub("", namespace)  # within a memory the names of tasks around it are not told
        before = (t for ns, t in self._times.items() if ns.startswith(own) or own.startswith(ns))
        self._times[own] = 1 + max(before, default=0)
        return self._times[own], own


_CLOCK: ContextVar[Clock] = ContextVar("clock")


def use(clock: Clock) -> None:
    """Let a clock tell the time to all that the current task runs from now on."""
    _CLOCK.set(clock)


def install(patch: pytest.MonkeyPatch) -> None:
    """Let LangGraph, and the given kinds of savers, ask the clock in use."""
    for module in (langgraph.checkpoint.base, langgraph.pregel._checkpoint):
        patch.setattr(module, "uuid6", _uuid6)
    for kind in _savers():
        patch.setattr(kind, "get_next_version", _next_version)


def _savers() -> list[Any]:
    from langgraph.checkpoint.memory import InMemorySaver

    from aiocheckpoint.adapters.langgraph import CheckpointSaver

    return [InMemorySaver, CheckpointSaver]


def _uuid6(node: int | None = None, clock_seq: int | None = None) -> UUID:
    ticks, namespace = _CLOCK.get().tick()
    time = _BEGIN + ticks * _TICK
    high, low = time >> 12, time & 0xFFF
    end = int.from_bytes(hashlib.sha256(namespace.encode()).digest()[:6])
    return UUID(int=high << 80 | 6 << 76 | low << 64 | 0x8000 << 48 | end)


def _next_version(_: BaseCheckpointSaver[Any], current: Any, _channel: None) -> str:
    number = 0 if current is None else int(str(current).partition(".")[0])
    ticks, _own = _CLOCK.get().tick()
    return f"{number + 1:032}.{ticks:016}"
