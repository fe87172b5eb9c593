"""Agents of the demo that each break one promise: `python broken_agents.py FAULT TASK`."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import msgspec

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointData,
    CheckpointId,
    SessionId,
    StorageFullError,
)
from aiocheckpoint.cli import agents

HELD_BACK: dict[SessionId, CheckpointData] = {}


class Writer(AsyncCheckpointWriter[CheckpointData]):
    async def path(self, data: CheckpointData) -> str:
        metas = await self.list(data.session_id)
        return str(next(m.path for m in metas if m.checkpoint_id == data.checkpoint_id))


class AcknowledgesBeforeSaving(Writer):
    """Saves a step only when the next one has been acknowledged."""

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        due = HELD_BACK.get(data.session_id)
        HELD_BACK[data.session_id] = msgspec.structs.replace(data, messages=[*data.messages])
        if due is not None:
            await super().save(due)
        return data.checkpoint_id


class NeverSavesTheThirdStep(Writer):
    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        return data.checkpoint_id if data.iteration == 3 else await super().save(data, **terms)


class DeletesWhatItSaved(Writer):
    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        saved = await super().save(data, **terms)
        await self.delete(data.session_id, saved)
        return saved


class DamagesWhatItSaved(Writer):
    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        saved = await super().save(data, **terms)
        await self.flush()
        await asyncio.to_thread(self._truncate, await self.path(data))
        return saved

    def _truncate(self, path: str) -> None:
        with open(path, "r+b") as file:
            file.truncate(100)


class SavesSomethingElse(Writer):
    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        changed = [*data.messages[:-1], {"role": "user", "content": "something else"}]
        return await super().save(msgspec.structs.replace(data, messages=changed))


class ResumesFromTheStart(Writer):
    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> CheckpointData | None:
        return None


class ResumesTwoStepsTooEarly(Writer):
    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> CheckpointData | None:
        metas = await self.list(session_id)
        return await super().load(session_id, metas[2].checkpoint_id) if metas[2:] else None


class DoesNothing(Writer):
    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> CheckpointData | None:
        raise asyncio.CancelledError


class Refuses(Writer):
    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        raise StorageFullError("write", "/somewhere", 28, "No space left on device")


class HoldsTheShortest(Writer):
    """Keeps nothing back but this: a save of the shortest session ends in the last life alone."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        steps = {name: len(script.messages) for name, script in agents.casting(8).items()}
        self._held = min(steps, key=lambda name: steps[name])
        self._is_held = asyncio.Event()
        with open(os.environ["LIVES"], "a+b") as lives:
            lives.write(b".")
            if lives.tell() > int(os.environ["KILLS"]):
                self._held = ""
                self._is_held.set()

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        if data.session_id == self._held:
            self._is_held.set()
            await asyncio.Event().wait()
        await self._is_held.wait()
        return await super().save(data, **terms)


if __name__ == "__main__":
    vars(agents)["AsyncCheckpointWriter"] = globals()[sys.argv[1]]
    agents.main(sys.argv[2])
