"""Agents of the demo that each break one promise: `python broken_agents.py FAULT TASK`."""

from __future__ import annotations

import asyncio
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
    """Keeps nothing back but this: the shortest session's save waits until all others are done."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        steps = {name: len(script.messages) for name, script in agents.casting(8).items()}
        self._held = min(steps, key=lambda name: steps[name])
        self._left = {name: count for name, count in steps.items() if name != self._held}
        self._others_are_done = asyncio.Event()

    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> CheckpointData | None:
        latest = await super().load(session_id, checkpoint_id)
        if latest is not None:
            self._note(latest)
        return latest

    async def save(self, data: CheckpointData, /, **terms: Any) -> CheckpointId:
        if data.session_id == self._held:
            await self._others_are_done.wait()
        saved = await super().save(data, **terms)
        self._note(data)
        return saved

    def _note(self, data: CheckpointData) -> None:
        if self._left.get(data.session_id) == data.iteration:
            del self._left[data.session_id]
        if not self._left:
            self._others_are_done.set()


if __name__ == "__main__":
    vars(agents)["AsyncCheckpointWriter"] = globals()[sys.argv[1]]
    agents.main(sys.argv[2])
