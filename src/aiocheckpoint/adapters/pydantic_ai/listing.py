"""Lists of conversations, whatever is wrong with some."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from pydantic_ai.conversation_store import ConversationRecord

from aiocheckpoint import (
    BlobStore,
    CheckpointError,
    CheckpointId,
    SessionId,
    SessionReader,
    StorageError,
)
from aiocheckpoint.adapters._lists import (
    OF_ONE,
    each_of,
    finished,
    in_order,
    newest_of,
    of_unknown,
    saved_at,
    session_names,
)
from aiocheckpoint.adapters.pydantic_ai.records import (
    CONVERSATION_ID,
    NAMES,
    ConversationHead,
    ConversationStoreRecord,
    ForkedConversation,
    Place,
)
from aiocheckpoint.adapters.pydantic_ai.values import record_of

_logger = logging.getLogger("aiocheckpoint")


@dataclass(kw_only=True)
class UnreadableConversation(ConversationRecord):
    """
    A conversation that `load` refuses, in a list: its id alone, and when it was stored.

    Its `head_id` is that of no entry, and its `revision` that of no record, so that it is never
    taken for one that is empty.

    Attributes:
        problem: what `load` says of it.
    """

    problem: str


class _Refused(NamedTuple):
    """A conversation whose record cannot be read, and where that is."""

    place: Place
    error: CheckpointError


class _Records(NamedTuple):
    """
    The records of all conversations.

    Attributes:
        heads: those that can be read, each by the name of its conversation's session.
        refused: those that cannot.
        nameless: why there may be more.
    """

    heads: dict[SessionId, ConversationHead]
    refused: dict[SessionId, _Refused]
    nameless: list[CheckpointError]


async def listed(
    store: BlobStore[ConversationStoreRecord], scope: str | None, limit: int | None
) -> list[ConversationRecord]:
    """
    Return the conversations without their entries, the one saved last first.

    Raises:
        CheckpointError: of some nobody can tell the name; all others are its `listed`.
    """
    heads, refused, nameless = await _records(store)
    records: list[ConversationRecord] = []
    for name, head in heads.items():
        if scope in (None, head.record["scope"]):
            try:
                records.append(record_of(head))
            except OF_ONE as error:
                at = Place(head.session_id, head.checkpoint_id)
                records += await _named(store, name, _Refused(at, error))
    if scope is None:
        for name, each in refused.items():
            records += await _named(store, name, each)
    else:
        nameless += _out_of_scope(refused)
    records.sort(key=lambda record: in_order(record.updated_at), reverse=True)
    return finished(records[:limit], nameless, of_unknown(each.error for each in refused.values()))


def _out_of_scope(refused: dict[SessionId, _Refused]) -> list[CheckpointError]:
    """
    Tell the log of conversations whose scope nobody can tell: they may be of another tenant.

    Returns:
        the errors of those that are not damaged, but cannot be read now: many may be missing.
    """
    for name, (_, why) in refused.items():
        _logger.warning(
            "a list by scope lacks conversation %r, whose scope cannot be told: %s",
            NAMES.text_in(name), why,
        )  # fmt: skip
    return [why for _, why in refused.values() if isinstance(why, StorageError)]


async def _named(
    store: BlobStore[ConversationStoreRecord], name: SessionId, refused: _Refused
) -> list[ConversationRecord]:
    """Return what a list has of a conversation that cannot be read; nothing where none is there."""
    time = await saved_at(store, *refused.place)
    if time is None:
        return []
    unreadable = UnreadableConversation(
        conversation_id=NAMES.text_in(name),
        head_id="",
        revision="",
        updated_at=time,
        problem=str(refused.error),
    )
    return [unreadable]


async def _records(store: BlobStore[ConversationStoreRecord]) -> _Records:
    names, nameless = await session_names(store, NAMES.of(""))
    newest, unread = await newest_of(store, names)
    found = _Records({}, {}, nameless)
    forks: defaultdict[SessionId, dict[CheckpointId, SessionId]] = defaultdict(dict)
    for name in names:
        if name not in newest and name not in unread:
            continue
        record = newest.get(name)
        try:
            if record is None or record.checkpoint_id != CONVERSATION_ID:  # a fork was saved last
                record = await store.load(name, CONVERSATION_ID)
        except OF_ONE as error:
            found.refused[name] = _Refused(Place(name, CONVERSATION_ID), error)
            continue
        if isinstance(record, ConversationHead):
            found.heads[name] = record
        elif isinstance(record, ForkedConversation):
            forks[record.home][record.head] = name
    for home, ids in forks.items():
        try:
            read, refused = await store.read(home, partial(_each, [*ids]))
        except OF_ONE as error:
            read, refused = [], dict.fromkeys(ids, error)
        for head in read:
            if isinstance(head, ConversationHead):
                found.heads[ids[head.checkpoint_id]] = head
        for checkpoint_id, why in refused.items():
            found.refused[ids[checkpoint_id]] = _Refused(Place(home, checkpoint_id), why)
    return found


async def _each(
    checkpoint_ids: list[CheckpointId], session: SessionReader[ConversationStoreRecord]
) -> tuple[list[ConversationStoreRecord], dict[CheckpointId, CheckpointError]]:
    try:
        return [*await session.load_many(checkpoint_ids)], {}
    except OF_ONE:
        return await each_of(session, checkpoint_ids)
