"""
A process with one writer, told by another what to do; see `workers`.

It answers each call as soon as it has an outcome: whoever reads the answer may kill it at once.
"""

from __future__ import annotations

import asyncio
import inspect
import pickle
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from aiocheckpoint import AsyncCheckpointWriter

Target = str | Callable[..., Any]


class Order(NamedTuple):
    """
    What to do.

    Attributes:
        number: for the answer.
        target: a method of the writer by its name, or a coroutine or asynchronous generator
            function that is given the writer first.
        args: for it.
        kwargs: for it.
    """

    number: int
    target: Target
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Answer(NamedTuple):
    """
    What came of it.

    Attributes:
        number: of the order.
        kind: `"note"` for what a generator yields, `"returned"` or `"raised"` at the end.
        value: the note, the value or the exception.
    """

    number: int
    kind: str
    value: Any


async def _serve(connection: Connection) -> None:
    root, options = await asyncio.to_thread(connection.recv)
    # Closed by an order: a process that is killed does not close either.
    writer: AsyncCheckpointWriter[Any] = AsyncCheckpointWriter(root, **options)
    async with asyncio.TaskGroup() as group:
        # Tasks begin in the order of their making, so calls are made in the order of the orders.
        while (order := await asyncio.to_thread(connection.recv)) is not None:
            group.create_task(_carry_out(connection, writer, order))


async def _carry_out(
    connection: Connection, writer: AsyncCheckpointWriter[Any], order: Order
) -> None:
    number, target, args, kwargs = order
    try:
        if isinstance(target, str):
            called = getattr(writer, target)(*args, **kwargs)
        else:
            called = target(writer, *args, **kwargs)
        if inspect.isasyncgen(called):
            async for note in called:
                connection.send(Answer(number, "note", note))
            answer = Answer(number, "returned", None)
        else:
            answer = Answer(number, "returned", await called)
    except Exception as error:  # noqa: BLE001 - raised where the answer is read
        answer = Answer(number, "raised", _portable(error))
    connection.send(answer)


def _portable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever a class does that cannot be pickled
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def main(descriptor: str | int) -> None:
    """Serve the process at the other end until it says None."""
    with Connection(int(descriptor)) as connection:
        asyncio.run(_serve(connection))
