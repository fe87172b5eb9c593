"""Every way to run the library: asyncio and uvloop, each plain and under anyio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, TypeAlias, TypeVarTuple

import anyio
import pytest

Ts = TypeVarTuple("Ts")
Main: TypeAlias = Callable[[], Awaitable[object]]
Run: TypeAlias = Callable[[Main], None]


def run_asyncio(main: Main) -> None:
    asyncio.run(_once(main))


def run_uvloop(main: Main) -> None:
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_once(main))


def run_anyio(main: Main) -> None:
    anyio.run(_in_task_group, main, backend="asyncio")


def run_anyio_uvloop(main: Main) -> None:
    pytest.importorskip("uvloop")
    anyio.run(_in_task_group, main, backend="asyncio", backend_options={"use_uvloop": True})


class CountingLoop(asyncio.SelectorEventLoop):
    """
    An event loop that counts what it is given to do at once.

    Attributes:
        callbacks: how many.
    """

    callbacks = 0

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self.callbacks += 1
        return super().call_soon(callback, *args, context=context)


def run_counting(main: Main) -> None:
    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        runner.run(_once(main))


async def _once(main: Main) -> None:
    await main()


async def _in_task_group(main: Main) -> None:
    """Run inside a task group inside a cancel scope, as a service built on anyio does."""
    with anyio.CancelScope():
        async with anyio.create_task_group() as group:
            group.start_soon(_once, main)


BACKENDS: tuple[Any, ...] = (
    pytest.param(run_asyncio, id="asyncio"),
    pytest.param(run_uvloop, id="uvloop"),
    pytest.param(run_anyio, id="anyio"),
    pytest.param(run_anyio_uvloop, id="anyio-uvloop"),
)
