"""The session service keeps what every adapter promises."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

pytest.importorskip("google.adk", reason="needs the extra google-adk: .ci/adapter google-adk")

from google.adk.sessions import Session
from google.adk.sessions.base_session_service import GetSessionConfig
from pydantic import ValidationError

from aiocheckpoint import CheckpointError
from aiocheckpoint.adapters.google_adk import AdkRecord, SessionService
from tests.adapters.case import OddCall
from tests.adapters.contract import AdapterContract
from tests.adapters.google_adk.test_semantics import ANN
from tests.adapters.google_adk.test_service import said, texts
from tests.adapters.lists import Told


class TestContract(AdapterContract):
    record_type = AdkRecord
    refusals = (CheckpointError, ValidationError)

    def stored_as(self, odd: Any) -> list[Any]:
        """Return what its parts make of it; one without a text has none."""
        text = odd.decode() if isinstance(odd, bytes) else odd
        return [] if text is None else [text]

    def opened(self, storage: Any) -> SessionService:
        return SessionService(storage)

    def odd_calls(self, adapter: Any, session: str) -> Iterator[OddCall]:
        one: dict[str, Any] = {**ANN, "session_id": session}
        for odd in (None, 5, ["a"], "\ud800"):
            for name in ("app_name", "user_id"):
                yield partial(adapter.create_session, **{**one, name: odd})
                yield partial(adapter.get_session, **{**one, name: odd})
                yield partial(adapter.delete_session, **{**one, name: odd})
                yield partial(adapter.get_user_state, **{**ANN, name: odd})
            yield partial(adapter.delete_session, **{**one, "session_id": odd})
            yield partial(adapter.list_sessions, app_name=odd)
        yield from (
            partial(adapter.list_sessions, app_name="app", user_id=odd) for odd in (5, ["a"])
        )
        yield from (partial(adapter.create_session, **ANN, state=odd) for odd in (5, ["a"], {5: 1}))
        for fields in ({"num_recent_events": -1}, {"num_recent_events": True}):
            config = GetSessionConfig.model_construct(**fields, after_timestamp=None)
            yield partial(adapter.get_session, **one, config=config)
        yield from (partial(adapter.get_session, **one, config=odd) for odd in (5, {"a": 1}))
        yield partial(adapter.append_event, None, said("odd"))
        yield partial(
            adapter.append_event, Session(id=session, app_name="app", user_id="ann"), None
        )

    async def add(self, adapter: SessionService, session: str, text: str) -> None:
        found = await adapter.get_session(**ANN, session_id=session)
        if found is None:
            found = await adapter.create_session(**ANN, session_id=session)
        await adapter.append_event(found, said(text))

    async def remove(self, adapter: SessionService, session: str) -> None:
        await adapter.delete_session(**ANN, session_id=session)

    async def listed(self, adapter: SessionService) -> list[str]:
        return [found.id for found in (await adapter.list_sessions(app_name="app")).sessions]

    async def list_all(self, adapter: SessionService) -> Any:
        return await adapter.list_sessions(app_name="app")

    def told_by(self, listed: Any) -> Told:
        return {found.id: getattr(found, "problem", None) for found in listed.sessions}

    async def texts(self, adapter: SessionService, session: str) -> list[str]:
        found = await adapter.get_session(**ANN, session_id=session)
        return texts(found) if found else []
