"""
A process that adds events to one session: `python -m ... STORAGE NAME`; it reads again when stale.

Each event also counts in the state of the session, the user and the app. Each line is the number of
an event that was added.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from typing import Any

from google.adk.errors import StaleSessionError
from google.adk.events import Event, EventActions
from google.adk.sessions import Session

from aiocheckpoint.adapters.google_adk import SessionService

SHARED: Any = {"app_name": "app", "user_id": "user", "session_id": "shared"}


def counted(session: Session, name: str, number: int) -> Event:
    """Return the next event of a name, which counts one up."""
    delta = {key: session.state.get(key, 0) + 1 for key in ("count", "user:count", "app:count")}
    return Event(author=name, invocation_id=str(number), actions=EventActions(state_delta=delta))


async def added(service: SessionService, name: str, number: int) -> bool:
    """Read the session and add an event, as a turn does; False when somebody was faster."""
    session = await service.get_session(**SHARED)
    assert session is not None
    try:
        await service.append_event(session, counted(session, name, number))
    except StaleSessionError:
        return False
    return True


async def main(storage: str, name: str) -> None:
    """Add events until the process is killed."""
    async with SessionService(storage) as service:
        for number in itertools.count():
            while not await added(service, name, number):
                pass
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
