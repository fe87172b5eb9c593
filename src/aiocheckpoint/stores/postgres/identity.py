"""Which schema a store that must exist works with, so that no other one is taken for it."""

from __future__ import annotations

from contextlib import suppress

import asyncpg

from aiocheckpoint.errors import MissingStoreError, ReplacedStoreError
from aiocheckpoint.stores.postgres.pools import Connection

_OID = """
select c.oid::bigint
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and c.relname = 'schema_version'
"""
_CLUSTER = "select system_identifier from pg_catalog.pg_control_system()"


class Identity:
    """
    The schema that a store found first, by the number that the server gave one of its tables.

    Another cluster gives other numbers, also where a replica of logical replication follows a
    primary: what is found there is taken for the same.

    Args:
        schema: its name.
    """

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._oid: int | None = None
        self._cluster: int | None = None

    async def require(self, connection: Connection, location: str) -> None:
        """
        Refuse a database in which the schema is not there, or another one of its name is.

        Args:
            connection: to the database, in no transaction.
            location: of the store, for the error.

        Raises:
            MissingStoreError: there is none.
            ReplacedStoreError: it was dropped, and made anew.
        """
        oid = await connection.fetchval(_OID, self._schema)
        if oid is None:
            raise MissingStoreError(location)
        if oid == self._oid:
            return
        cluster = None
        with suppress(asyncpg.InsufficientPrivilegeError):  # then it is taken for the same one
            cluster = await connection.fetchval(_CLUSTER)
        if self._oid is not None and cluster == self._cluster:
            raise ReplacedStoreError(location)
        self._oid, self._cluster = oid, cluster
