"""The store in a bucket keeps the contract of all stores, on the server that is made for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings

from tests.stores.s3.contract import Server, ServerContract, ServerMachine
from tests.stores.s3.fake_s3 import FakeS3


class TestS3(ServerContract):
    """All parts."""

    @pytest.fixture(name="server")
    def _server(self, fake: FakeS3) -> Server:
        return fake


@pytest.mark.servers
class TestAnyOrder(ServerMachine.TestCase):  # type: ignore[misc, valid-type]
    """Any calls in any order are answered as the model does."""

    settings: Any = settings(max_examples=1, stateful_step_count=15)

    @pytest.fixture(autouse=True)
    def _server(self, fake: FakeS3) -> None:
        ServerMachine.server = fake


@pytest.mark.campaign
class TestAnyOrderForLong(TestAnyOrder):
    """The same for long."""

    settings: Any = settings(max_examples=100, stateful_step_count=30)
