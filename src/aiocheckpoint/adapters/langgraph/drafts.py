"""What is put, as records: checked and serialized before anybody has a turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata, get_checkpoint_metadata
from langgraph.checkpoint.serde.base import SerializerProtocol

from aiocheckpoint import SessionId
from aiocheckpoint.adapters._given import listed
from aiocheckpoint.adapters.langgraph import arguments, records
from aiocheckpoint.adapters.langgraph.arguments import Run, place_of, run_of
from aiocheckpoint.adapters.langgraph.looks import Looks
from aiocheckpoint.adapters.langgraph.pruning import with_plain_counters
from aiocheckpoint.adapters.langgraph.records import ThreadRecord, state_id
from aiocheckpoint.adapters.langgraph.serialized import Encoder


class Draft(NamedTuple):
    """
    A record that was serialized before anybody had a turn.

    Attributes:
        session_id: where it will be.
        record: what is stored.
        blobs: the values it refers to.
        run: who puts it; None where nobody knows.
        follows_newest: whether who puts it does not run, and was shown what it follows as the
            newest.
    """

    session_id: SessionId
    record: ThreadRecord
    blobs: dict[str, bytes]
    run: Run | None = None
    follows_newest: bool = False

    @property
    def is_of_a_thread(self) -> bool:
        """Tell whether a checkpoint is one that a run, or a change from without, goes on with."""
        is_known = self.run is not None or self.record.trigger == "update"
        return is_known and not self.record.checkpoint_ns


def state_draft(
    serde: SerializerProtocol,
    looks: Looks,
    config: RunnableConfig,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
) -> Draft:
    """
    Return a checkpoint, to be stored.

    Raises:
        InvalidArgumentError: the config names no thread, or the checkpoint has no id.
    """
    place, run = place_of(config), run_of(config)
    look = looks.of(place, run)
    checkpoint_id = arguments.text("the id of the checkpoint", checkpoint["id"])
    encoder = Encoder(serde)
    whole = with_plain_counters(get_checkpoint_metadata(config, metadata))
    plain_metadata, other_metadata = encoder.split(whole)
    rest = {key: value for key, value in checkpoint.items() if key != "channel_values"}
    document, others = encoder.split(rest)
    channels = {
        channel: encoder.encode(value) for channel, value in checkpoint["channel_values"].items()
    }
    step, source = plain_metadata.get("step"), plain_metadata.get("source")
    record = ThreadRecord(
        session_id=place.session_id,
        checkpoint_id=state_id(records.key_of(checkpoint_id)),
        blob_digests=encoder.digests,
        thread_id=str(place.thread_id),
        checkpoint_ns=place.namespace,
        checkpoint=checkpoint_id,
        parent=place.checkpoint,
        trigger=source if isinstance(source, str) else "",
        iteration=step if type(step) is int else -2,
        metadata=plain_metadata,
        serialized_metadata=other_metadata,
        document=document,
        serialized=others,
        channels=channels,
    )
    record.made_of = look.made_of_after(record)
    looks.put(place.session_id, checkpoint_id, run, look)
    follows_newest = run is None and look.is_newest
    return Draft(place.session_id, record, encoder.blobs, run, follows_newest)


def writes_draft(
    serde: SerializerProtocol,
    looks: Looks,
    config: RunnableConfig,
    writes: Sequence[tuple[str, Any]],
    task_id: str,
    task_path: str,
) -> Draft:
    """
    Return what a task wrote after a checkpoint, to be stored.

    Raises:
        InvalidArgumentError: the config names no checkpoint, or an argument is of another type.
    """
    place, run = place_of(config), run_of(config)
    checkpoint = arguments.text("checkpoint_id", place.checkpoint)
    writer = looks.of(place, run).writer
    encoder = Encoder(serde)
    encoded = records.encode_writes(listed("writes", writes), encoder.encode)
    record = ThreadRecord(
        session_id=place.session_id,
        checkpoint_id=records.new_pending_id(records.key_of(checkpoint), writer),
        blob_digests=encoder.digests,
        thread_id=str(place.thread_id),
        checkpoint_ns=place.namespace,
        checkpoint=checkpoint,
        trigger="pending",
        task_id=arguments.text("task_id", task_id),
        task_path=arguments.text("task_path", task_path),
        writes=encoded,
    )
    return Draft(place.session_id, record, encoder.blobs, run)
