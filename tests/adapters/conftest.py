"""What the tests of all adapters share: places of every kind to keep sessions in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.stores import locations
from tests.stores.postgres.server import PostgresServer

pytest.register_assert_rewrite(
    "tests.adapters.contract", "tests.adapters.odd", "tests.adapters.rough"
)

_numbers = itertools.count(1)


@pytest.fixture(name="postgres_server", scope="session")
def _postgres_server() -> Iterator[PostgresServer]:
    with locations.postgres() as server:
        yield server


@pytest.fixture(name="postgres_url")
def _postgres_url(postgres_server: PostgresServer) -> str:
    """Return the URL of a schema that nobody else has used."""
    return postgres_server.dsn(schema=f"test_{next(_numbers)}")


@pytest.fixture(name="bucket_url")
def _bucket_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the URL of a place in an empty bucket."""
    with locations.fake_bucket(monkeypatch) as url:
        yield url
