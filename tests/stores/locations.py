"""Servers of stores that tests start, and the URLs under which programs find them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import aiocheckpoint.stores.postgres
import aiocheckpoint.stores.s3  # noqa: F401 - so that no test imports them on its loop
from aiocheckpoint import CheckpointData, MissingStoreError, open_store
from tests.stores.postgres.server import PostgresServer, reason_to_skip

SERVERS = tuple(pytest.param(kind, marks=pytest.mark.servers) for kind in ("bucket", "postgresql"))
"""The stores of servers, as parameters of tests."""

_numbers = itertools.count()


def give_credentials(patch: pytest.MonkeyPatch) -> None:
    """Let credentials be where AWS's tools look, and nothing of whoever runs the tests."""
    for name in (
        "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "AWS_REGION",
    ):  # fmt: skip
        patch.delenv(name, raising=False)
    patch.setenv("AWS_ACCESS_KEY_ID", "tkey")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "tsecret")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_CONFIG_FILE", os.devnull)
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


def bucket(endpoint_url: str, patch: pytest.MonkeyPatch) -> str:
    """Return the URL of a place in a bucket, whose server is named by the environment alone."""
    give_credentials(patch)
    patch.setenv("AWS_ENDPOINT_URL_S3", endpoint_url)
    return f"s3://bucket/{os.getpid()}-{next(_numbers)}"


@contextmanager
def fake_bucket(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start the tests' own server of a bucket, and yield the URL of a place in it."""
    from tests.stores.s3.fake_s3 import FakeS3
    from tests.stores.s3.quick import make_quick

    make_quick(patch)
    server = FakeS3().start()
    yield bucket(server.url, patch)
    server.stop()


@contextmanager
def ceph() -> Iterator[str]:
    """Start Ceph's gateway, and yield its URL."""
    from tests.stores.s3.ceph import Ceph, missing_programs

    if os.environ.get("AIOCHECKPOINT_CEPH") != "yes":
        pytest.skip("set AIOCHECKPOINT_CEPH=yes, as .ci/run does")
    if missing := missing_programs():
        pytest.skip(f"not installed: {' '.join(missing)}")
    server = Ceph().start()
    yield server.url
    server.stop()


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """Start a PostgreSQL."""
    reason = reason_to_skip()
    if reason is not None:
        pytest.skip(reason)
    server = PostgresServer()
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.stop()


async def begun_only_by_another(url: str, named: str) -> None:
    """See that a store that must exist names its place, and makes nothing until somebody has."""
    async with open_store(url, must_exist=True) as store:
        for _ in range(2):
            with pytest.raises(MissingStoreError) as told:
                await store.load("s")
            assert told.value.location == named
            with pytest.raises(MissingStoreError):
                await store.save(CheckpointData(session_id="s"))
        assert await store.exists() is False
        async with open_store(url) as first:
            assert await first.exists() is False
            await first.save(CheckpointData(session_id="s"))
        assert await store.load("s") is not None
        assert await store.exists()
