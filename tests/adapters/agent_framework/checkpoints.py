"""Checkpoints to test with."""

from __future__ import annotations

from typing import Any

from agent_framework import WorkflowCheckpoint


def checkpoint(state: Any = None, previous: WorkflowCheckpoint | None = None, **fields: Any) -> Any:
    """Return a checkpoint of the workflow `w`, or of the one before."""
    if previous is not None:
        fields["previous_checkpoint_id"] = previous.checkpoint_id
    return WorkflowCheckpoint(
        **{"workflow_name": "w", "graph_signature_hash": "graph", "state": state or {}, **fields}
    )


def message(number: int, size: int = 1000) -> dict[str, Any]:
    """Return a message of a conversation."""
    return {"role": "user", "text": f"{number:06} " + "x" * size}
