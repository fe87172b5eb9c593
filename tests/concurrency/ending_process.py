"""Uses writers after the main thread has ended: from a thread, and from `atexit`."""

from __future__ import annotations

import asyncio
import atexit
import sys
import threading

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData
from aiocheckpoint.testing import FaultyFiles


async def _use(writer: AsyncCheckpointWriter[CheckpointData], session: str) -> None:
    """Call everything, close, and tell that all of it was right."""
    await writer.save(CheckpointData(session_id=session, checkpoint_id="first"))
    (meta,) = await writer.list(session)
    await writer.flush()
    right = [
        await writer.load(session) is not None,
        await writer.ids(session) == ("first",),
        await writer.verify(meta.path),
        await writer.copy_session(session, f"copy of {session}") == 1,
        await writer.delete_session(f"copy of {session}"),
        (await writer.recover(session)).quarantined == (),
        await writer.check() == (),
        session in [each async for each in writer.sessions()],
        await asyncio.gather(writer.load(session), writer.aclose()),
    ]
    print(session, all(right), flush=True)


def _main(root: str) -> None:
    writers = {name: AsyncCheckpointWriter(root) for name in ("thread", "atexit")}

    def use_in_thread() -> None:
        saving.join()
        asyncio.run(_use(writers["thread"], "thread"))
        asyncio.run(_use(AsyncCheckpointWriter(root), "new in thread"))

    def save_over_the_end() -> None:
        async def save() -> None:
            async with AsyncCheckpointWriter(root, files=slow) as writer:
                await writer.save(CheckpointData(session_id="slow"))
            print("in flight True", flush=True)

        asyncio.run(save())

    slow = FaultyFiles()
    slow.at("before_sync_log", threading.main_thread().join)

    def use_at_exit() -> None:
        asyncio.run(_use(writers["atexit"], "atexit"))
        asyncio.run(_use(AsyncCheckpointWriter(root), "new in atexit"))

    for writer in writers.values():
        asyncio.run(writer.save(CheckpointData(session_id="before")))
    saving = threading.Thread(target=save_over_the_end)
    saving.start()
    threading.Thread(target=use_in_thread).start()
    atexit.register(use_at_exit)


if __name__ == "__main__":
    _main(sys.argv[1])
