"""Sessions of Google ADK: `python -m benchmarks.adapters.google_adk_turns`."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from google.adk.events import Event
from google.adk.sessions import BaseSessionService
from google.adk.sessions import Session as FrameworkSession
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types

from aiocheckpoint import AsyncCheckpointWriter, Durability
from aiocheckpoint.adapters.google_adk import AdkRecord, SessionService
from benchmarks.adapters.turns import TURNS, Open, Store, measure, text

OURS = "`SessionService`"
SQLITE, DATABASE = "`SqliteSessionService`", "`DatabaseSessionService` on SQLite"
KEY: Any = {"app_name": "shop", "user_id": "ann", "session_id": "s"}


def events(turn: int) -> list[Event]:
    """Return what a turn appends, a question and an answer, which a service may change."""
    said = [("user", text(turn, 400)), ("agent", text(turn + 1000, 1200))]
    return [
        Event(
            invocation_id=f"turn-{turn}",
            author=author,
            content=types.Content(role="model", parts=[types.Part(text=words)]),
        )
        for author, words in said
    ]


EVENTS = [events(turn) for turn in range(TURNS)]


class Sessions:
    """A session of a service, which the runner has in its hands for a turn."""

    def __init__(self, service: BaseSessionService) -> None:
        self._service = service
        self._session: FrameworkSession | None = None

    async def write(self, turn: int) -> None:
        """Append the events of a turn, one after the other, as the runner does."""
        if self._session is None:
            self._session = await self._service.create_session(**KEY)
        for event in EVENTS[turn]:
            await self._service.append_event(self._session, event.model_copy(deep=True))

    async def read(self) -> int:
        """Return how many events there are, all of which are read."""
        session = await self._service.get_session(**KEY)
        return 0 if session is None else len(session.events)


@asynccontextmanager
async def ours(directory: Path, durability: Durability = "journal") -> AsyncIterator[Store]:
    """Open the adapter."""
    async with AsyncCheckpointWriter[Any](
        directory, record_type=AdkRecord, durability=durability
    ) as writer:
        yield Sessions(SessionService(writer))


@asynccontextmanager
async def in_sqlite(directory: Path) -> AsyncIterator[Store]:
    """Open the framework's own for SQLite, which syncs each commit."""
    yield Sessions(SqliteSessionService(str(directory / "sessions.db")))


@asynccontextmanager
async def in_database(directory: Path) -> AsyncIterator[Store]:
    """Open the framework's own for any database, on SQLite, which syncs each commit."""
    from google.adk.sessions import DatabaseSessionService

    service = DatabaseSessionService(f"sqlite+aiosqlite:///{directory / 'sessions.db'}")
    try:
        yield Sessions(service)
    finally:
        await service.close()


def main() -> None:
    """Measure all that can run here."""
    contenders: dict[str, Open] = {SQLITE: in_sqlite}
    if importlib.util.find_spec("sqlalchemy") is None:
        sys.stderr.write("without DatabaseSessionService: install sqlalchemy[asyncio]\n")
    else:
        contenders[DATABASE] = in_database
    contenders |= {OURS: ours, f'{OURS}, `"none"`': partial(ours, durability="none")}
    whole = [event.model_dump(mode="json", exclude_none=True) for turn in EVENTS for event in turn]
    measure(contenders, len(json.dumps(whole)), beside=[(OURS, SQLITE), (OURS, DATABASE)])


if __name__ == "__main__":
    main()
