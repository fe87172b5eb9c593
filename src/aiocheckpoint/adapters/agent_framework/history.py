"""Conversations of agents of Microsoft Agent Framework in any store of checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, cast

import msgspec
from agent_framework import HistoryProvider as FrameworkProvider
from agent_framework import Message

# The framework has no public name for what its own providers leave out of a transcript that is
# given to them again.
from agent_framework._sessions import filter_new_messages

from aiocheckpoint import (
    CheckpointEncodeError,
    InvalidIdError,
    JsonValue,
    SessionId,
    SessionReader,
    Transaction,
    exact,
)
from aiocheckpoint.adapters._given import listed
from aiocheckpoint.adapters._recent import RecentBlobs
from aiocheckpoint.adapters._steady import read_steadily
from aiocheckpoint.adapters._storage import InStorage, Names, Storage
from aiocheckpoint.history import History, HistoryRecord, load_history
from aiocheckpoint.kit import require_instance

_NAMES: Final = Names("agent_framework_history")  # workflows have names of any text behind a dot
_ID: Final = "messages"
_RECENT_SESSIONS = 64


class StoredMessages(HistoryRecord, tag="agent_framework_history.StoredMessages"):
    """
    The messages of a session, in shared history; its id is `messages`.

    Its session is named `agent_framework_history.` and the session's id. Values that JSON lacks are
    there as `exact` writes them.
    """


class HistoryProvider(InStorage[StoredMessages], FrameworkProvider):
    """
    Messages of the sessions of an agent that survive the process, the machine, a power cut.

    ```py
    agent = Agent(client=client, context_providers=[HistoryProvider("chats/")])
    ```

    Any number of providers, tasks, event loops, threads and processes may use one storage, and one
    session of it. All providers of one storage have the same conversations; one that keeps a copy
    of another kind, as for an audit, has a storage of its own.

    **Durability**: when `save_messages` returns, the messages are durable, as the store promises:
    those of a turn in one commit.

    **Cancellation**: a call ends when its outcome is known; it took place as a whole or not at all.

    **Damage** raises `CheckpointCorruptError`. It is never taken for a session without messages.

    Args:
        storage: a directory, a URL of `open_store`, or an open store of `StoredMessages`, which
            stays open.
        source_id: of the framework.
        skip_excluded: whether `get_messages` leaves out what compaction has excluded.
        **options: of the framework's `HistoryProvider`.

    Raises:
        CheckpointError: what `open_store` raises.
    """

    def __init__(
        self,
        storage: Storage[StoredMessages],
        *,
        source_id: str = "aiocheckpoint",
        skip_excluded: bool = False,
        **options: Any,
    ) -> None:
        InStorage.__init__(self, storage, StoredMessages, allows_retention=True)
        FrameworkProvider.__init__(self, source_id, **options)
        self.skip_excluded = skip_excluded
        self._recent = lru_cache(_RECENT_SESSIONS)(_recent_of)

    async def get_messages(
        self,
        session_id: str | None,
        *,
        state: dict[str, Any] | None = None,  # noqa: ARG002 - the framework's
        **_more: Any,
    ) -> list[Message]:
        """
        Return the messages of a session, the oldest first; none where there is none.

        Args:
            session_id: any text.
            state: is not looked at.

        Raises:
            InvalidIdError: no session is named.
            CheckpointCorruptError: what is stored is damaged.
            CheckpointError: what `read` of the store raises.

        Cost: one read, where the messages are made, too.
        """

        async def read(session: SessionReader[StoredMessages]) -> list[Message]:
            items = await (await self._history(session)).items(exact=True)
            return [*map(Message.from_dict, items)]

        messages = await read_steadily(self._store, _name_of(session_id), read)
        if not self.skip_excluded:
            return messages
        return [it for it in messages if not it.additional_properties.get("_excluded", False)]

    async def save_messages(
        self,
        session_id: str | None,
        messages: Sequence[Message],
        *,
        state: dict[str, Any] | None = None,  # noqa: ARG002 - the framework's
        **_more: Any,
    ) -> None:
        """
        Add messages to a session, as they are now.

        Stored is what their `to_dict` returns, as by the framework's own providers; it leaves out
        values that are no JSON, as tuples among `additional_properties`. Dicts keep the order of
        their keys.

        Those that the session ends with are not added again, so that a call may be repeated, and a
        whole conversation be handed over each time, as to the providers of the framework.

        Args:
            session_id: any text.
            messages: the new ones, or all.
            state: is not looked at.

        Raises:
            InvalidIdError: no session is named.
            InvalidArgumentError: it is no list of messages.
            CheckpointEncodeError: one could not be read again.
            CheckpointError: what `update` of the store raises.

        Cost: one update, of what is added.
        """
        name = _name_of(session_id)
        items = [*map(_json_of, listed("messages", messages))]

        async def add(session: Transaction[StoredMessages]) -> None:
            history = await self._history(session)
            before = map(_message_of, await history.last(len(items)))
            new = filter_new_messages([*before], [*map(_message_of, items)])
            if not new:
                return
            history = history.extend_json([*map(msgspec.json.encode, items[-len(new) :])])
            record = history.into(StoredMessages(session_id=name, checkpoint_id=_ID))
            session.save(record, blobs=history.new_blobs)
            self._recent(name).keep(record.blob_digests, history.new_blobs)

        await self._store.update(name, add)

    async def _history(self, session: SessionReader[StoredMessages]) -> History:
        load_blobs = self._recent(session.session_id).or_else(session.load_blobs)
        record = await session.load(_ID)
        if not isinstance(record, StoredMessages):
            return History(load_blobs)
        return await load_history(load_blobs, record)


def _name_of(session_id: str | None) -> SessionId:
    if session_id is None:
        reason = "conversations without a name would be one; run the agent with a session of an id"
        advice = "`session=agent.create_session(session_id=...)`"
        raise InvalidIdError("session id", session_id, f"{reason}, {advice}")
    return _NAMES.of(session_id)


def _json_of(message: Message) -> JsonValue:
    """Return a message as JSON of its own, which later changes by the caller do not reach."""
    require_instance("a message", message, Message)
    try:
        json = exact.to_json(message.to_dict(), path="message")
        _message_of(json)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointEncodeError):
            raise
        raise CheckpointEncodeError("message", f"could not be read again: {error!r}") from error
    return json


def _message_of(json: JsonValue) -> Message:
    return Message.from_dict(cast("dict[str, Any]", exact.from_json(json, path="message")))


def _recent_of(name: SessionId) -> RecentBlobs:  # noqa: ARG001 - what it is remembered by
    return RecentBlobs()
