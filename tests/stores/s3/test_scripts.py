"""The store in a bucket answers any script of calls as the one in memory does."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings

from aiocheckpoint.stores.s3 import S3Store
from aiocheckpoint.testing.scripts import Script, Scripted, outcomes, scripts
from tests.contract.scripted import BOUNDS, SETTINGS, answers_of_memory
from tests.some_cases import examples
from tests.stores.s3.fake_s3 import FakeS3

pytestmark = pytest.mark.blocking


@pytest.fixture(name="server", scope="module")
def _server() -> Iterator[FakeS3]:
    fake = FakeS3().start()
    yield fake
    fake.stop()


@settings(SETTINGS, max_examples=examples(10, 30))
@given(script=scripts(), max_checkpoints=BOUNDS)
def test_a_bucket_answers_as_memory_does(
    server: FakeS3, script: Script, max_checkpoints: int | None
) -> None:
    """In a prefix for each script."""

    async def answers() -> list[object]:
        store: Any = S3Store(
            f"s3://bucket/{secrets.token_hex(6)}",
            endpoint_url=server.url,
            record_type=Scripted,
            max_checkpoints=max_checkpoints,
        )
        return await outcomes(store, script)

    assert asyncio.run(answers()) == answers_of_memory(script, max_checkpoints)
