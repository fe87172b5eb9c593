"""Records as LangGraph has them: configs, metadata, checkpoints with their writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol

from aiocheckpoint.adapters.langgraph import records
from aiocheckpoint.adapters.langgraph.reading import Group
from aiocheckpoint.adapters.langgraph.records import ThreadRecord, configurable_of
from aiocheckpoint.adapters.langgraph.serialized import Decoder


def thread_id_of(config: RunnableConfig | None) -> object:
    """Return the id of a thread as a config has it; None where it names none."""
    return None if config is None else configurable_of(config).get("thread_id")


def config_of(
    thread_id: object, record: ThreadRecord, checkpoint: str | None = None
) -> RunnableConfig:
    """Return the config of a checkpoint, or of another one beside it."""
    return {
        "configurable": {
            "thread_id": thread_id,
            "checkpoint_ns": record.checkpoint_ns,
            "checkpoint_id": record.checkpoint if checkpoint is None else checkpoint,
        }
    }


def metadata_of(record: ThreadRecord, decoder: Decoder) -> dict[str, Any]:
    """Return the metadata of a checkpoint."""
    others = decoder.decode_all(record, record.serialized_metadata)
    return {**(record.metadata or {}), **others}


def tuple_of(
    group: Group, blobs: Mapping[str, bytes], thread_id: object, serde: SerializerProtocol
) -> CheckpointTuple | None:
    """
    Return a checkpoint with its writes; None when there are only writes.

    Args:
        group: its records.
        blobs: all that they refer to.
        thread_id: as the caller gave it; None for what the record says.
        serde: what turns bytes into values.
    """
    state = group.state
    if state is None:
        return None
    decoder = Decoder(serde, blobs)
    thread = state.thread_id if thread_id is None else thread_id
    checkpoint = {
        **(state.document or {}),
        **decoder.decode_all(state, state.serialized),
        "id": state.checkpoint,  # the very object: it tells what was shown, as the document's not
        "channel_values": decoder.decode_all(state, state.channels),
    }
    parent_config = None
    if state.parent is not None:
        parent_config = config_of(thread, state, state.parent)
    writes = records.merged_writes(group.pending)
    return CheckpointTuple(
        config=config_of(thread, state),
        checkpoint=cast("Checkpoint", checkpoint),
        metadata=cast("CheckpointMetadata", metadata_of(state, decoder)),
        parent_config=parent_config,
        pending_writes=[records.pending_write(write, decoder) for write in writes],
    )
