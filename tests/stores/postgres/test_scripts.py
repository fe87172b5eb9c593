"""The store in PostgreSQL answers any script of calls as the one in memory does."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest
from hypothesis import given, settings

from aiocheckpoint.stores.postgres import PostgresStore
from aiocheckpoint.testing.scripts import Script, Scripted, outcomes, scripts
from tests.contract.scripted import BOUNDS, SETTINGS, answers_of_memory
from tests.some_cases import examples
from tests.stores.postgres.server import PostgresServer


@pytest.mark.blocking
@settings(SETTINGS, max_examples=examples(6, 15))
@given(script=scripts(), max_checkpoints=BOUNDS)
def test_a_database_answers_as_memory_does(
    server: PostgresServer, script: Script, max_checkpoints: int | None
) -> None:
    """In a schema for each script."""

    async def answers() -> list[object]:
        store: Any = PostgresStore(
            server.dsn(),
            schema=f"script_{secrets.token_hex(6)}",
            record_type=Scripted,
            max_checkpoints=max_checkpoints,
        )
        return await outcomes(store, script)

    assert asyncio.run(answers()) == answers_of_memory(script, max_checkpoints)
