"""
What a storage of checkpoints has to do, in our own words, from the framework's docstrings.

The framework's own tests of its storages are in its repository alone, in no package.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

pytest.importorskip(
    "agent_framework", reason="needs the extra agent-framework: .ci/adapter agent-framework"
)

from agent_framework import Message, WorkflowEvent, WorkflowMessage, register_checkpoint_type
from agent_framework.exceptions import WorkflowCheckpointException

from tests.adapters.agent_framework.checkpoints import checkpoint


@dataclass
class Stubborn:
    """It can be pickled, and not be copied."""

    text: str

    def __deepcopy__(self, memo: object) -> Stubborn:
        raise TypeError("not to be copied")


register_checkpoint_type(Stubborn)


class TestCopies:
    @pytest.mark.parametrize("read", ["load", "get_latest", "list_checkpoints"])
    async def test_what_is_read_belongs_to_the_caller(self, storage: Any, read: str) -> None:
        """Changes of a checkpoint that was read reach neither the store nor another reader."""
        saved = checkpoint({"deep": {"list": [1]}}, metadata={"deep": {"key": 1}})
        await storage.save(saved)

        async def found() -> Any:
            if read == "load":
                return await storage.load(saved.checkpoint_id)
            if read == "get_latest":
                return await storage.get_latest(workflow_name="w")
            return (await storage.list_checkpoints(workflow_name="w"))[0]

        one, two = await found(), await found()
        one.state["deep"]["list"].append(2)
        one.metadata["deep"]["key"] = 2
        for other in (two, await found()):
            assert other.state == {"deep": {"list": [1]}}
            assert other.metadata == {"deep": {"key": 1}}

    async def test_saves_what_there_is_at_the_call(self, storage: Any) -> None:
        """Changes after the call are not stored, however deep."""
        saved = checkpoint({"deep": {"list": [1]}})
        await storage.save(saved)
        saved.state["deep"]["list"].append(2)

        assert (await storage.load(saved.checkpoint_id)).state == {"deep": {"list": [1]}}

    async def test_objects_within_are_apart(self, storage: Any) -> None:
        """So do changes of messages, of events that wait, and of objects that refuse a copy."""
        event: Any = WorkflowEvent.request_info("r", "asks", "may I?", str)
        saved = checkpoint(
            {"stubborn": Stubborn("before")},
            messages={"one": [WorkflowMessage(data=Message("user", ["hello"]), source_id="one")]},
            pending_request_info_events={"r": event},
        )
        await storage.save(saved)

        changed = await storage.load(saved.checkpoint_id)
        changed.state["stubborn"].text = "after"
        changed.messages["one"][0].data.contents.clear()
        changed.pending_request_info_events["r"].data = "after"

        again = await storage.load(saved.checkpoint_id)
        assert again.state["stubborn"].text == "before"
        assert again.messages["one"][0].data.text == "hello"
        assert again.messages["one"][0].source_id == "one"
        assert again.pending_request_info_events["r"].data == "may I?"
        with pytest.raises(TypeError):
            copy.deepcopy(again.state["stubborn"])


class TestKeeping:
    async def test_all_fields_come_back(self, storage: Any) -> None:
        """Every field is as it was given."""
        saved = checkpoint(
            {"a": 1},
            checkpoint_id="any/../id é",
            previous_checkpoint_id="before",
            timestamp="2026-01-01T00:00:00",
            messages={"one": [{"data": "hello"}]},
            pending_request_info_events={"r": {"data": 1}},
            iteration_count=7,
            metadata={"step": datetime(2026, 1, 1, tzinfo=UTC)},
            version="2.0",
        )
        assert await storage.save(saved) == saved.checkpoint_id

        assert await storage.load(saved.checkpoint_id) == saved

    async def test_missing_checkpoint(self, storage: Any) -> None:
        """One that is not there raises the framework's error; an unknown workflow has none."""
        with pytest.raises(WorkflowCheckpointException):
            await storage.load("missing")
        assert await storage.get_latest(workflow_name="unknown") is None
        assert await storage.list_checkpoints(workflow_name="unknown") == []
        assert await storage.list_checkpoint_ids(workflow_name="unknown") == []
        assert await storage.delete("missing") is False

    async def test_workflows_are_apart(self, storage: Any) -> None:
        """Lists are of one workflow, in the order of saving."""
        saved = [checkpoint(workflow_name=name) for name in ("one", "two", "one")]
        for each in saved:
            await storage.save(each)

        assert await storage.list_checkpoints(workflow_name="one") == [saved[0], saved[2]]
        ids = await storage.list_checkpoint_ids(workflow_name="two")
        assert ids == [saved[1].checkpoint_id]

    async def test_deleted_checkpoint_is_gone(self, storage: Any) -> None:
        """A delete tells whether there was one; the others stay."""
        first, second = checkpoint({"n": 1}), checkpoint({"n": 2})
        await storage.save(first)
        await storage.save(second)

        assert await storage.delete(second.checkpoint_id) is True
        assert await storage.delete(second.checkpoint_id) is False

        with pytest.raises(WorkflowCheckpointException):
            await storage.load(second.checkpoint_id)
        assert await storage.get_latest(workflow_name="w") == first

    async def test_saved_again_replaces(self, storage: Any) -> None:
        """A checkpoint of the same id takes the place of the one before."""
        await storage.save(checkpoint({"n": 1}, checkpoint_id="same"))
        await storage.save(checkpoint({"n": 2}, checkpoint_id="same"))

        assert (await storage.load("same")).state == {"n": 2}
        assert await storage.list_checkpoint_ids(workflow_name="w") == ["same"]

    async def test_newest_goes_by_the_order_of_saving(self, storage: Any) -> None:
        """What was saved last is the newest, whatever the clocks of others said."""
        for number, year in enumerate((2030, 2020, 2025)):
            await storage.save(checkpoint({"n": number}, timestamp=f"{year}-01-01T00:00:00"))

        latest = await storage.get_latest(workflow_name="w")
        assert latest.state == {"n": 2}
