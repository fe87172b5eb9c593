"""The session service keeps what every adapter promises."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("google.adk", reason="needs the extra google-adk: .ci/adapter google-adk")

from aiocheckpoint.adapters.google_adk import AdkRecord, SessionService
from tests.adapters.contract import AdapterContract
from tests.adapters.google_adk.test_semantics import ANN
from tests.adapters.google_adk.test_service import said, texts


class TestContract(AdapterContract):
    record_type = AdkRecord

    def opened(self, storage: Any) -> SessionService:
        return SessionService(storage)

    async def add(self, adapter: SessionService, session: str, text: str) -> None:
        found = await adapter.get_session(**ANN, session_id=session)
        if found is None:
            found = await adapter.create_session(**ANN, session_id=session)
        await adapter.append_event(found, said(text))

    async def listed(self, adapter: SessionService) -> list[str]:
        return [found.id for found in (await adapter.list_sessions(app_name="app")).sessions]

    async def texts(self, adapter: SessionService, session: str) -> list[str]:
        found = await adapter.get_session(**ANN, session_id=session)
        return texts(found) if found else []
