"""Sessions of the OpenAI Agents SDK in any store of checkpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from agents import Agent, RunState, SessionSettings, TResponseInputItem

from aiocheckpoint import InvalidArgumentError, JsonValue, SessionChangedError, SessionId, exact
from aiocheckpoint.adapters._given import listed
from aiocheckpoint.adapters._recent import RecentBlobs
from aiocheckpoint.adapters._steady import read_steadily
from aiocheckpoint.adapters._storage import InStorage, Storage
from aiocheckpoint.adapters.openai_agents.conversation import (
    ConversationReader,
    Latest,
    OpenConversation,
)
from aiocheckpoint.adapters.openai_agents.records import (
    NAMES,
    RUN_ID,
    PausedRun,
    SessionRecord,
    added_items,
    id_of,
)
from aiocheckpoint.kit import require_instance

ResultT = TypeVar("ResultT")


class Session(InStorage[SessionRecord]):
    """
    A conversation of the OpenAI Agents SDK that survives the process, the machine, a power cut.

    ```py
    session = Session("support-42", "state/")
    result = await Runner.run(agent, "hello", session=session)
    ```

    Any number of sessions, tasks, event loops, threads and processes may use one storage, and one
    session of it; sessions that are given the same path or URL share one store.

    **Durability**: when a call returns, what it changed is durable, as the store promises.

    **Order**: of calls that are awaited one after another, as the SDK does. Of those begun at once
    by one object, an add that another object has overtaken may come behind those after it.

    **Cancellation**: a call ends when its outcome is known; it took place as a whole or not at all.

    **Damage** raises `CheckpointCorruptError`. It is never taken for an empty conversation.

    Args:
        session_id: any text.
        storage: a directory, a URL of `open_store`, or an open store of `SessionRecord`, which
            stays open.
        session_settings: of the framework; its `limit` is that of `get_items`.

    Attributes:
        session_id: as given.
        session_settings: as given.

    Raises:
        CheckpointError: what `open_store` raises.
    """

    def __init__(
        self,
        session_id: str,
        storage: Storage[SessionRecord],
        *,
        session_settings: SessionSettings | dict[str, Any] | None = None,
    ) -> None:
        super().__init__(storage, SessionRecord)
        self._recent = RecentBlobs()
        self._latest: Latest | None = None
        self.session_id = session_id
        self.session_settings: SessionSettings | None = SessionSettings().resolve(session_settings)

    def __repr__(self) -> str:
        return f"<Session {self.session_id!r} in {self._store!r}>"

    # The conversation

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """
        Return the items, oldest first.

        Args:
            limit: how many of the newest; None: `session_settings.limit`; below 0: all.

        Raises:
            InvalidArgumentError: the limit is no number.
            CheckpointCorruptError: what is stored is damaged, or a part of it is gone.
            CheckpointError: what `read` of the store raises.

        Cost: one read: of at most 16 records, and of the history's newest 64 KiB
            where this session does not know them; of what is older in pieces of as much, of those
            alone that hold what is wanted.
        """
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        if limit is not None and type(limit) is not int:
            raise InvalidArgumentError("limit", limit, "a plain int, or None")
        wanted = None if limit is None or limit < 0 else limit
        return await read_steadily(
            self._store,
            self._name,
            lambda session: ConversationReader(session, self._recent).newest(wanted),
        )

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """
        Add items, all or none; they may be changed as soon as this was called.

        Args:
            items: JSON values, and what else `exact` keeps.

        Raises:
            InvalidArgumentError: one item instead of a list of them.
            CheckpointEncodeError: a value that would not come back as it is; names its path.
            CheckpointError: what `save` and `update` of the store raise.

        Cost: one save of what is added. The first of this object, and the first after others have
            changed the conversation, is an update; each 17th moves what was added to the history.
        """
        self._require_open()
        added = _frozen(items)
        if not added:
            return
        latest, self._latest = self._latest, None  # what fails leaves nothing
        self._latest = await self._add_behind(latest, added) or await self._update(
            lambda conversation: conversation.add(added)
        )

    async def _add_behind(self, latest: Latest | None, items: list[JsonValue]) -> Latest | None:
        """
        Add items to a conversation that is as this object left it, by one save.

        That the newest record is an add of that number says it all, whoever has made it since.

        Returns:
            where it ends then; None when nothing was done.
        """
        if latest is None or not latest.has_room_for(items):
            return None
        record = added_items(self._name, latest.number + 1, items)
        try:
            await self._store.save(record, expected=id_of(latest.number))
        except SessionChangedError:
            return None
        return latest.following

    async def pop_item(self) -> TResponseInputItem | None:
        """
        Remove the newest item and return it; None when there is none.

        No item is given to two callers.

        Raises:
            CheckpointCorruptError: what is stored is damaged.
            CheckpointError: what `update` of the store raises.

        Cost: one update, of at most 64 KiB.
        """
        item: TResponseInputItem | None = exact.from_json(
            await self._update(lambda conversation: conversation.pop())
        )
        return item

    async def clear_session(self) -> None:
        """
        Remove all items, also where they are damaged; a run that was kept by `save_run` stays.

        Raises:
            CheckpointError: what `update` of the store raises.
        """
        await self._update(lambda conversation: conversation.clear())

    @property
    def _name(self) -> SessionId:
        return NAMES.of(self.session_id)

    async def _update(self, work: Callable[[OpenConversation], Awaitable[ResultT]]) -> ResultT:
        self._require_open()
        return await self._store.update(
            self._name, lambda session: work(OpenConversation(session, self._recent))
        )

    # A run that waits

    async def save_run(self, state: RunState[Any, Any], **options: Any) -> None:
        """
        Keep a run that waits, as for an approval, in the place of the one that was kept before.

        Args:
            state: what `result.to_state()` returns.
            **options: of `RunState.to_json`, as `context_serializer`.

        Raises:
            InvalidArgumentError: it is no `RunState`.
            CheckpointError: what `save` of the store raises.
        """
        require_instance("state", state, RunState)
        json = exact.to_json(state.to_json(**options), path="state")
        await self._store.save(PausedRun(session_id=self._name, checkpoint_id=RUN_ID, state=json))

    async def load_run(
        self, initial_agent: Agent[Any], **options: Any
    ) -> RunState[Any, Agent[Any]] | None:
        """
        Return the run that was kept; None when there is none.

        Args:
            initial_agent: the agent that the run began with.
            **options: of `RunState.from_json`, as `context_deserializer`.

        Raises:
            CheckpointCorruptError: it is damaged.
            CheckpointError: what `load` of the store raises.
            agents.UserError: what `RunState.from_json` raises.
        """
        record = await self._store.load(self._name, RUN_ID)
        if not isinstance(record, PausedRun):
            return None
        return await RunState.from_json(initial_agent, exact.from_json(record.state), **options)

    async def delete_run(self) -> bool:
        """
        Forget the run that was kept, as when it has gone on; False when there was none.

        Raises:
            CheckpointError: what `delete` of the store raises.
        """
        return await self._store.delete(self._name, RUN_ID)


def _frozen(items: list[TResponseInputItem]) -> list[JsonValue]:
    """Return items as JSON values of their own, which later changes by the caller do not reach."""
    found: list[JsonValue] = msgspec.json.decode(
        msgspec.json.encode(exact.to_json([*listed("items", items)], path="items"))
    )
    return found
