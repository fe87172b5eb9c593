"""Sessions as the framework has them, and lists of them, whatever is wrong with some."""

from __future__ import annotations

from datetime import datetime

from google.adk.events import Event
from google.adk.sessions import Session
from google.adk.sessions.base_session_service import ListSessionsResponse
from pydantic import PrivateAttr

from aiocheckpoint import BlobStore, CheckpointError, JsonValue
from aiocheckpoint.adapters._lists import (
    OF_ONE,
    finished,
    newest_of,
    of_unknown,
    saved_at,
    session_names,
)
from aiocheckpoint.adapters.google_adk.records import (
    AdkRecord,
    Place,
    SessionHead,
    SharedState,
    key,
    prefix,
)
from aiocheckpoint.adapters.google_adk.values import state_of


class UnreadableSession(Session):
    """
    A session that `get_session` refuses, in a list: its ids, and neither its state nor its events.

    Its `last_update_time` is when it was stored. Nothing can be appended to it.

    Attributes:
        problem: what `get_session` says of it.
    """

    _problem: str = PrivateAttr(default="")

    @property
    def problem(self) -> str:
        """What `get_session` says of it; JSON of it has no such field."""
        return self._problem

    @classmethod
    def at(cls, place: Place, last_update_time: float, error: CheckpointError) -> UnreadableSession:
        """Return what a list has of a session that cannot be read."""
        session = cls(
            app_name=place.app_name,
            user_id=place.user_id,
            id=place.id,
            last_update_time=last_update_time,
        )
        session._problem = str(error)
        session._storage_update_marker = ""  # of no revision, so that it is stale
        return session


def session_of(
    place: Place,
    head: SessionHead,
    events: list[Event],
    app: AdkRecord | None,
    user: AdkRecord | None,
) -> Session:
    """Return a session, with what it shares with others."""
    session = Session(
        app_name=place.app_name,
        user_id=place.user_id,
        id=place.id,
        state=state_of(head.state, shared_state(app), shared_state(user)),
        events=events,
        last_update_time=head.last_update_time,
    )
    session._storage_update_marker = head.revision  # noqa: SLF001 - what the framework has for this
    return session


def shared_state(record: AdkRecord | None) -> dict[str, JsonValue]:
    """Return the state of an app or a user; empty where there is none."""
    return record.state if isinstance(record, SharedState) else {}


async def listed(
    store: BlobStore[AdkRecord], app_name: str, user_id: str | None
) -> ListSessionsResponse:
    """
    Return the sessions of a user, or of all of them, without events; updated last, last.

    Raises:
        CheckpointError: of some nobody can tell the name; all others are its `listed`.
    """
    begin = prefix(app_name) if user_id is None else prefix(app_name, user_id)
    names, nameless = await session_names(store, begin)
    places = {name: place for name in names if (place := Place.named(name)) is not None}
    one_of_each = {place.user_id: place for place in places.values()}
    users = {user_id: place.user for user_id, place in one_of_each.items()}
    app = key(app_name)
    records, refused = await newest_of(store, [*places, app, *users.values()])
    sessions: list[Session] = []
    for name, place in places.items():
        head, user = records.get(name), users[place.user_id]
        error = next((refused[it] for it in (name, app, user) if it in refused), None)
        if isinstance(head, SessionHead) and error is None:
            try:
                found = session_of(place, head, [], records.get(app), records.get(user))
                sessions.append(found)
            except OF_ONE as unreadable:
                error = unreadable
        if error is not None:
            sessions += await _named(store, place, head, error)
    sessions.sort(key=lambda session: (session.last_update_time, session.user_id, session.id))
    return finished(ListSessionsResponse(sessions=sessions), nameless, of_unknown(refused.values()))


async def _named(
    store: BlobStore[AdkRecord], place: Place, head: AdkRecord | None, error: CheckpointError
) -> list[Session]:
    """Return what is told of a session that cannot be read; nothing when it is not there."""
    if isinstance(head, SessionHead):  # what it shares with others cannot be read
        return [UnreadableSession.at(place, head.last_update_time, error)]
    time: datetime | None = await saved_at(store, place.session)
    return [] if time is None else [UnreadableSession.at(place, time.timestamp(), error)]
