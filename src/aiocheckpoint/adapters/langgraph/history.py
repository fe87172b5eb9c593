"""What rebuilds delta channels: the nearest stored value, and the writes since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from langgraph.checkpoint.base import DeltaChannelHistory
from langgraph.checkpoint.serde.base import SerializerProtocol

from aiocheckpoint import BlobStore, CheckpointCorruptError, StorageError
from aiocheckpoint.adapters.langgraph import records, serialized
from aiocheckpoint.adapters.langgraph.arguments import Place
from aiocheckpoint.adapters.langgraph.listing import blobs_of
from aiocheckpoint.adapters.langgraph.pruning import rebuilt
from aiocheckpoint.adapters.langgraph.reading import Ancestry, Group, newest_key
from aiocheckpoint.adapters.langgraph.records import ThreadRecord, state_id
from aiocheckpoint.adapters.langgraph.serialized import Decoder


class MissingAncestorError(CheckpointCorruptError):
    """
    A checkpoint that is intact, and has delta channels that nobody can rebuild any more.

    Raised instead of handing out the part of their values that is left.

    Attributes:
        thread_id: the thread.
        checkpoint_ns: the namespace.
        checkpoint: LangGraph's id of the checkpoint.
        missing: LangGraph's id of the ancestor that is not there.
        channels: the channels whose values are rebuilt from it.
    """

    def __init__(
        self,
        session_id: str,
        thread_id: str,
        checkpoint_ns: str,
        checkpoint: str,
        missing: str,
        channels: tuple[str, ...],
    ) -> None:
        path = f"{session_id}/{state_id(records.key_of(missing))}"
        reason = f"delta channels are rebuilt from checkpoint {missing!r}, which is not there"
        key = state_id(records.key_of(checkpoint))
        super().__init__(path, reason, session_id=session_id, checkpoint_id=key)
        self.args = (session_id, thread_id, checkpoint_ns, checkpoint, missing, channels)
        self.thread_id = thread_id
        self.checkpoint_ns = checkpoint_ns
        self.checkpoint = checkpoint
        self.missing = missing
        self.channels = channels

    def __str__(self) -> str:
        within = f", namespace {self.checkpoint_ns!r}" if self.checkpoint_ns else ""
        channels = ", ".join(map(repr, self.channels))
        return (
            f"thread {self.thread_id!r}{within}: checkpoint {self.checkpoint!r} cannot be read: "
            f"{channels} would be rebuilt from checkpoint {self.missing!r}, which is not there; "
            "restore the thread from a backup, or go on from another of its checkpoints, by its "
            f"id: `alist` has them, and `aget_state` tells which can be read "
            f"(session {self.session_id!r})"
        )


async def delta_history(
    store: BlobStore[ThreadRecord],
    serde: SerializerProtocol,
    place: Place,
    channels: Iterable[str],
) -> Mapping[str, DeltaChannelHistory]:
    """
    Return for each channel the writes of ancestors, oldest first, and the value they begin with.

    Args:
        store: where.
        serde: what turns bytes into values.
        place: which checkpoint's ancestors.
        channels: names of channels.

    Raises:
        MissingAncestorError: one is not there from which one of them is rebuilt.
        StorageError: the checkpoint was removed meanwhile.
    """
    history: dict[str, DeltaChannelHistory] = {name: {"writes": []} for name in channels}
    ancestry = Ancestry()
    asked = await _asked(store, place, ancestry) if history else None
    state, remaining = asked, set(history)
    needed = set() if asked is None else rebuilt(asked) & remaining
    while state is not None and state.parent is not None and remaining:
        find = partial(ancestry.find, records.key_of(state.parent), with_writes=True)
        group: Group = await store.read(place.session_id, find)
        if asked is not None and group.state is None and needed:
            await _require(store, asked)
            raise _missing(asked, state.parent, needed)
        writes = records.writes_in(state, group.pending)
        state = group.state
        if state is not None:
            await _add_ancestor(store, serde, state, writes, remaining, history)
            needed &= rebuilt(state)  # where it knows of none, as another graph, nobody kept more
    for found in history.values():
        found["writes"].reverse()
    return history


async def _asked(
    store: BlobStore[ThreadRecord], place: Place, ancestry: Ancestry
) -> ThreadRecord | None:
    """Return the checkpoint, without an id the newest; None where there is none."""
    if place.checkpoint is None:
        key = await store.read(place.session_id, newest_key)
    else:
        key = records.key_of(place.checkpoint)
    if key is None:
        return None
    find = partial(ancestry.find, key, with_writes=False)
    return (await store.read(place.session_id, find)).state


async def _require(store: BlobStore[ThreadRecord], asked: ThreadRecord) -> None:
    """
    Refuse a checkpoint that somebody has removed while its ancestors were read.

    Raises:
        StorageError: it is not there any more.
    """
    key = state_id(records.key_of(asked.checkpoint))
    if not await store.ids(asked.session_id, prefix=key):
        reason = f"checkpoint {asked.checkpoint!r} was removed meanwhile; read its thread again"
        raise StorageError("read", asked.session_id, None, reason)


def _missing(asked: ThreadRecord, missing: str, channels: Iterable[str]) -> MissingAncestorError:
    place = asked.session_id, asked.thread_id, asked.checkpoint_ns, asked.checkpoint
    return MissingAncestorError(*place, missing, tuple(sorted(channels)))


async def _add_ancestor(
    store: BlobStore[ThreadRecord],
    serde: SerializerProtocol,
    state: ThreadRecord,
    found: Iterable[records.Write],
    remaining: set[str],
    history: dict[str, DeltaChannelHistory],
) -> None:
    """Add an ancestor's writes, the last first, and its values, which end the search."""
    writes = [write for write in found if write.channel in remaining]
    values = {k: v for k, v in (state.channels or {}).items() if k in remaining}
    digests = dict.fromkeys(serialized.blobs_of(state, values.values()))
    for write in writes:
        digests |= dict.fromkeys(serialized.blobs_of(write.record, [write.value]))
    decoder = Decoder(serde, await blobs_of(store, state.session_id, [*digests]))
    for write in reversed(writes):
        history[write.channel]["writes"].append(records.pending_write(write, decoder))
    for channel, value in values.items():
        history[channel]["seed"] = decoder.decode(state, value)
    remaining.difference_update(values)
