"""What a worker can be told to do on its own; each function is given its writer first."""

from __future__ import annotations

import asyncio
import mmap
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointData,
    SessionChangedError,
)
from tests.promises.records import assert_whole, record

Writer: TypeAlias = AsyncCheckpointWriter[CheckpointData]


async def save_many(
    writer: Writer, session_id: str, name: str, count: int, size: int = 100
) -> list[str]:
    """Save so many checkpoints one after the other, and return their ids."""
    return [
        await writer.save(record(session_id, f"{name}{number}", number, size=size))
        for number in range(count)
    ]


async def save_for_ever(
    writer: Writer, session_id: str, name: str, size: int = 100
) -> AsyncIterator[str]:
    """Save until the process is killed; tell the first acknowledgement."""
    number = 0
    while True:
        saved = await writer.save(record(session_id, f"{name}{number % 8}", number, size=size))
        if number == 0:
            yield saved
        number += 1


async def save_at_once(writer: Writer, session_ids: list[str], count: int, size: int) -> int:
    """Save from a task a session, so many times each; return how many were acknowledged."""
    lists = await asyncio.gather(*(save_many(writer, s, "n", count, size) for s in session_ids))
    return sum(map(len, lists))


async def list_sessions(writer: Writer) -> list[str]:
    """Return the ids of all sessions, sorted."""
    return sorted([session_id async for session_id in writer.sessions()])


async def increment(writer: Writer, session_id: str, name: str, times: int) -> int:
    """
    Add one to a counter, on condition that nobody else did, so many times.

    Returns:
        how often it had to be tried again.
    """
    conflicts = done = 0
    while done < times:
        newest = await writer.load(session_id)
        count = assert_whole(newest).iteration if newest else 0
        expected = newest.checkpoint_id if newest else None
        data = record(session_id, f"{name}-{done}", count + 1)
        refused = await save_if(writer, data, expected)
        if refused is None:
            done += 1
        else:
            assert refused.session_id == session_id
            assert refused.newest_id != expected, refused
            conflicts += 1
    return conflicts


async def save_if(
    writer: Writer, data: CheckpointData, expected: str | None
) -> SessionChangedError | None:
    """Save on a condition; return the error that says it does not hold."""
    try:
        await writer.save(data, expected=expected)
    except SessionChangedError as error:
        return error
    return None


async def create(writer: Writer, session_ids: list[str], name: str) -> list[str]:
    """Create sessions that must not exist yet; return those that were created here."""
    saves = [save_if(writer, record(session_id, name), None) for session_id in session_ids]
    refusals = await asyncio.gather(*saves)
    return [s for s, refused in zip(session_ids, refusals, strict=True) if refused is None]


async def most_listed(writer: Writer, session_id: str, looks: int) -> int:
    """Return the largest number of checkpoints that was ever listed, in so many looks."""
    most = 0
    for _ in range(looks):
        ids = [meta.checkpoint_id for meta in await writer.list(session_id)]
        assert len(set(ids)) == len(ids), ids
        most = max(most, len(ids), len(await writer.ids(session_id)))
    return most


# One replaces, another reads: how far the first has got is told in a file that both map


async def replace_for_ever(
    writer: Writer, session_id: str, checkpoint_id: str, board: Path
) -> AsyncIterator[int]:
    """Replace one checkpoint until the process is killed; tell the first time."""
    with board.open("r+b") as file, mmap.mmap(file.fileno(), 8) as shared:
        iteration = 0
        while True:
            iteration += 1
            await writer.save(record(session_id, checkpoint_id, iteration))
            shared[:] = iteration.to_bytes(8, "little")
            if iteration == 1:
                yield iteration


