"""The storage keeps what every adapter promises."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip(
    "agent_framework", reason="needs the extra agent-framework: .ci/adapter agent-framework"
)

from agent_framework import WorkflowCheckpoint

from aiocheckpoint.adapters.agent_framework import CheckpointStorage, StoredCheckpoint
from tests.adapters.contract import AdapterContract


class TestContract(AdapterContract):
    """Each text is in the state of a checkpoint that follows the one before."""

    record_type = StoredCheckpoint

    def opened(self, storage: Any) -> CheckpointStorage:
        return CheckpointStorage(storage)

    async def add(self, adapter: CheckpointStorage, session: str, text: str) -> None:
        before = await adapter.get_latest(workflow_name=session)
        texts = before.state["texts"] if before else []
        checkpoint = WorkflowCheckpoint(
            workflow_name=session,
            graph_signature_hash="graph",
            previous_checkpoint_id=before.checkpoint_id if before else None,
            state={"texts": [*texts, text]},
        )
        assert await adapter.save(checkpoint) == checkpoint.checkpoint_id

    async def texts(self, adapter: CheckpointStorage, session: str) -> list[str]:
        latest = await adapter.get_latest(workflow_name=session)
        return [*latest.state["texts"]] if latest else []
