"""The store in a bucket keeps the contract of all stores, on the server that is made for it."""

from __future__ import annotations

import asyncio
import secrets

import pytest
from hypothesis import settings

from aiocheckpoint import CheckpointData, CheckpointStore
from aiocheckpoint.stores.s3 import S3Store
from aiocheckpoint.testing.machine import StoreMachine
from tests.stores.s3.contract import Server, ServerContract
from tests.stores.s3.fake_s3 import FakeS3


class TestS3(ServerContract):
    """All parts."""

    @pytest.fixture(name="server")
    def _server(self, fake: FakeS3) -> Server:
        return fake


class S3Machine(StoreMachine):
    """Any calls in any order, against the model."""

    def __init__(self) -> None:
        self._fake = FakeS3().start()
        self._url = f"s3://bucket/{secrets.token_hex(4)}"
        super().__init__()

    async def connect(self) -> CheckpointStore[CheckpointData]:
        store: CheckpointStore[CheckpointData] = S3Store(self._url, endpoint_url=self._fake.url)
        return store

    async def erase(self) -> None:
        await asyncio.to_thread(self._fake.stop)


class LongS3Machine(S3Machine):
    """The same for long."""


TestMachine = S3Machine.TestCase
TestMachine.settings = settings(max_examples=6, stateful_step_count=15)
TestLongMachine = pytest.mark.campaign(LongS3Machine.TestCase)
TestLongMachine.settings = settings(max_examples=100, stateful_step_count=30)
