"""The trait: save, load, list, delete, verify."""

from __future__ import annotations

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData

Writer = AsyncCheckpointWriter[CheckpointData]


class TestSaveAndLoad:
    async def test_load_returns_what_was_saved(self, writer: Writer) -> None:
        """A loaded checkpoint equals the saved one in every field."""
        data = CheckpointData(session_id="s", iteration=3, messages=[{"role": "user", "n": None}])

        await writer.save(data)

        assert await writer.load("s") == data

    async def test_list_is_newest_first(self, writer: Writer) -> None:
        """The checkpoint saved last stands first."""
        for iteration in range(5):
            await writer.save(CheckpointData(session_id="s", iteration=iteration))

        assert [meta.iteration for meta in await writer.list("s")] == [4, 3, 2, 1, 0]
