"""Uses writers after the main thread has ended: from a thread, and from `atexit`."""

from __future__ import annotations

import asyncio
import atexit
import sys
import threading
from collections.abc import Coroutine
from typing import Any

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, ThreadStartError
from aiocheckpoint.testing import FaultyFiles
from tests.on_disk import path_of


def _run(name: str, use: Coroutine[Any, Any, bool]) -> None:
    """Tell whether all was right, or by which error it was refused."""
    try:
        print(name, asyncio.run(use), flush=True)
    except ThreadStartError:
        print(name, "ThreadStartError", flush=True)


async def _use(writer: AsyncCheckpointWriter[CheckpointData], session: str) -> bool:
    """Call everything and close, and return whether all of it was right."""
    await writer.save(CheckpointData(session_id=session, checkpoint_id="first"))
    (meta,) = await writer.list(session)
    await writer.flush()
    right = [
        await writer.load(session) is not None,
        await writer.ids(session) == ("first",),
        await writer.verify(path_of(meta)),
        await writer.copy_session(session, f"copy of {session}") == 1,
        await writer.delete_session(f"copy of {session}"),
        (await writer.recover(session)).quarantined == (),
        await writer.check() == (),
        session in [each async for each in writer.sessions()],
        await asyncio.gather(writer.load(session), writer.aclose()),
    ]
    return all(right)


def _main(root: str) -> None:
    writers = {name: AsyncCheckpointWriter(root) for name in ("thread", "atexit")}

    def use_in_thread() -> None:
        saving.join()
        _run("thread", _use(writers["thread"], "thread"))
        _run("new in thread", _use(AsyncCheckpointWriter(root), "new in thread"))

    def save_over_the_end() -> None:
        async def save() -> bool:
            async with AsyncCheckpointWriter(root, files=slow) as writer:
                await writer.save(CheckpointData(session_id="slow"))
            return True

        _run("in flight", save())

    def outlast_the_end() -> None:
        is_in_flight.set()
        threading.main_thread().join()

    slow, is_in_flight = FaultyFiles(), threading.Event()
    slow.at("before_sync_log", outlast_the_end)

    def use_at_exit() -> None:
        _run("atexit", _use(writers["atexit"], "atexit"))
        _run("new in atexit", _use(AsyncCheckpointWriter(root), "new in atexit"))

    for writer in writers.values():
        asyncio.run(writer.save(CheckpointData(session_id="before")))
    saving = threading.Thread(target=save_over_the_end)
    saving.start()
    threading.Thread(target=use_in_thread).start()
    atexit.register(use_at_exit)
    is_in_flight.wait()


if __name__ == "__main__":
    _main(sys.argv[1])
