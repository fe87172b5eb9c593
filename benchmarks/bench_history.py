"""What do 1,000 steps of one chat cost in a history, every checkpoint kept?"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData
from aiocheckpoint.history import History, HistoryRecord, load_history
from benchmarks.documents import KB, endless_conversation
from benchmarks.report import Answer, Bound, Row, Spread, Table, quantile, ratios
from benchmarks.rounds import Settings, in_child, interleaved

_STEPS = 1000
_SESSION = "chat"
_NOTES = [
    "A step adds messages of the bundled conversations, at least of the size that is told.",
    (
        "On disk: sizes of all files after closing, but for those in `.aiocheckpoint`; allocated:"
        " their blocks. Of a file with two names both count, in sizes alone."
    ),
    (
        "Loads, by a new writer: all is the newest record and all items of its history; a flat"
        " file is one checkpoint with the same messages, the newest of its session, loaded in turn"
        " with it; 10 items are the newest. Files are in the page cache."
    ),
]


class Chat(HistoryRecord):
    """
    A step of a chat.

    Attributes:
        trigger: why it was saved.
        iteration: number of the step.
    """

    trigger: str = "step"
    iteration: int = 0


class Conversation(Struct, frozen=True):
    """What a process does."""

    directory: Path
    steps: int
    step_bytes: int


class Found(Struct, frozen=True):
    """Of a round: bytes, and medians in seconds."""

    transcript: int
    on_disk: int
    allocated: int
    first_saves: float
    last_saves: float
    load_all: float
    load_newest_items: float
    load_flat: float


def run(settings: Settings) -> Answer:
    """Return one table and the bounds."""
    steps = 10 if settings.is_quick else _STEPS

    def measure(step_bytes: int, directory: Path) -> Found:
        return in_child(found, Conversation(directory, steps, step_bytes))

    rows: list[Row] = []
    bounds: list[Bound] = []
    for step_bytes, rounds in interleaved(settings, (KB // 2, KB, 3 * KB), measure).items():
        sizes = Spread.of(one.on_disk / one.transcript for one in rounds)
        loads = ratios([one.load_all for one in rounds], [one.load_flat for one in rounds])
        rows.append(
            {
                "step, KB": step_bytes / KB,
                "transcript, MB": rounds[0].transcript / 1e6,
                "on disk, MB": rounds[0].on_disk / 1e6,
                "allocated, MB": rounds[0].allocated / 1e6,
                "disk / transcript": sizes,
                "save, first 100, us": _microseconds(one.first_saves for one in rounds),
                "save, last 100, us": _microseconds(one.last_saves for one in rounds),
                "load all, us": _microseconds(one.load_all for one in rounds),
                "all / flat file": loads,
                "10 items, us": _microseconds(one.load_newest_items for one in rounds),
            }
        )
        what = f"{steps} steps of {step_bytes / KB:g} KB"
        bounds.append(Bound(f"{what}: disk / transcript", sizes, 3.0, is_least=False))
        bounds.append(Bound(f"{what}: load all / flat file", loads, 1.5, is_least=False))
    return Answer([Table(f"{steps} steps of one chat", rows, _NOTES)], bounds)


def _microseconds(seconds: Iterator[float]) -> Spread:
    return Spread.of(each * 1e6 for each in seconds)


def found(conversation: Conversation) -> Found:
    """Save a chat step by step, and load it."""
    return asyncio.run(_found(conversation))


async def _found(conversation: Conversation) -> Found:
    steps = _steps_of(conversation)
    messages = [message for step in steps for message in step]
    chat, flat = conversation.directory / "chat", conversation.directory / "flat"
    times: list[float] = []
    async with AsyncCheckpointWriter(chat, record_type=Chat) as writer:
        history = History(partial(writer.load_blobs, _SESSION))
        for number, step in enumerate(steps):
            start = time.perf_counter()
            history = history.extend(step)
            record = history.into(Chat(session_id=_SESSION, iteration=number))
            await writer.save(record, blobs=history.new_blobs)
            history = history.stored()
            times.append(time.perf_counter() - start)
    async with AsyncCheckpointWriter(flat) as flat_writer:
        await flat_writer.save(CheckpointData(session_id=_SESSION, messages=messages))
    loads = await _loads(chat, flat, messages, conversation.steps)
    files = [path.stat() for path in _files(chat)]
    tenth = max(len(times) // 10, 1)
    return Found(
        len(msgspec.json.encode(messages)),
        sum(file.st_size for file in files),
        sum({file.st_ino: 512 * file.st_blocks for file in files}.values()),
        quantile(times[:tenth], 0.5),
        quantile(times[-tenth:], 0.5),
        *(quantile(one, 0.5) for one in loads),
    )


def _steps_of(conversation: Conversation) -> list[list[dict[str, Any]]]:
    endless = endless_conversation()
    steps: list[list[dict[str, Any]]] = []
    for _ in range(conversation.steps):
        step: list[dict[str, Any]] = []
        while not step or len(msgspec.json.encode(step)) < conversation.step_bytes:
            step.append(next(endless))
        steps.append(step)
    return steps


async def _loads(
    chat: Path, flat: Path, messages: list[dict[str, Any]], steps: int
) -> list[list[float]]:
    """Return how long loads of all, of the newest items and of the flat file take."""
    async with (
        AsyncCheckpointWriter(chat, record_type=Chat) as writer,
        AsyncCheckpointWriter(flat) as flat_writer,
    ):

        async def opened() -> History:
            record = await writer.load(_SESSION)
            assert record is not None
            return await load_history(partial(writer.load_blobs, _SESSION), record)

        async def load_all() -> list[Any]:
            return await (await opened()).items()

        async def load_newest_items() -> list[Any]:
            return await (await opened()).last(10)

        async def load_flat() -> list[Any]:
            record = await flat_writer.load(_SESSION)
            assert record is not None
            return record.messages

        assert await load_all() == await load_flat() == messages
        assert len(await writer.ids(_SESSION)) == steps
        times: list[list[float]] = [[], [], []]
        for _ in range(min(steps, 30)):
            for which, load in enumerate((load_all, load_newest_items, load_flat)):
                times[which].append(await _timed(load))
        return times


async def _timed(load: Callable[[], Awaitable[list[Any]]]) -> float:
    start = time.perf_counter()
    await load()
    return time.perf_counter() - start


def _files(directory: Path) -> Iterator[Path]:
    for parent, inner, names in os.walk(directory):
        if ".aiocheckpoint" in inner:
            inner.remove(".aiocheckpoint")
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink():
                yield path
