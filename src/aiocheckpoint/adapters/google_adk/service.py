"""Sessions of Google ADK in any store of checkpoints."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeAlias, TypeVar
from weakref import WeakValueDictionary

from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events import Event
from google.adk.sessions import BaseSessionService, Session, State
from google.adk.sessions.base_session_service import GetSessionConfig, ListSessionsResponse

from aiocheckpoint import JsonValue, SessionReader, Transaction, UnsupportedOperationError
from aiocheckpoint.adapters._lists import require_read
from aiocheckpoint.adapters._recent import RecentBlobs
from aiocheckpoint.adapters._steady import read_steadily
from aiocheckpoint.adapters._storage import InStorage, Storage
from aiocheckpoint.adapters.google_adk.listing import listed, session_of, shared_state
from aiocheckpoint.adapters.google_adk.records import (
    HEAD_ID,
    SHARED_ID,
    AdkRecord,
    Place,
    SessionHead,
    SharedState,
)
from aiocheckpoint.adapters.google_adk.values import (
    Delta,
    delta_of,
    event_json,
    events_of,
    prefixed,
    state_of,
)
from aiocheckpoint.history import History, load_history
from aiocheckpoint.kit import require_instance

_RECENT_SESSIONS = 64

ResultT = TypeVar("ResultT")
_Work: TypeAlias = Callable[[Transaction[AdkRecord]], Awaitable[ResultT]]


class SessionService(InStorage[AdkRecord], BaseSessionService):
    """
    Sessions of Google ADK that survive the process, the machine, a power cut.

    ```py
    service = SessionService("state/")
    runner = Runner(app_name="shop", agent=agent, session_service=service)
    ```

    Any number of services, tasks, event loops, threads and processes may use one storage, and one
    session of it; services that are given the same path or URL share one store.

    **Durability**: when a call returns, what it changed is durable, as the store promises: the
    event, with the state of the session, the user and the app, in one commit. Where the store has
    no commit over several sessions, as a bucket, the state of app and user is stored just before.

    **Cancellation**: a call ends when its outcome is known; it took place as a whole or not at all.

    **Damage** raises `CheckpointCorruptError`. It is never taken for a session without events.

    Args:
        storage: a directory, a URL of `open_store`, or an open store of `AdkRecord`, which stays
            open.

    Raises:
        CheckpointError: what `open_store` raises.
    """

    def __init__(self, storage: Storage[AdkRecord]) -> None:
        super().__init__(storage, AdkRecord)
        self._recent = lru_cache(_RECENT_SESSIONS)(_recent_of)
        self._turns: WeakValueDictionary[tuple[int, Place], asyncio.Lock] = WeakValueDictionary()

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """
        Store a new session.

        Args:
            app_name: any text.
            user_id: any text.
            state: to begin with; with keys of `app:` and `user:`, which others see as well.
            session_id: any text, without the space around it; a random one if it is left out.

        Raises:
            AlreadyExistsError: there is one of this id; nothing was changed.
            InvalidArgumentError: the state is no dict with texts as its keys.
            CheckpointEncodeError: a value that would not come back as it is; names its path.
            CheckpointError: what `update_many` of the store raises.
        """
        place = Place.of(app_name, user_id, "" if session_id is None else session_id)
        if not place.id:
            place = place._replace(id=str(uuid.uuid4()))
        delta = delta_of({} if state is None else state)
        head = await self._create(place, delta, datetime.now(UTC).timestamp(), [])
        return await self._whole(place, head, [])

    async def import_session(self, session: Session) -> None:
        """
        Store a session of another service as it is: its events, its state and its time.

        Keys of `app:` and `user:` in its state are set for the app and the user.

        Args:
            session: as another service returned it, with all of its events.

        Raises:
            InvalidArgumentError: it is no session, or an `UnreadableSession`.
            AlreadyExistsError: there is one of this id; nothing was changed.
            CheckpointEncodeError: a value that would not come back as it is; names its path.
            CheckpointError: what `update_many` of the store raises.
        """
        require_instance("session", session, Session)
        require_read("session", session)
        place = Place.of(session.app_name, session.user_id, session.id)
        items = [*map(event_json, session.events)]
        await self._create(place, delta_of(session.state), session.last_update_time, items)

    async def _create(
        self, place: Place, delta: Delta, last_update_time: float, events: list[JsonValue]
    ) -> SessionHead:
        """Store a session that is not there yet."""

        async def require_none(session: Transaction[AdkRecord]) -> None:
            if await session.load(HEAD_ID) is not None:
                raise AlreadyExistsError(f"Session with id {place.id} already exists.")

        async def create(session: Transaction[AdkRecord]) -> SessionHead:
            await require_none(session)
            head = SessionHead(
                session_id=place.session,
                checkpoint_id=HEAD_ID,
                state=delta.session,
                last_update_time=last_update_time,
                revision=_new_revision(),
            )
            history = (await self._history(place, session, head)).extend(events)
            head = history.into(head)
            session.save(head, blobs=history.new_blobs)
            return head

        return await self._commit(place, delta, require_none, create)

    async def get_session(
        self,
        *,
        app_name: str,
        user_id: str,
        session_id: str,
        config: GetSessionConfig | None = None,
    ) -> Session | None:
        """
        Return a session; None when there is none.

        Args:
            app_name: as it was created.
            user_id: as it was created.
            session_id: as it was created.
            config: which of its events; of the newest alone the others are not read.

        Raises:
            InvalidArgumentError: the config is none, or has a number below 0.
            CheckpointCorruptError: what is stored is damaged.
            CheckpointError: what `read` and `load_newest` of the store raise.

        Cost: one read of the session, whose events are made where the store reads; one of what it
            shares with others.
        """
        place = Place.of(app_name, user_id, session_id)
        if config is not None:
            require_instance("config", config, GetSessionConfig)

        async def read(session: SessionReader[AdkRecord]) -> _Read | None:
            head = await session.load(HEAD_ID)
            if not isinstance(head, SessionHead):
                return None
            history = await self._history(place, session, head)
            count = None if config is None else config.num_recent_events
            last = len(history) if count is None else count
            make = partial(events_of, location=place.session)
            return _Read(head, await history.last(last, exact=True, make=make))

        found = await read_steadily(self._store, place.session, read)
        if found is None:
            return None
        head, events = found
        if config is not None and config.after_timestamp is not None:
            events = [event for event in events if event.timestamp >= config.after_timestamp]
        return await self._whole(place, head, events)

    async def list_sessions(
        self, *, app_name: str, user_id: str | None = None
    ) -> ListSessionsResponse:
        """
        Return the sessions of a user, or of all of them, without events; updated last, last.

        One that `get_session` refuses, as it is damaged, is there too, as an `UnreadableSession`.

        Raises:
            CheckpointError: nobody can tell the name of a session, or what a damaged part of the
                journal held; `listed` of the error is the response with all others. Or something
                is wrong with all, as a server that is away.

        Cost: a list of the names, and one load of the newest record of each.
        """
        return await listed(self._store, app_name, user_id)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """
        Remove a session, if there is one; the state of the app and the user stays.

        Raises:
            CheckpointError: what `delete_session` of the store raises.
        """
        await self._store.delete_session(Place.of(app_name, user_id, session_id).session)

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """
        Return the state of a user, keys without `user:`.

        Raises:
            CheckpointError: what `load` of the store raises.
        """
        record = await self._store.load(Place.of(app_name, user_id, "").user)
        return state_of(shared_state(record), {}, {})

    async def get_app_state(self, *, app_name: str) -> dict[str, Any]:
        """
        Return the state of an app, keys without `app:`.

        Raises:
            CheckpointError: what `load` of the store raises.
        """
        record = await self._store.load(Place.of(app_name, "", "").app)
        return state_of(shared_state(record), {}, {})

    async def import_user_state(
        self, *, app_name: str, user_id: str, state: dict[str, Any]
    ) -> None:
        """
        Set what another service has as the state of a user, who need not have a session.

        Args:
            app_name: any text.
            user_id: any text.
            state: keys without `user:`; those that are there and not in it stay.

        Raises:
            CheckpointEncodeError: a value that would not come back as it is; names its path.
            CheckpointError: what `update` of the store raises.
        """
        delta = delta_of(prefixed(State.USER_PREFIX, state)).user
        place = Place.of(app_name, user_id, "")
        await self._store.update(place.user, partial(_share, state=delta))

    async def import_app_state(self, *, app_name: str, state: dict[str, Any]) -> None:
        """
        Set what another service has as the state of an app, which need not have a session.

        Args:
            app_name: any text.
            state: keys without `app:`; those that are there and not in it stay.

        Raises:
            CheckpointEncodeError: a value that would not come back as it is; names its path.
            CheckpointError: what `update` of the store raises.
        """
        delta = delta_of(prefixed(State.APP_PREFIX, state)).app
        place = Place.of(app_name, "", "")
        await self._store.update(place.app, partial(_share, state=delta))

    async def append_event(self, session: Session, event: Event) -> Event:
        """
        Store an event and the state after it, then add both to the session that was given.

        Args:
            session: as it was returned by this service, or another one of the same storage.
            event: as it is now; one that is partial is not stored.

        Raises:
            InvalidArgumentError: it is no session, or no event.
            StaleSessionError: somebody else has added an event since the session was read, or it
                was deleted and created anew; nothing was changed.
            SessionNotFoundError: it was deleted; nothing was changed.
            CheckpointEncodeError: a value that would not come back as it is; names its path.
            CheckpointError: what `update_many` of the store raises.

        Cost: one update, of what is added and the state of the session.
        """
        require_instance("session", session, Session)
        require_instance("event", event, Event)
        if event.partial:
            return await super().append_event(session, event)
        place = Place.of(session.app_name, session.user_id, session.id)
        delta, item = delta_of(event.actions.state_delta), event_json(event)
        timestamp = event.timestamp
        async with self._turn(place):
            known = _Known(session._storage_update_marker, session.last_update_time)  # noqa: SLF001 - what the framework has for this

            async def current(transaction: Transaction[AdkRecord]) -> SessionHead:
                return _required(await transaction.load(HEAD_ID), place, known)

            async def append(transaction: Transaction[AdkRecord]) -> SessionHead:
                head = await current(transaction)
                history = (await self._history(place, transaction, head)).append(item)
                grown = history.into(
                    SessionHead(
                        session_id=place.session,
                        checkpoint_id=HEAD_ID,
                        state={**head.state, **delta.session},
                        last_update_time=timestamp,
                        revision=_new_revision(),
                    )
                )
                transaction.save(grown, blobs=history.new_blobs)
                self._recent(place).keep(grown.blob_digests, history.new_blobs)
                return grown

            head = await self._commit(place, delta, current, append)
            session._storage_update_marker = head.revision  # noqa: SLF001 - as above
            session.last_update_time = timestamp
            return await super().append_event(session, event)

    def _turn(self, place: Place) -> asyncio.Lock:
        """Return what lets those wait that share a session, as parallel agents do."""
        loop = id(asyncio.get_running_loop())  # a lock is of one loop
        return self._turns.setdefault((loop, place), asyncio.Lock())

    async def _commit(
        self, place: Place, delta: Delta, check: _Work[Any], work: _Work[ResultT]
    ) -> ResultT:
        """Change a session, and what it shares with others, in one commit where there is one."""
        states = {place.app: delta.app, place.user: delta.user}
        shared = {name: state for name, state in states.items() if state}

        async def together(transactions: Mapping[str, Transaction[AdkRecord]]) -> ResultT:
            result = await work(transactions[place.session])
            for name, state in shared.items():
                await _share(transactions[name], state)
            return result

        if not shared:
            return await self._store.update(place.session, work)
        try:
            return await self._store.update_many([place.session, *shared], together)
        except UnsupportedOperationError:
            await self._store.update(place.session, check)
            for name, state in shared.items():
                await self._store.update(name, partial(_share, state=state))
            return await self._store.update(place.session, work)

    async def _history(
        self, place: Place, session: SessionReader[AdkRecord], head: SessionHead
    ) -> History:
        return await load_history(self._recent(place).or_else(session.load_blobs), head)

    async def _whole(self, place: Place, head: SessionHead, events: list[Event]) -> Session:
        """Return a session with what it shares with others."""
        app, user = place.app, place.user
        shared = await self._store.load_newest([app, user])
        return session_of(place, head, events, shared.get(app), shared.get(user))


class _Read(NamedTuple):
    """A session as it is stored, without what it shares with others."""

    head: SessionHead
    events: list[Event]


class _Known(NamedTuple):
    """What a writer knows of a session; a copy of one may have lost the revision."""

    revision: str | None
    last_update_time: float


def _required(head: AdkRecord | None, place: Place, known: _Known) -> SessionHead:
    """Return the session as it is stored, if it is the one that a writer knows."""
    if not isinstance(head, SessionHead):
        raise SessionNotFoundError(f"Session {place.id} not found.")
    is_current = (
        head.last_update_time == known.last_update_time
        if known.revision is None
        else head.revision == known.revision
    )
    if not is_current:
        raise StaleSessionError(
            f"Session {place.id} has been modified in storage since it was loaded; get it again."
        )
    return head


async def _share(transaction: Transaction[AdkRecord], state: dict[str, JsonValue]) -> None:
    """Stage the change of a state of an app or a user."""
    stored = shared_state(await transaction.load(SHARED_ID))
    transaction.save(
        SharedState(
            session_id=transaction.session_id, checkpoint_id=SHARED_ID, state={**stored, **state}
        )
    )


def _recent_of(place: Place) -> RecentBlobs:  # noqa: ARG001 - what it is remembered by
    return RecentBlobs()


def _new_revision() -> str:
    return uuid.uuid4().hex
