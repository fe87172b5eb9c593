"""Uses savers after the main thread has ended, and in `atexit`: `ending_process.py ROOT FORM`."""

from __future__ import annotations

import asyncio
import atexit
import sys
import threading
from pathlib import Path

from aiocheckpoint import ThreadStartError
from aiocheckpoint.adapters.langgraph import CheckpointSaver
from tests.langgraph.graphs import chat_graph, thread

INPUTS = {"messages": [("user", "hi")]}


def _turn(saver: CheckpointSaver, name: str, form: str) -> bool:
    """Take a turn of a thread, and tell whether the saver shows it."""
    graph = chat_graph().compile(checkpointer=saver)
    if form == "sync":
        graph.invoke(INPUTS, thread(name), durability="sync")
        return saver.get_tuple(thread(name)) is not None

    async def turn() -> bool:
        await graph.ainvoke(INPUTS, thread(name), durability="sync")
        return await saver.aget_tuple(thread(name)) is not None

    return asyncio.run(turn())


def _close(saver: CheckpointSaver, form: str) -> None:
    if form == "sync":
        saver.close()
    else:
        asyncio.run(saver.aclose())


def _put(saver: CheckpointSaver, name: str, form: str) -> bool:
    """Store a checkpoint itself: LangGraph starts threads of its own for what it does."""
    checkpoint = {**_CHECKPOINT, "id": f"id of {name}"}
    if form == "sync":
        saver.put(thread(name), checkpoint, {}, {})  # type: ignore[arg-type]
        return saver.get_tuple(thread(name)) is not None

    async def put() -> bool:
        await saver.aput(thread(name), checkpoint, {}, {})  # type: ignore[arg-type]
        return await saver.aget_tuple(thread(name)) is not None

    return asyncio.run(put())


_CHECKPOINT = {
    "v": 4, "ts": "2026-01-01T00:00:00+00:00", "channel_values": {"x": 1},
    "channel_versions": {"x": "1"}, "versions_seen": {}, "updated_channels": None,
}  # fmt: skip


def _tell(name: str, saver: CheckpointSaver, form: str) -> None:
    """Use a saver and close it, and tell of each whether it worked, or was refused by name."""
    for step, use in (
        ("put", lambda: _put(saver, name, form)),
        ("close", lambda: _close(saver, form)),
    ):
        try:
            outcome = str(use() is not False)
        except ThreadStartError as error:
            outcome = "refused" if "before the main thread ends" in str(error) else str(error)
        print(name, step, outcome, sep=": ", flush=True)


def _main(root: str, form: str) -> None:
    used = {name: CheckpointSaver(Path(root)) for name in ("thread", "atexit")}
    unused = {name: CheckpointSaver(Path(root)) for name in ("thread", "atexit")}
    for saver in used.values():
        _turn(saver, "before", form)

    def in_thread() -> None:
        threading.main_thread().join()
        _tell("used in thread", used["thread"], form)
        _close(unused["thread"], form)
        _tell("new in thread", CheckpointSaver(Path(root)), form)

    def at_exit() -> None:
        _tell("used in atexit", used["atexit"], form)
        _close(unused["atexit"], form)
        _tell("new in atexit", CheckpointSaver(Path(root)), form)

    atexit.register(at_exit)
    threading.Thread(target=in_thread).start()


if __name__ == "__main__":
    _main(*sys.argv[1:])
