"""The store in PostgreSQL keeps the contract of all stores, each part of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from aiocheckpoint import BlobStore, CheckpointData, CheckpointStore
from aiocheckpoint.testing import (
    AcrossDamageContract,
    AcrossSessionsContract,
    BlobDamageContract,
    BlobDurabilityContract,
    BlobRefusalContract,
    BlobRetentionContract,
    BlobSharingContract,
    BlobStoreContract,
    BlobUpdateContract,
    CancellationContract,
    CheckpointStoreContract,
    DamageContract,
    DurabilityContract,
    LargeValue,
    LimitContract,
    OwnershipContract,
    ReadContract,
    RecordTypeContract,
    RefusalContract,
    RetentionContract,
    SharedOwnershipContract,
    SharedUpdateContract,
    SharingContract,
    UpdateContract,
    WaitingContract,
)
from tests.stores.postgres.clients import Clients
from tests.stores.postgres.conftest import MakeStore
from tests.stores.postgres.server import PostgresServer

Damage = Callable[[str, str], Awaitable[None]]


class TestPostgres(
    Clients,
    CheckpointStoreContract,
    RefusalContract,
    CancellationContract,
    UpdateContract,
    OwnershipContract,
    ReadContract,
    RecordTypeContract,
    WaitingContract,
    RetentionContract,
    LimitContract,
    AcrossSessionsContract,
    SharingContract,
    SharedUpdateContract,
    SharedOwnershipContract,
    DurabilityContract,
    DamageContract,
    AcrossDamageContract,
):
    """The store of checkpoints, by a URL."""

    checkpoints_of_a_page = 256

    @pytest.fixture(name="hasty_store")
    def _hasty_store(self, make_store: MakeStore) -> CheckpointStore[CheckpointData]:
        store: CheckpointStore[CheckpointData] = make_store(lock_timeout_seconds=0.5)
        return store

    @pytest.fixture(name="reopen")
    def _reopen(self, make_store: MakeStore) -> Callable[[Any], Awaitable[Any]]:
        async def reopen(_: Any) -> Any:
            return make_store()  # the first one is left as it is

        return reopen

    @pytest.fixture(name="damage")
    def _damage(self, server: PostgresServer, schema: str) -> Damage:
        async def damage(session_id: str, checkpoint_id: str) -> None:
            connection = await asyncpg.connect(server.dsn())
            changed = await connection.execute(
                f"update {schema}.body b set content = set_byte(content, 250, 7)"
                f" from {schema}.session s join {schema}.checkpoint c using (session_key)"
                " where b.session_key = s.session_key and b.seq = c.seq"
                " and session_id = $1 and checkpoint_id = $2",
                session_id.encode(),
                checkpoint_id.encode(),
            )
            await connection.close()
            assert changed == "UPDATE 1"

        return damage


class TestPostgresOfBlobs(
    BlobStoreContract,
    BlobUpdateContract,
    BlobRefusalContract,
    BlobRetentionContract,
    BlobSharingContract,
    BlobDurabilityContract,
    BlobDamageContract,
):
    """The store of blobs, by connections that prepare no statements."""

    @pytest.fixture(name="blob_store")
    def _blob_store(self, make_store: MakeStore) -> BlobStore[LargeValue]:
        store: BlobStore[LargeValue] = make_store(record_type=LargeValue, statement_cache_size=0)
        return store

    @pytest.fixture(name="other_blob_store")
    def _other_blob_store(self, make_store: MakeStore) -> BlobStore[LargeValue]:
        store: BlobStore[LargeValue] = make_store(record_type=LargeValue)
        return store

    @pytest.fixture(name="bounded_blob_store")
    def _bounded_blob_store(self, make_store: MakeStore) -> BlobStore[LargeValue]:
        store: BlobStore[LargeValue] = make_store(record_type=LargeValue, max_checkpoints=3)
        return store

    @pytest.fixture(name="reopen")
    def _reopen(self, make_store: MakeStore) -> Callable[[Any], Awaitable[Any]]:
        async def reopen(_: Any) -> Any:
            return make_store(record_type=LargeValue)

        return reopen

    @pytest.fixture(name="damage_blob")
    def _damage_blob(self, server: PostgresServer, schema: str) -> Damage:
        async def damage(session_id: str, digest: str) -> None:
            connection = await asyncpg.connect(server.dsn())
            changed = await connection.execute(
                f"update {schema}.blob b set content = content || '!'"
                f" from {schema}.session s where s.session_key = b.session_key"
                " and session_id = $1 and digest = $2",
                session_id.encode(),
                bytes.fromhex(digest),
            )
            await connection.close()
            assert changed == "UPDATE 1"

        return damage
