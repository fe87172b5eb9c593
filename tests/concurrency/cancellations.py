"""Every way a call is cancelled in practice, each with what its caller must see afterwards."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import anyio
import pytest

from tests.concurrency.coroutines import yield_to_loop

ResultT = TypeVar("ResultT")
Call: TypeAlias = Callable[[], Awaitable[object]]
Moment: TypeAlias = Callable[[], Awaitable[object]]
Kind: TypeAlias = Callable[[Call, Moment], Awaitable[None]]


class Ending(NamedTuple):
    """How a call ended for the code that awaited it."""

    result: object
    error: BaseException | None


class Watched(Generic[ResultT]):
    """
    A call that remembers how it ended.

    Attributes:
        ending: None until it has ended.
        ended: set then.
    """

    def __init__(self, call: Callable[[], Awaitable[ResultT]]) -> None:
        self._call = call
        self.ending: Ending | None = None
        self.ended = asyncio.Event()

    async def __call__(self) -> ResultT:
        try:
            result = await self._call()
        except BaseException as error:
            self.ending = Ending(None, error)
            raise
        else:
            self.ending = Ending(result, None)
            return result
        finally:
            self.ended.set()


class _SiblingError(Exception):
    """The failure of another task of the group."""


@contextlib.asynccontextmanager
async def _at(moment: Moment, act: Callable[[], object]) -> AsyncIterator[None]:
    """Act at the moment, unless the block has ended before."""

    async def wait_and_act() -> None:
        await moment()
        act()

    waiting = asyncio.ensure_future(wait_and_act())
    try:
        yield
    finally:
        waiting.cancel()


def _cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def _cancelled_task(task: asyncio.Future[Any], requests: int) -> None:
    await asyncio.wait([task])
    if task.cancelled():
        assert isinstance(task, asyncio.Task)
        assert task.cancelling() == requests, "a cancellation request was lost or invented"
    else:
        task.result()
        assert not requests, "the cancellation was swallowed"


async def native(call: Call, moment: Moment) -> None:
    task = asyncio.ensure_future(call())
    await moment()
    requests = int(task.cancel())
    await _cancelled_task(task, requests)


async def native_thrice_at_once(call: Call, moment: Moment) -> None:
    task = asyncio.ensure_future(call())
    await moment()
    requests = sum([task.cancel() for _ in range(3)])
    await _cancelled_task(task, requests)


async def native_thrice_in_a_row(call: Call, moment: Moment) -> None:
    task = asyncio.ensure_future(call())
    await moment()
    requests = 0
    for _ in range(3):
        requests += task.cancel()
        await yield_to_loop(3)
    await _cancelled_task(task, requests)


async def asyncio_timeout(call: Call, moment: Moment) -> None:
    now = asyncio.get_running_loop().time
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None) as timeout:
            async with _at(moment, lambda: timeout.reschedule(now())):
                await call()
    assert _cancelling() == 0
    await asyncio.sleep(0)


async def timeout_and_cancel_together(call: Call, moment: Moment) -> None:
    """A cancel from outside wins over a timeout that expires with it."""
    now = asyncio.get_running_loop().time
    outcome: list[str] = []

    async def guarded() -> None:
        try:
            async with asyncio.timeout(None) as timeout:
                async with _at(moment, lambda: timeout.reschedule(now())):
                    await call()
        except TimeoutError:
            outcome.append("timeout")

    task = asyncio.ensure_future(guarded())
    await moment()
    await yield_to_loop(3)
    was_cancelled = task.cancel()
    await asyncio.wait([task])
    if was_cancelled and not task.cancelled():
        task.result()
        assert outcome == [], "the cancel from outside was taken for the timeout"


async def wait_for(call: Call, moment: Moment) -> None:
    task = asyncio.ensure_future(call())
    await moment()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(task, 0.001)
    assert _cancelling() == 0


async def gather(call: Call, moment: Moment) -> None:
    both = asyncio.gather(call(), asyncio.Event().wait(), return_exceptions=True)
    await moment()
    both.cancel()
    await asyncio.wait([both])
    assert isinstance(both.exception(), asyncio.CancelledError)


async def task_group_sibling_fails(call: Call, moment: Moment) -> None:
    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(_fail_at(moment))
            group.create_task(_as_coroutine(call))


async def task_group_child_fails(call: Call, moment: Moment) -> None:
    """The call is awaited in the group's own body."""
    was_cancelled = False
    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(_fail_at(moment))
            try:
                await call()
            except asyncio.CancelledError:
                was_cancelled = True
                raise
    # Before 3.13 a group that fails after its body has ended leaves a request behind.
    assert _cancelling() == 0 or not was_cancelled


async def anyio_cancel_scope(call: Call, moment: Moment) -> None:
    with anyio.CancelScope() as scope:
        async with _at(moment, scope.cancel):
            await call()
    assert _cancelling() == 0


async def anyio_move_on_after(call: Call, moment: Moment) -> None:
    with anyio.move_on_after(None) as scope:
        async with _at(moment, lambda: setattr(scope, "deadline", anyio.current_time())):
            await call()
    assert _cancelling() == 0


async def anyio_fail_after(call: Call, moment: Moment) -> None:
    with contextlib.suppress(TimeoutError), anyio.fail_after(None) as scope:
        async with _at(moment, lambda: setattr(scope, "deadline", anyio.current_time())):
            await call()
    assert _cancelling() == 0


async def anyio_task_group_cancelled(call: Call, moment: Moment) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_as_coroutine, call)
        await moment()
        group.cancel_scope.cancel()
    assert _cancelling() == 0


async def anyio_task_group_sibling_fails(call: Call, moment: Moment) -> None:
    with contextlib.suppress(ExceptionGroup):
        async with anyio.create_task_group() as group:
            group.start_soon(_as_coroutine, call)
            group.start_soon(_fail_at, moment)
    assert _cancelling() == 0


async def native_inside_anyio_scope(call: Call, moment: Moment) -> None:
    """The scope and the task are cancelled at the same moment."""

    async def scoped() -> None:
        with anyio.CancelScope() as scope:
            async with _at(moment, scope.cancel):
                await call()
        await asyncio.sleep(0)

    task = asyncio.ensure_future(scoped())
    await moment()
    was_cancelled = task.cancel()
    await asyncio.wait([task])
    assert not was_cancelled or task.cancelled(), "the scope swallowed the task's cancellation"


async def _fail_at(moment: Moment) -> None:
    await moment()
    raise _SiblingError


async def _as_coroutine(call: Call) -> None:
    await call()


NATIVE_KINDS: tuple[Kind, ...] = (
    native,
    native_thrice_at_once,
    native_thrice_in_a_row,
    asyncio_timeout,
    timeout_and_cancel_together,
    wait_for,
    gather,
    task_group_sibling_fails,
    task_group_child_fails,
)
ANYIO_KINDS: tuple[Kind, ...] = (
    anyio_cancel_scope,
    anyio_move_on_after,
    anyio_fail_after,
    anyio_task_group_cancelled,
    anyio_task_group_sibling_fails,
    native_inside_anyio_scope,
)
KINDS = NATIVE_KINDS + ANYIO_KINDS


def each_kind(*kinds: Kind) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", kinds or KINDS, ids=lambda kind: kind.__name__)
