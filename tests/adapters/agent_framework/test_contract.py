"""The storage keeps what every adapter promises."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

pytest.importorskip(
    "agent_framework", reason="needs the extra agent-framework: .ci/adapter agent-framework"
)

from agent_framework import WorkflowCheckpoint

from aiocheckpoint import CheckpointError
from aiocheckpoint.adapters.agent_framework import CheckpointStorage, StoredCheckpoint
from tests.adapters.case import OddCall
from tests.adapters.contract import AdapterContract
from tests.adapters.lists import Told


class TestContract(AdapterContract):
    """Each text is in the state of a checkpoint that follows the one before."""

    record_type = StoredCheckpoint
    allows_retention = True

    def opened(self, storage: Any) -> CheckpointStorage:
        return CheckpointStorage(storage)

    def odd_calls(self, adapter: Any, session: str) -> Iterator[OddCall]:
        for odd in (None, 5, ["s"], "\ud800"):
            yield partial(adapter.load, odd)
            yield partial(adapter.delete, odd)
            yield partial(adapter.get_latest, workflow_name=odd)
            yield partial(adapter.list_checkpoints, workflow_name=odd)
            yield partial(adapter.list_checkpoint_ids, workflow_name=odd)
            for name in ("workflow_name", "checkpoint_id", "previous_checkpoint_id"):
                fields: Any = {"workflow_name": session, "graph_signature_hash": "g"}
                if odd is not None or name != "previous_checkpoint_id":
                    yield partial(_saved, adapter, WorkflowCheckpoint(**{**fields, name: odd}))
        no_checkpoints: tuple[Any, ...] = (None, 5, {"a": 1})
        yield from (partial(_saved, adapter, odd) for odd in no_checkpoints)

    async def add(self, adapter: CheckpointStorage, session: str, text: str) -> None:
        before = await adapter.get_latest(workflow_name=session)
        texts = before.state["texts"] if before else []
        checkpoint = WorkflowCheckpoint(
            workflow_name=session,
            graph_signature_hash="graph",
            previous_checkpoint_id=before.checkpoint_id if before else None,
            state={"texts": [*texts, text]},
        )
        assert await _saved(adapter, checkpoint) == checkpoint.checkpoint_id

    lists_sessions = False

    async def make(self, adapter: CheckpointStorage, name: str) -> None:
        fields: dict[str, Any] = {
            "workflow_name": "w",
            "graph_signature_hash": "g",
            "checkpoint_id": name,
        }
        await adapter.save(WorkflowCheckpoint(**fields, state={"text": "word " * 600}))

    async def open_one(self, adapter: CheckpointStorage, name: str) -> None:
        await adapter.load(name)

    async def list_all(self, adapter: CheckpointStorage) -> Any:
        return await adapter.list_checkpoints(workflow_name="w")

    def told_by(self, listed: Any) -> Told:
        return {it.checkpoint_id: getattr(it, "problem", None) for it in listed}

    async def texts(self, adapter: CheckpointStorage, session: str) -> list[str]:
        latest = await adapter.get_latest(workflow_name=session)
        return [*latest.state["texts"]] if latest else []


async def _saved(adapter: CheckpointStorage, checkpoint: WorkflowCheckpoint) -> str:
    """Save a checkpoint; of one that fails the end of the storage need not tell again."""
    try:
        return await adapter.save(checkpoint)
    except CheckpointError:
        with contextlib.suppress(ExceptionGroup):
            adapter.require_saved()
        raise
