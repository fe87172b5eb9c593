"""What is stored of the sessions of an app, and where."""

from __future__ import annotations

from typing import Final, NamedTuple, Self, TypeAlias

from aiocheckpoint import CheckpointRecord, JsonValue
from aiocheckpoint.adapters._given import require_text
from aiocheckpoint.adapters._storage import Names
from aiocheckpoint.history import HistoryRecord

_NAMES: Final = Names("google_adk")
HEAD_ID: Final = "session"
SHARED_ID: Final = "state"


class SessionHead(HistoryRecord, tag="google_adk.SessionHead", kw_only=True):
    """
    A session as it is, its events in shared history; its id is `session`.

    Values that JSON lacks are there as `exact` writes them.

    Attributes:
        state: the state of this session alone, without that of the app and the user.
        last_update_time: the time of the newest event, in seconds since 1970.
        revision: random, another one after each event; what tells a stale writer.
    """

    state: dict[str, JsonValue]
    last_update_time: float
    revision: str


class SharedState(CheckpointRecord, tag="google_adk.SharedState", kw_only=True):
    """
    The state of an app, or of a user of it; its id is `state`.

    Attributes:
        state: without the prefixes `app:` and `user:`.
    """

    state: dict[str, JsonValue]


AdkRecord: TypeAlias = SessionHead | SharedState
"""What an open store must be able to store: `open_store(url, record_type=AdkRecord)`."""


class Place(NamedTuple):
    """
    A session of the framework, and the sessions of the store that it is kept in.

    A session of the store is named `google_adk.` and a JSON array: of app, user and id; the state
    of a user by app and user; that of an app by the app.
    """

    app_name: str
    user_id: str
    id: str

    @classmethod
    def of(cls, app_name: str, user_id: str, session_id: str) -> Self:
        """
        Return the place of a session, whose id has no space around it.

        Raises:
            InvalidIdError: one of them is no text.
        """
        given = {"app_name": app_name, "user_id": user_id, "session_id": session_id}
        for name, text in given.items():
            require_text(name, text)
        return cls(app_name, user_id, session_id.strip())

    @classmethod
    def named(cls, name: str) -> Self | None:
        """Return what a session of the store is of; None when it is of something else."""
        parts = _NAMES.parts_in(name)
        return cls(*parts) if len(parts) == len(cls._fields) else None

    @property
    def session(self) -> str:
        """Of the session itself."""
        return key(*self)

    @property
    def user(self) -> str:
        """Of the user's state."""
        return key(self.app_name, self.user_id)

    @property
    def app(self) -> str:
        """Of the app's state."""
        return key(self.app_name)


def key(*parts: str) -> str:
    """Return the name of a session of the store."""
    return _NAMES.of_parts(*parts)


def prefix(*parts: str) -> str:
    """Return how the names begin that have more parts than these."""
    return _NAMES.prefix_of_parts(*parts)
