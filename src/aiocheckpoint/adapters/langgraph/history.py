"""What rebuilds delta channels: the nearest stored value, and the writes since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from langgraph.checkpoint.base import DeltaChannelHistory
from langgraph.checkpoint.serde.base import SerializerProtocol

from aiocheckpoint import BlobStore, SessionId
from aiocheckpoint.adapters.langgraph import records
from aiocheckpoint.adapters.langgraph.arguments import Place
from aiocheckpoint.adapters.langgraph.listing import blobs_of
from aiocheckpoint.adapters.langgraph.reading import groups_of, newest_key
from aiocheckpoint.adapters.langgraph.records import Decoder, ThreadRecord, state_id


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
    """
    session_id = place.session_id
    history: dict[str, DeltaChannelHistory] = {name: {"writes": []} for name in channels}
    remaining = set(history)
    if place.checkpoint is None:
        key = await store.read(session_id, newest_key)
    else:
        key = records.key_of(place.checkpoint)
    state = None if key is None or not history else await _state(store, session_id, key)
    while state is not None and state.parent is not None and remaining:
        key = records.key_of(state.parent)
        group = (await store.read(session_id, partial(groups_of, [key])))[key]
        state = group.state
        if state is not None:
            await _add_ancestor(store, serde, state, group.pending, remaining, history)
    for found in history.values():
        found["writes"].reverse()
    return history


async def _state(
    store: BlobStore[ThreadRecord], session_id: SessionId, key: str
) -> ThreadRecord | None:
    found = await store.load_many(session_id, [state_id(key)])
    return found[0] if found else None


async def _add_ancestor(
    store: BlobStore[ThreadRecord],
    serde: SerializerProtocol,
    state: ThreadRecord,
    pending: Iterable[ThreadRecord],
    remaining: set[str],
    history: dict[str, DeltaChannelHistory],
) -> None:
    """Add an ancestor's writes, the last first, and its values, which end the search."""
    writes = [w for w in records.merged_writes(pending) if w.channel in remaining]
    values = {k: v for k, v in (state.channels or {}).items() if k in remaining}
    digests = dict.fromkeys(records.blobs_of(state, values.values()))
    for write in writes:
        digests |= dict.fromkeys(records.blobs_of(write.record, [write.value]))
    decoder = Decoder(serde, await blobs_of(store, state.session_id, [*digests]))
    for write in reversed(writes):
        history[write.channel]["writes"].append(records.pending_write(write, decoder))
    for channel, value in values.items():
        history[channel]["seed"] = decoder.decode(state, value)
    remaining.difference_update(values)