async def watch(
    writer: Writer, session_id: str, checkpoint_id: str, others: int, board: Path, looks: int
) -> int:
    """Read a session again and again; it must never show but one state. Return the last one."""
    iteration = 0
    with board.open("r+b") as file, mmap.mmap(file.fileno(), 8) as shared:

        def acknowledged() -> int:
            return int.from_bytes(shared[:], "little")

        for _ in range(looks):
            floor = max(acknowledged(), iteration)
            iteration = assert_whole(await writer.load(session_id, checkpoint_id)).iteration
            assert iteration >= floor, f"{iteration} was read after {floor} was acknowledged"
            newest = assert_whole(await writer.load(session_id))
            assert newest.checkpoint_id == checkpoint_id, newest.checkpoint_id
            assert newest.iteration >= iteration, f"{newest.iteration} after {iteration}"
            metas = await writer.list(session_id)
            _assert_listed(checkpoint_id, others, [meta.checkpoint_id for meta in metas])
            assert metas[0].iteration >= newest.iteration, f"{metas[0]} after {newest.iteration}"
            ids = await writer.ids(session_id)
            assert len(ids) == len(set(ids)) == others + 1, ids
            assert checkpoint_id in ids, ids
            (one,) = await writer.load_many(session_id, [checkpoint_id])
            iteration = assert_whole(one).iteration
            assert iteration >= metas[0].iteration, f"{iteration} after {metas[0].iteration}"
    return iteration


def _assert_listed(newest: str, others: int, listed: list[str]) -> None:
    assert listed.count(newest) == 1, f"{newest} is listed {listed.count(newest)} times"
    assert listed[0] == newest, f"{listed[0]} is listed as the newest"
    assert len(listed) == len(set(listed)) == others + 1, f"listed are {sorted(listed)}"


# What processes do besides


async def fork(writer: Writer, count: int) -> list[int]:
    """Fork children that do nothing for ever, and return their process ids."""
    children = []
    for _ in range(count):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # there are threads: on purpose
            child = os.fork()
        if child == 0:
            _sleep_for_ever()
        children.append(child)
    return children


def _sleep_for_ever() -> None:
    try:
        read_end, _ = os.pipe()
        os.read(read_end, 1)  # this process holds the other end, and never writes
    finally:
        os._exit(1)


async def start_programs(writer: Writer, count: int) -> list[int]:
    """Start programs that inherit what can be inherited, and return their process ids."""
    script = "import os; os.read(os.pipe()[0], 1)"
    command = [sys.executable, "-S", "-c", script]
    started = [subprocess.Popen(command, close_fds=False) for _ in range(count)]
    pids = [process.pid for process in started]
    for process in started:
        process.returncode = 0  # they are the test's to end, so nobody need warn about them
    return pids


async def change_mode(writer: Writer, path: Path, mode: int) -> None:
    """Change the mode of a directory."""
    path.chmod(mode)


async def most_memory(writer: Writer) -> int:
    """Return how many bytes this process has had in memory at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def save_for(writer: Writer, name: str, sessions: int, seconds: float) -> tuple[int, float]:
    """Save for so long, from a task a session; return how often, and the longest wait of a save."""
    end = time.monotonic() + seconds

    async def save(session_id: str) -> list[float]:
        waits: list[float] = []
        while (began := time.monotonic()) < end:
            await writer.save(record(session_id, f"n{len(waits) % 8}", len(waits), size=8000))
            waits.append(time.monotonic() - began)
        return waits

    lists = await asyncio.gather(*(save(f"{name}-{number}") for number in range(sessions)))
    return sum(map(len, lists)), max(max(waits) for waits in lists)


async def save_while_busy(writer: Writer, name: str, sessions: int) -> AsyncIterator[str]:
    """Save for ever while the main thread computes, letting go of the loop now and then."""

    async def save(session_id: str) -> None:
        number = 0
        while True:
            await writer.save(record(session_id, f"n{number % 8}", number, size=8000))
            number += 1

    async with asyncio.TaskGroup() as group:
        for number in range(sessions):
            group.create_task(save(f"{name}-{number}"))
        yield "begun"
        while True:
            sum(range(200_000))
            await asyncio.sleep(0)
