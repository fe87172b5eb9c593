"""
One of the processes that save to a directory together; run by `test_processes`.

Its tasks save, in call order within each session, while readers of the same process check that
they never see anything older than what any process had acknowledged before they began.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from aiocheckpoint import CheckpointData, CheckpointMeta
from tests.concurrency.board import Board
from tests.concurrency.site import Site, Writer, document
from tests.conftest import guarded

_GUARD_SECONDS = 600


class Plan(NamedTuple):
    """
    What the processes do together.

    Attributes:
        processes: how many.
        tasks: in each process.
        sessions: shared by all.
        saves: in each process.
    """

    processes: int
    tasks: int
    sessions: int
    saves: int


def session_name(session: int) -> str:
    """Return a session's id; the odd ones have no safe name."""
    return f"session-{session}" if session % 2 == 0 else f"session {session} ü"


def checkpoint_name(process: int, number: int) -> str:
    """Return the id of the n-th save of a process in a session, n from 1."""
    return f"p{process}-{number}"


def parsed_name(name: str) -> tuple[int, int]:
    """Return the process and the number."""
    process, number = name.removeprefix("p").split("-")
    return int(process), int(number)


class Saver:
    """The tasks of one process."""

    def __init__(self, writer: Writer, board: Board, plan: Plan, process: int) -> None:
        self._writer = writer
        self._board = board
        self._plan = plan
        self._process = process
        self._called = [0] * plan.sessions
        self._acknowledged: list[set[int]] = [set() for _ in range(plan.sessions)]
        self._is_done = False

    async def run(self) -> None:
        self._board.note_ready(self._process)
        while not self._board.all_ready():
            await asyncio.sleep(0.001)
        async with asyncio.TaskGroup() as group:
            for seed in range(2):
                group.create_task(self._read(random.Random(seed)))
            await self._save_all()

    async def _save_all(self) -> None:
        plan = self._plan
        shares = [len(range(task, plan.saves, plan.tasks)) for task in range(plan.tasks)]
        try:
            async with asyncio.TaskGroup() as group:
                for task, share in enumerate(shares):
                    group.create_task(self._save(task % plan.sessions, share))
        finally:
            self._is_done = True

    async def _save(self, session: int, count: int) -> None:
        for _ in range(count):
            # No await between taking the number and the call: numbers are in call order.
            self._called[session] = number = self._called[session] + 1
            name = checkpoint_name(self._process, number)
            await self._writer.save(document(session_name(session), number, name))
            self._acknowledge(session, number)

    def _acknowledge(self, session: int, number: int) -> None:
        known = self._acknowledged[session]
        known.add(number)
        through = self._board.acknowledged(session)[self._process]
        while through + 1 in known:
            through += 1
            known.remove(through)
        self._board.acknowledge(self._process, session, through)

    async def _read(self, choice: random.Random) -> None:
        while not self._is_done:
            session = choice.randrange(self._plan.sessions)
            floors = self._board.acknowledged(session)
            newest = await self._writer.load(session_name(session))
            metas = await self._writer.list(session_name(session))
            assert_complete(metas, floors)
            assert_not_older(newest, metas, floors)


def assert_complete(metas: Sequence[CheckpointMeta], floors: Sequence[int]) -> None:
    """
    Of each process all numbers up to the floor are listed, and everything is in order.

    Beyond the floor one may be missing before another: reading a directory is no snapshot of it.
    """
    numbers: list[list[int]] = [[] for _ in floors]
    for meta in metas:
        process, number = parsed_name(meta.checkpoint_id)
        numbers[process].append(number)
    for process, floor in enumerate(floors):
        found = numbers[process][::-1]
        assert found[:floor] == list(range(1, floor + 1)), (process, floor, found)
        assert found == sorted(set(found)), (process, found)


def assert_not_older(
    newest: CheckpointData | None, metas: Sequence[CheckpointMeta], floors: Sequence[int]
) -> None:
    """What was loaded is whole, and no checkpoint within the floors comes after it."""
    if newest is None:
        assert not any(floors)
        return
    _, number = parsed_name(newest.checkpoint_id)
    assert newest == document(newest.session_id, number, newest.checkpoint_id)
    names = [meta.checkpoint_id for meta in metas]
    later = map(parsed_name, names[: names.index(newest.checkpoint_id)])
    assert all(number > floors[process] for process, number in later)


async def main(site: Site, board: Board, plan: Plan, process: int) -> None:
    async with asyncio.timeout(_GUARD_SECONDS), site.writer() as writer:
        await Saver(writer, board, plan, process).run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("board", type=Path)
    parser.add_argument("durability")
    parser.add_argument("process", type=int)
    parser.add_argument("plan", type=int, nargs=len(Plan._fields))
    arguments = parser.parse_args()
    the_plan = Plan(*arguments.plan)
    with (
        Board(arguments.board, the_plan.processes, the_plan.sessions) as the_board,
        contextlib.contextmanager(guarded)(),
    ):
        the_site = Site(arguments.root, durability=arguments.durability)
        asyncio.run(main(the_site, the_board, the_plan, arguments.process))
