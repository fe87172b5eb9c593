"""A schema that must exist is told from another one of its name, but for one that followed it."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from aiocheckpoint import ReplacedStoreError
from aiocheckpoint.stores.postgres.identity import Identity


class _Server:
    """A server that says which cluster it is of, or does not let a role ask."""

    def __init__(self, oid: int, cluster: int | None) -> None:
        self.oid = oid
        self.cluster = cluster

    async def fetchval(self, query: str, *_: Any) -> int:
        if "system_identifier" not in query:
            return self.oid
        if self.cluster is None:
            raise asyncpg.InsufficientPrivilegeError("permission denied")
        return self.cluster


async def test_another_cluster_may_have_followed() -> None:
    """One that took over by logical replication has numbers of its own, and is gone on with."""
    identity = Identity("agents")
    for server in (_Server(7, 1), _Server(7, 1), _Server(9, 2), _Server(9, 2)):
        await identity.require(server, "postgresql://h/d")
    with pytest.raises(ReplacedStoreError):
        await identity.require(_Server(7, 2), "postgresql://h/d")


async def test_a_server_that_does_not_tell_is_one_cluster() -> None:
    """Where a role may not ask for the cluster, another number is another store."""
    identity = Identity("agents")
    await identity.require(_Server(7, None), "postgresql://h/d")
    with pytest.raises(ReplacedStoreError):
        await identity.require(_Server(9, None), "postgresql://h/d")
