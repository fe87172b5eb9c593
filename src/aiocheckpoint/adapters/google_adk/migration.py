"""Moving sessions here from another session service of Google ADK, each compared afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.events import Event
from google.adk.sessions import BaseSessionService, Session
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.adk.sessions.state import State

from aiocheckpoint import JsonValue
from aiocheckpoint.adapters._moving import ADVICE, Copied, Move, Progress, RefusedError
from aiocheckpoint.adapters._sources import (
    copied_database,
    parsed_object,
    reading_source,
    require_names,
    sqlite_rows,
)
from aiocheckpoint.adapters._storage import Storage
from aiocheckpoint.adapters.google_adk.records import AdkRecord
from aiocheckpoint.adapters.google_adk.service import SessionService
from aiocheckpoint.adapters.google_adk.values import delta_of, event_json, prefixed

_OTHER_STATE = f"the state of its user, or of its app, is another one there already; {ADVICE}"
_STATE = "the state of"
_APPS_SQL = "SELECT DISTINCT app_name FROM sessions ORDER BY app_name"
_SESSIONS_SQL = """
    SELECT app_name, user_id, id FROM sessions WHERE app_name = ? ORDER BY update_time, user_id, id
"""
_EVENTS_SQL = """
    SELECT id, event_data FROM events WHERE app_name = ? AND user_id = ? AND session_id = ?
"""
_STATES_SQL = """
    SELECT 1, app_name, '', state FROM app_states AS own
    WHERE state IS NOT '{}'
    AND NOT EXISTS (SELECT 1 FROM sessions WHERE app_name = own.app_name)
    UNION ALL
    SELECT 0, app_name, user_id, state FROM user_states AS own
    WHERE state IS NOT '{}' AND NOT EXISTS (
        SELECT 1 FROM sessions WHERE app_name = own.app_name AND user_id = own.user_id
    )
