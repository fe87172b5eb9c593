"""A server for each test, and stores on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.httpsession import get_cert_path

from aiocheckpoint.stores.s3 import S3Store
from tests.stores import locations
from tests.stores.s3.fake_s3 import FakeS3
from tests.stores.s3.quick import WHOLE_PROBE, make_quick

MakeStore = Callable[..., S3Store[Any]]


@pytest.fixture(scope="session", name="one_certificate")
def _one_certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a file of one certificate: each client reads all that it trusts, and needs none."""
    path = tmp_path_factory.mktemp("certificates") / "one.pem"
    end = "-----END CERTIFICATE-----\n"
    path.write_text(Path(get_cert_path(verify=True)).read_text().partition(end)[0] + end)
    return str(path)


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, one_certificate: str) -> None:
    """Find credentials where AWS's tools do, and nothing of whoever runs the tests."""
    monkeypatch.setenv("AWS_CA_BUNDLE", one_certificate)
    locations.give_credentials(monkeypatch)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


@pytest.fixture
def whole_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stores try their servers as they do for users."""
    monkeypatch.setattr("aiocheckpoint.stores.s3.probe._CONCURRENT", WHOLE_PROBE)


@pytest.fixture(name="fake")
def _fake() -> Iterator[FakeS3]:
    fake = FakeS3().start()
    yield fake
    fake.stop()


@pytest.fixture(name="make_store")
async def _make_store(fake: FakeS3) -> AsyncIterator[MakeStore]:
    """Make stores on the server, and close them after the test."""
    made: list[S3Store[Any]] = []

    def make(**options: Any) -> S3Store[Any]:
        options = {"endpoint_url": fake.url, **options}
        made.append(S3Store("s3://bucket/prefix", **options))
        return made[-1]

    yield make
    for store in made:
        await store.aclose()
