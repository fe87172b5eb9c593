"""
A process that forks others, which work on a store until they die; driven by `machine`.

It reads one `Order` a line and answers with lines of what the forked process begins and what
was acknowledged to it, each written before anything else can happen, and at last how it ended.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import random
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec

from aiocheckpoint import AsyncCheckpointWriter, Durability
from aiocheckpoint._disk import free_slots
from aiocheckpoint._disk.files import LocalFiles
from aiocheckpoint._format import names as layout
from tests.crash import oracle
from tests.crash.checker import Writer, perform
from tests.crash.oracle import Call, Version

P = ParamSpec("P")
ResultT = TypeVar("ResultT")

TASKS = 3
_EXT4_IOC_SHUTDOWN = 0x8004587D
_KINDS = {
    "save-existing": 12,
    "replace": 4,
    "delete": 6,
    "delete-session": 1,
    "copy-session": 2,
    "flush": 2,
}


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """
    How to work and how to die.

    Attributes:
        root: of the store.
        durability: of the writer.
        seed: of the calls that are made.
        serial: of the first save.
        steps: how many calls each task makes, if it lives.
        failpoint: where to die; `""` for any system call.
        visit: at which of its visits, from 1; 0 to live.
        disk: where a file system is mounted that loses power at the death; `""` for none.
        rewinds_to: at which visit the shared positions are as they will be found, unless they are
            made durable later, which a crash keeps; 0 for the last.
        slot_bytes: how large the first slot of the journal is.
        cut: the flag of the shutdown: 0 syncs all, 1 syncs the log, 2 nothing.
    """

    root: str
    durability: Durability
    seed: int
    serial: int
    steps: int = 40
    failpoint: str = ""
    visit: int = 0
    rewinds_to: int = 0
    slot_bytes: int = 1 << 20
    disk: str = ""
    cut: int = 2


class Began(msgspec.Struct, frozen=True, tag=True):
    """A task is about to make a call."""

    task: int
    kind: str
    fields: list[object]


class Returned(msgspec.Struct, frozen=True, tag=True):
    """The call of a task has returned."""

    task: int


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The process ends with an error of its own."""

    traceback: str


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The process is gone; its exit status, or the negative number of the signal."""

    code: int


Line = Began | Returned | Failed | Ended


class DoomedFiles(LocalFiles):
    """Local files that die, or take the whole disk with them, at a moment."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._visits = itertools.count(1)
        self._positions_path = Path(order.root, layout.PRIVATE_DIRECTORY, "control")
        self._positions = b""
        self._disk = os.open(order.disk, os.O_RDONLY) if order.disk else None

    def reached(self, failpoint: str) -> None:
        if failpoint == self._order.failpoint:
            self._visit()

    def call(
        self,
        operation: str,
        path: str,
        function: Callable[P, ResultT],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ResultT:
        if not self._order.failpoint:
            self._visit()
        result = super().call(operation, path, function, *args, **kwargs)
        if self._positions and operation.startswith("sync") and path == str(self._positions_path):
            self._positions = self._positions_path.read_bytes()
        return result

    def _visit(self) -> None:
        visit = next(self._visits)
        positions = self._positions_path
        if visit == self._order.rewinds_to:
            self._positions = positions.read_bytes() if positions.exists() else b""
        if visit == self._order.visit:
            if self._positions:
                with positions.open("r+b") as file:  # its inode stays the same
                    file.write(self._positions)
            if self._disk is not None:
                flag = struct.pack("I", self._order.cut)
                fcntl.ioctl(self._disk, _EXT4_IOC_SHUTDOWN, flag)
            os.kill(os.getpid(), signal.SIGKILL)


def _tell(line: Line) -> None:
    os.write(1, msgspec.json.encode(line) + b"\n")


def call_of(began: Began) -> Call:
    """Return the call that a line tells of."""
    kind: type[Call] = getattr(oracle, began.kind)
    return msgspec.convert(began.fields, kind)


async def _work(order: Order) -> None:
    serials = itertools.count(order.serial)
    files = DoomedFiles(order)
    async with (
        AsyncCheckpointWriter(order.root, files=files, durability=order.durability) as writer,
        asyncio.TaskGroup() as group,
    ):
        for task in range(TASKS):
            group.create_task(_make_calls(writer, order, task, serials))


async def _make_calls(
    writer: Writer, order: Order, task: int, serials: itertools.count[int]
) -> None:
    dice = random.Random(f"{order.seed} {task}")
    kinds = dice.choices([*_KINDS], [*_KINDS.values()], k=order.steps)
    for kind in kinds:
        session_id = f"{dice.choice('sssc')}{task}"
        ids = [meta.checkpoint_id for meta in await writer.list(session_id)]
        call = _call(kind, session_id, task, ids, next(serials), dice)
        _tell(Began(task, type(call).__name__, list(call)))
        await perform(writer, call)
        _tell(Returned(task))


def _call(
    kind: str, session_id: str, task: int, ids: list[str], serial: int, dice: random.Random
) -> Call:
    match kind:
        case "replace" if ids:
            return oracle.Save(session_id, Version(dice.choice(ids), serial, session_id))
        case "delete" if ids:
            return oracle.Delete(session_id, dice.choice(ids))
        case "delete-session":
            return oracle.DeleteSession(session_id)
        case "copy-session":
            return oracle.CopySession(f"c{task}", f"s{task}")
        case "flush":
            return oracle.Flush()
        case _:
            return oracle.Save(session_id, Version(f"id{serial}", serial, session_id))


def main() -> None:
    """Fork one process for each order."""
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        vars(free_slots)["FIRST_SLOT_BYTES"] = order.slot_bytes
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(_work(order))
            except BaseException:  # noqa: BLE001 - told to whoever ordered it
                _tell(Failed(traceback.format_exc()))
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        _tell(Ended(os.waitstatus_to_exitcode(status)))


if __name__ == "__main__":
    main()
