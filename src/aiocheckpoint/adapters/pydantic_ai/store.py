"""Conversations of Pydantic AI in any store of checkpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from pydantic_ai import AgentRun, Conversation
from pydantic_ai import conversation_store as framework
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
)

from aiocheckpoint import (
    CheckpointError,
    SessionId,
    SessionReader,
    Transaction,
    UnsupportedOperationError,
    new_checkpoint_id,
)
from aiocheckpoint.adapters._given import require_count, require_text
from aiocheckpoint.adapters._lists import OF_ONE
from aiocheckpoint.adapters._recent import RecentBlobs
from aiocheckpoint.adapters._steady import read_steadily
from aiocheckpoint.adapters._storage import InStorage, Storage
from aiocheckpoint.adapters.pydantic_ai.family import Family, FamilyReader, UnknownEntryError
from aiocheckpoint.adapters.pydantic_ai.listing import listed
from aiocheckpoint.adapters.pydantic_ai.records import (
    CONVERSATION_ID,
    NAMES,
    ConversationHead,
    ConversationStoreRecord,
    ForkedConversation,
    Place,
)
from aiocheckpoint.adapters.pydantic_ai.steps import messages_after
from aiocheckpoint.adapters.pydantic_ai.values import Draft, entries_of, record_of
from aiocheckpoint.kit import raise_all

_RECENT_CONVERSATIONS = 64
_MAX_REMEMBERED_ENTRIES = 10_000

_Session: TypeAlias = Transaction[ConversationStoreRecord]
_Work: TypeAlias = Callable[[_Session], Awaitable[Any]]


class ConversationStore(InStorage[ConversationStoreRecord], framework.ConversationStore):
    """
    Conversations of Pydantic AI that survive the process, the machine, a power cut.

    ```py
    store = ConversationStore("state/")
    conversation = await store.load("support-42") or Conversation(conversation_id="support-42")
    result = await agent.run("hello", conversation=conversation)
    await store.save(result)
    ```

    Any number of stores, tasks, event loops, threads and processes may use one storage, and one
    conversation of it; stores that are given the same path or URL share one store of checkpoints.
    Of saves that race for one revision one is stored, and the others raise `ConversationConflict`.

    **Entries** are stored once, however many revisions, branches and forks have them. A fork
    outlives its source. A delete removes the entries that no other conversation has.

    **Durability**: when a call returns, what it changed is durable, as the store promises: the
    record with its entries, in one commit. Where the store has no commit over several sessions, as
    a bucket, a fork takes two; a crash between them leaves no fork, but a record that takes room.

    **Cancellation**: a call ends when its outcome is known; it took place as a whole or not at all.

    **Damage** raises `CheckpointCorruptError`. It is never taken for an empty conversation.

    Args:
        storage: a directory, a URL of `open_store`, or an open store of `ConversationStoreRecord`,
            which stays open.

    Raises:
        CheckpointError: what `open_store` raises.
    """

    def __init__(self, storage: Storage[ConversationStoreRecord]) -> None:
        super().__init__(storage, ConversationStoreRecord)
        self._recent = lru_cache(_RECENT_CONVERSATIONS)(_recent_of)
        self._homes: dict[str, SessionId] = {}

    # A run that goes on

    async def save_step(
        self, conversation: Conversation, run: AgentRun[Any, Any]
    ) -> list[ConversationEntry]:
        """
        Save a conversation as far as a run of it has come; a crash then repeats one step at most.

        ```py
        async with agent.iter("hello", conversation=conversation) as run:
            async for _ in run:
                await store.save_step(conversation, run)
        ```

        After a crash, `agent.iter(conversation=await store.load(...))` goes on from there. As with
        `save`, a capability that trims or rewrites what the model is sent does not change what is
        stored.

        Args:
            conversation: what was given to `agent.iter`; it becomes what the run has come to, with
                the answers of tools that the model has not seen yet, and is not saved otherwise.
            run: between two of its nodes, or at its end.

        Returns:
            the entries that are new.

        Raises:
            ConversationConflict: somebody else has saved or deleted the conversation.
            CheckpointError: as `write_record`.
        """
        conversation.messages = messages_after(conversation.messages, run)
        conversation.usage = replace(run.usage)
        conversation.deferred_tool_requests = (
            None if run.result is None else run.result.conversation.deferred_tool_requests
        )
        return await self.save(conversation)

    # Records

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """
        Return a conversation without its entries; None when there is none.

        Args:
            conversation_id: any text.

        Raises:
            CheckpointCorruptError: what is stored is damaged.
            CheckpointError: what `load` of the store raises.

        Cost: one load; of a fork two.
        """
        found = await self._find(conversation_id)
        if found.head is None:
            return None
        self._remember(found.place.session_id, found.head.tips())
        return record_of(found.head)

    async def read_records(
        self, *, scope: str | None = None, limit: int | None = None
    ) -> Sequence[ConversationRecord]:
        """
        Return the conversations without their entries, the one saved last first.

        One that `load` refuses, as its record is damaged, is there too, as an
        `UnreadableConversation`. Nobody can tell its scope: it may be of another tenant, so a list
        by scope has it in the log alone, as a warning.

        Args:
            scope: only those of this scope.
            limit: at most so many.

        Raises:
            InvalidArgumentError: the limit is no number, or below 0.
            InvalidIdError: the scope is no text.
            CheckpointError: nobody can tell the name of a conversation, or what a damaged part of
                the journal held, or the system refuses to read one whose scope is asked for;
                `listed` of the error has all others. Or something is wrong with all, as a server
                that is away.

        Cost: one load of all; one more of each conversation that has forks.
        """
        require_count("limit", limit)
        if scope is not None:
            require_text("scope", scope)
        return await listed(self._store, scope, limit)

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """
        Store a conversation and its new entries, all or nothing.

        Args:
            record: may be changed as soon as this was called, and so may the entries.
            new_entries: what its history and its branches have beyond what is stored.
            expected_revision: of the record that it replaces; None: there is none.

        Raises:
            ConversationConflict: another revision is stored, or a history of it has an entry that
                is neither stored nor given; nothing was changed.
            CheckpointEncodeError: a value that would not come back as it is; names its path.
            CheckpointError: what `update` of the store raises.

        Cost: one update, of what is added. A history that goes on from an entry that is no end of
            the conversation's histories is read as a whole.
        """
        draft = Draft.of(record, new_entries)
        while True:
            try:
                home = await self._write(draft, expected_revision, record.forked_from)
            except UnknownEntryError as unknown:
                line = await self._located(unknown.entry_id)
                if line is None:
                    raise ConversationConflict(draft.conversation_id) from None
                draft = draft.beside(line.entries)
            else:
                self._remember(home, draft.tips)
                return

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """
        Remove a conversation, and the entries that no other conversation has.

        Args:
            conversation_id: the conversation.
            expected_revision: of the record that is stored.

        Raises:
            ConversationConflict: another revision is stored, or none; nothing was changed.
            CheckpointError: what `update` of the store raises.
        """
        found = await self._find(conversation_id)
        place = found.place

        async def delete_head(session: _Session) -> None:
            head = await session.load(place.checkpoint_id)
            if not isinstance(head, ConversationHead) or head.revision != expected_revision:
                raise ConversationConflict(conversation_id)
            session.delete(place.checkpoint_id)

        async def delete_fork(session: _Session) -> None:
            if await session.load(CONVERSATION_ID) == found.fork:
                session.delete(CONVERSATION_ID)

        if found.fork is None:
            await self._store.update(place.session_id, delete_head)
        else:
            name = NAMES.of(conversation_id)
            await self._update_both(place.session_id, delete_head, name, delete_fork)

    # Entries

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """
        Return an entry.

        Args:
            entry_id: of whatever conversation.

        Raises:
            LookupError: no conversation has it.
            InvalidIdError: it is no text.
            CheckpointCorruptError: what is stored is damaged.
            CheckpointError: what `read` of the store raises.

        Cost: as `read_history`.
        """
        require_text("entry_id", entry_id)
        (entry,) = await self.read_history(entry_id, limit=1)
        return entry

    async def read_history(
        self, head_id: str | None, *, limit: int | None = None
    ) -> list[ConversationEntry]:
        """
        Return the entries up to one of them, the first one first.

        Args:
            head_id: the last of them; None: there are none.
            limit: only so many of the last.

        Raises:
            InvalidArgumentError: the limit is no number, or below 0.
            InvalidIdError: the entry's id is no text.
            LookupError: no conversation has the entry.
            CheckpointCorruptError: what is stored is damaged.
            CheckpointError: what `read` of the store raises.

        Cost: one read, in pieces of 64 KiB, of those alone that hold what is wanted. Of an entry
            whose conversation this store has not seen, all conversations are searched.
        """
        require_count("limit", limit)
        if head_id is not None:
            require_text("head_id", head_id)
        if head_id is None or limit == 0:
            return []
        line = await self._located(head_id, limit)
        if line is None:
            raise LookupError(f"no conversation in {self._store!r} has the entry {head_id!r}")
        return line.entries

    # How

    async def _find(self, conversation_id: str) -> _Found:
        name = NAMES.of(conversation_id)
        record = await self._store.load(name, CONVERSATION_ID)
        if isinstance(record, ForkedConversation):
            place = Place(record.home, record.head)
            head = await self._store.load(*place)
            return _Found(place, head if isinstance(head, ConversationHead) else None, record)
        place = Place(name, CONVERSATION_ID)
        return _Found(place, record if isinstance(record, ConversationHead) else None)

    async def _write(
        self, draft: Draft, expected_revision: str | None, forked_from: str | None
    ) -> SessionId:
        """Write a conversation; return the session that it is in."""
        found = await self._find(draft.conversation_id)
        if (None if found.head is None else found.head.revision) != expected_revision:
            raise ConversationConflict(draft.conversation_id)
        if expected_revision is None:
            return await self._create(draft, found.fork, await self._home(draft, forked_from))
        place = found.place

        async def replace(session: _Session) -> None:
            family = self._family(session, place)
            stored = await family.head(place.checkpoint_id)
            if stored is None or stored.revision != expected_revision:
                raise ConversationConflict(draft.conversation_id)
            await family.save(place.checkpoint_id, draft, stored)

        await self._store.update(place.session_id, replace)
        return place.session_id

    async def _create(
        self, draft: Draft, dangling: ForkedConversation | None, home: SessionId
    ) -> SessionId:
        """Write a conversation that is not there, at most as a fork whose head is gone."""
        name = NAMES.of(draft.conversation_id)
        is_fork = home != name
        place = Place(home, new_checkpoint_id() if is_fork else CONVERSATION_ID)

        async def require_none(session: _Session) -> None:
            if await session.load(CONVERSATION_ID) != dangling:
                raise ConversationConflict(draft.conversation_id)

        async def save_head(session: _Session) -> None:
            if not is_fork:
                await require_none(session)
            await self._family(session, place).save(place.checkpoint_id, draft)

        async def save_fork(session: _Session) -> None:
            await require_none(session)
            session.save(
                ForkedConversation(
                    session_id=name,
                    checkpoint_id=CONVERSATION_ID,
                    home=place.session_id,
                    head=place.checkpoint_id,
                )
            )

        if not is_fork:
            await self._store.update(home, save_head)
            return home
        try:
            await self._update_both(home, save_head, name, save_fork)
        except ConversationConflict:
            await self._store.delete(*place)  # there where two commits were needed
            raise
        return home

    async def _update_both(
        self, home: SessionId, change_home: _Work, name: SessionId, change_name: _Work
    ) -> None:
        """Change a session with shared entries, and that of a fork's name, which follows it."""

        async def together(sessions: Mapping[SessionId, _Session]) -> None:
            await change_home(sessions[home])
            await change_name(sessions[name])

        try:
            await self._store.update_many([home, name], together)
        except UnsupportedOperationError:
            await self._store.update(home, change_home)
            await self._store.update(name, change_name)

    async def _home(self, draft: Draft, forked_from: str | None) -> SessionId:
        """Return the session that has the entries that a new conversation goes on from."""
        head_id = draft.record["head_id"]
        before = None if head_id is None else draft.line(head_id)[0]
        if before is None:
            return NAMES.of(draft.conversation_id)
        if before not in self._homes and forked_from is not None:
            self._remember((await self._find(forked_from)).place.session_id, [before])
        found = await self._located(before, 1)
        if found is None:
            raise UnknownEntryError(before)
        return found.home

    async def _located(self, entry_id: str, limit: int | None = None) -> _Line | None:
        """Return the entries up to one of them, wherever it is; None when it is nowhere."""
        remembered = self._homes.get(entry_id)
        if remembered is not None:
            line = await self._line_in(remembered, entry_id, limit)
            if line is not None:
                return line
        refused: list[CheckpointError] = []
        async for home in self._sessions():
            try:
                line = None if home == remembered else await self._line_in(home, entry_id, limit)
            except OF_ONE as error:  # another one may have it
                refused.append(error)
            else:
                if line is not None:
                    return line
        raise_all(refused)
        return None

    async def _line_in(self, home: SessionId, entry_id: str, limit: int | None) -> _Line | None:
        async def read(
            session: SessionReader[ConversationStoreRecord],
        ) -> list[ConversationEntry]:
            family = FamilyReader(session, self._recent(Place(home, "")))
            history = await family.history(entry_id)
            count = len(history) if limit is None else limit + 1
            return entries_of(await history.last(count, exact=True), home)

        try:
            entries = await read_steadily(self._store, home, read)
        except UnknownEntryError:
            return None
        self._remember(home, [entry.id for entry in entries])
        return _Line(home, entries if limit is None else entries[-limit:])

    def _sessions(self) -> AsyncIterator[SessionId]:
        return self._store.sessions(prefix=NAMES.of(""))

    def _family(self, session: _Session, place: Place) -> Family:
        return Family(session, self._recent(place))

    def _remember(self, home: SessionId, entry_ids: Iterable[str]) -> None:
        """Know where entries are, which the framework reads without telling it."""
        if len(self._homes) > _MAX_REMEMBERED_ENTRIES:
            self._homes = {}
        self._homes.update(dict.fromkeys(entry_ids, home))


class _Found(NamedTuple):
    """
    Where a conversation is, or would be.

    Attributes:
        place: of its head.
        head: None when there is none.
        fork: what says that it is elsewhere; it may be left where the head is gone.
    """

    place: Place
    head: ConversationHead | None
    fork: ForkedConversation | None = None


class _Line(NamedTuple):
    """
    Entries that follow one another.

    Attributes:
        home: the session that they are in.
        entries: the first one first.
    """

    home: SessionId
    entries: list[ConversationEntry]


def _recent_of(place: Place) -> RecentBlobs:  # noqa: ARG001 - what it is remembered by
    return RecentBlobs()