"""


async def copy_sessions(
    source: BaseSessionService,
    app_names: Iterable[str],
    storage: Storage[AdkRecord],
    *,
    progress: Progress | None = None,
) -> Copied:
    """
    Copy all sessions of some apps from another session service, each read back and compared.

    It may be run again: a session that is there already, and the same, is left as it is. Another
    one of its name is refused before anything of it is written, since the application may have gone
    on with it; all others are copied. Nobody may use the source meanwhile; it is not changed. The
    state of an app and of its users comes with their sessions: that of a user without a session is
    not copied, for the framework lists none; see `SessionService.import_user_state`.

    Args:
        source: a service of the framework, as `DatabaseSessionService(url)`.
        app_names: the apps; the framework cannot list them.
        storage: as of `SessionService`.
        progress: called after each session.

    Returns:
        how many sessions and events were copied, or were there.

    Raises:
        CopyMismatchError: once all else is copied: of some sessions there is another one of this
            name already, or another state of its user or app, it cannot be read or stored, it went
            away meanwhile, or it reads differently afterwards; or the sessions of an app cannot be
            listed, as one of them is damaged.
        CheckpointError: what else the calls of `SessionService` raise, as of a full disk.

    Cost: one read of the source, one update and two reads a session, and one listing an app.
    """
    return await _copy_all(_Source(source), app_names, (), storage, progress)


async def _copy_all(
    source: _Source,
    app_names: Iterable[str],
    states: Iterable[_SharedState],
    storage: Storage[AdkRecord],
    progress: Progress | None,
) -> Copied:
    """Copy all sessions of some apps, and states that belong to none."""
    async with SessionService(storage) as target:
        with Move(progress) as move:
            for state in states:
                with move.part(state.name, _STATE) as part:
                    part.sessions = 0
                    await _copy_state(target, state)
            for app_name in app_names:
                names: list[_Name] = []
                app: dict[str, JsonValue] | None = None
                with move.part(app_name, "app") as part:
                    part.sessions = 0
                    names = await source.names(app_name)
                if names:
                    with move.part(app_name, _STATE) as part:
                        part.sessions = 0
                        found = await target.get_app_state(app_name=app_name)
                        app = delta_of(prefixed(State.APP_PREFIX, found)).app
                if app is None:
                    continue
                for name in names:
                    with move.part(str(name)) as part:
                        part.entries = await _copy(source, target, name, app)
    return move.copied


async def copy_database(
    database: str | Path, storage: Storage[AdkRecord], *, progress: Progress | None = None
) -> Copied:
    """
    Copy all that the database of a `SqliteSessionService` has, each session read back and compared.

    Users and apps without a session come with their state, too. The file is not changed: a copy is
    read, in the directory for temporary files.

    Args:
        database: the file.
        storage: as of `SessionService`.
        progress: called after each session.

    Returns:
        how many sessions and events were copied, or were there.

    Raises:
        sqlite3.Error: it is no such database.
        RuntimeError: it is of an older version; says how the framework converts it.
        CopyMismatchError: as `copy_sessions`; what is damaged in the file stops no other session.
        CheckpointError: what the calls of `SessionService` raise.

    Cost: as `copy_sessions`.
    """
    async with copied_database(database) as copy:  # for the framework makes tables that it lacks
        app_names = [name for (name,) in await asyncio.to_thread(sqlite_rows, copy, _APPS_SQL)]
        try:
            service = await asyncio.to_thread(SqliteSessionService, str(copy))
        except RuntimeError as error:  # says what to do with the file
            raise RuntimeError(str(error).replace(str(copy), str(database))) from error
        try:
            rows = await asyncio.to_thread(sqlite_rows, copy, _STATES_SQL)
            states = [_SharedState(*row) for row in rows]
            source = _Source(service, copy)
            return await _copy_all(source, app_names, states, storage, progress)
        finally:
            await service.close()


class _Name(NamedTuple):
    """The name of a session, as the source has it."""

    app_name: str
    user_id: str
    session_id: str

    def __str__(self) -> str:
        return _joined(*self)


def _joined(*names: object) -> str:
    """Return names as errors show them; one that is no text by what it is."""
    return "/".join(name if isinstance(name, str) else repr(name) for name in names)


class _Source(NamedTuple):
    """
    Where sessions are.

    Attributes:
        service: reads them.
        database: its file, where that is known: to list a session that is damaged ends the list.
    """

    service: BaseSessionService
    database: str | Path | None = None

    async def names(self, app_name: str) -> list[_Name]:
        """Return the names of the sessions of an app."""
        require_names(app_name)
        with reading_source("the list of its sessions"):
            if self.database is not None:
                rows = await asyncio.to_thread(sqlite_rows, self.database, _SESSIONS_SQL, app_name)
                return [_Name(*row) for row in rows]
            listed = await self.service.list_sessions(app_name=app_name)
        return [_Name(it.app_name, it.user_id, it.id) for it in listed.sessions]

    async def read(self, name: _Name) -> Session:
        """Return a session."""
        require_names(*name)
        try:
            with reading_source("it"):
                session = await self.service.get_session(**name._asdict())
        except RefusedError:
            await asyncio.to_thread(self._require_events, name)
            raise
        if session is None:
            raise RefusedError("it went away meanwhile; copy when nobody writes")
        return session

    def _require_events(self, name: _Name) -> None:
        """Refuse a session for the event that is damaged, if one is."""
        if self.database is not None:
            for event_id, text in sqlite_rows(self.database, _EVENTS_SQL, *name):
                with reading_source(f"event_data of event {event_id!r}"):
                    Event.model_validate_json(text)


class _SharedState(NamedTuple):
    """The state of a user without a session, or of an app, as it is stored."""

    is_app: int
    app_name: str
    user_id: str
    text: str

    @property
    def name(self) -> str:
        """As errors name it."""
        return _joined(self.app_name) if self.is_app else _joined(self.app_name, self.user_id)


async def _copy_state(target: SessionService, shared: _SharedState) -> None:
    is_app, app_name, user_id, text = shared
    require_names(app_name, user_id)
    state = parsed_object(text, "its state")
    if is_app:
        found = await target.get_app_state(app_name=app_name)
        if not found:
            await target.import_app_state(app_name=app_name, state=state)
    else:
        found = await target.get_user_state(app_name=app_name, user_id=user_id)
        if not found:
            await target.import_user_state(app_name=app_name, user_id=user_id, state=state)
    if found and _plain(found) != _plain(state):
        raise RefusedError(f"another state is there already; {ADVICE}")


def _plain(state: dict[str, Any]) -> dict[str, JsonValue]:
    """Return a state as it is stored, which may be compared whatever its values are."""
    return delta_of(prefixed(State.USER_PREFIX, state)).user


async def _copy(
    source: _Source, target: SessionService, name: _Name, app: dict[str, JsonValue]
) -> int:
    """
    Copy one session, and return how many events it has.

    Args:
        source: where it is.
        target: where it shall be.
        name: of the session.
        app: the state of its app that was there before.
    """
    session = await source.read(name)
    names: dict[str, Any] = name._asdict()
    found = await target.get_session(**names)
    if found is None:
        await _require_same_states(target, session, app)
        try:
            await target.import_session(session)
        except AlreadyExistsError as error:
            raise RefusedError("somebody else uses the storage; try again") from error
        found = await target.get_session(**names)
    elif _content(found) != _content(session):
        is_other = _own(found) != _own(session)
        raise RefusedError(f"another one is there already; {ADVICE}" if is_other else _OTHER_STATE)
    if found is None or _content(found) != _content(session):
        raise RefusedError("it is not the same after the copy")
    return len(session.events)


async def _require_same_states(
    target: SessionService, session: Session, app: dict[str, JsonValue]
) -> None:
    """Refuse a session with which the state of its user or app might be set back."""
    names = {"app_name": session.app_name, "user_id": session.user_id}
    user = await target.get_user_state(**names)
    wanted = delta_of(session.state)
    user_there = _plain(user)
    if (user_there and user_there != wanted.user) or (app and app != wanted.app):
        raise RefusedError(_OTHER_STATE)


def _content(session: Session) -> tuple[Any, ...]:
    """Return all of a session as it is stored, which may be compared whatever its values are."""
    return delta_of(session.state), _own(session)


def _own(session: Session) -> tuple[Any, ...]:
    """Return what a session shares with no other."""
    events = [*map(event_json, session.events)]
    return delta_of(session.state).session, events, session.last_update_time
