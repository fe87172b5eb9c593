"""The schema in the database: its SQL, its version, and making it at the first change."""

from __future__ import annotations

import asyncio
from functools import cache
from importlib.resources import files
from typing import Any

from aiocheckpoint.errors import UnsuitableStoreError

VERSION = 6
_MIGRATIONS = {number: f"schema_{number}.sql" for number in range(1, VERSION + 1)}
_FUNCTIONS = "functions.sql"
# Not `to_regclass`, whose cache may not know yet what others have just committed.
_HAS_VERSION = """
select exists (
    select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $1 and c.relname = 'schema_version'
)
"""
_ADVISORY_LOCK = 0x61696F636B7074  # "aiockpt": who makes or migrates a schema


def quoted(name: str) -> str:
    """Return a name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


@cache
def in_schema(sql: str, schema: str) -> str:
    """Return SQL that is written for schema "aiocheckpoint" for another one."""
    name = quoted(schema)
    return sql.replace("aiocheckpoint.", f"{name}.").replace(
        "schema if not exists aiocheckpoint;", f"schema if not exists {name};"
    )


def schema_sql(schema: str = "aiocheckpoint", *, since: int = 0) -> str:
    """
    Return the SQL that makes the schema, for whoever makes it beforehand, as a role that may.

    ```py
    from aiocheckpoint.stores.postgres import schema_sql

    print(schema_sql())
    ```

    Args:
        schema: its name, as `PostgresStore` is given it.
        since: the version that is there already; 0 for none.

    Returns:
        statements to run in one transaction, as `psql --single-transaction` does.
    """
    names = [name for version, name in _MIGRATIONS.items() if version > since]
    if names:
        names.append(_FUNCTIONS)
    directory = files("aiocheckpoint.stores.postgres")
    texts = [(directory / name).read_text(encoding="utf-8") for name in names]
    return in_schema("\n".join(texts), schema)


async def version_of(connection: Any, schema: str) -> int:
    """Return the version of the schema in a database; 0 where there is none."""
    if not await connection.fetchval(_HAS_VERSION, schema):
        return 0
    query = in_schema("select max(version) from aiocheckpoint.schema_version", schema)
    return await connection.fetchval(query) or 0


async def require_schema(connection: Any, schema: str, location: str) -> None:
    """
    Make the schema, or bring it up to date, if it is not; whoever else does so at the same time.

    Raises:
        UnsuitableStoreError: it is of a newer version.
    """
    found = await version_of(connection, schema)
    if found < VERSION:
        async with connection.transaction(isolation="read_committed"):
            await connection.execute(f"select pg_advisory_xact_lock({_ADVISORY_LOCK})")
            found = await version_of(connection, schema)
            if found < VERSION:
                sql = await asyncio.to_thread(schema_sql, schema, since=found)  # it is a file
                await connection.execute(sql)
                found = VERSION
    if found > VERSION:
        reason = f"its schema {schema!r} has version {found}, this library knows {VERSION}"
        raise UnsuitableStoreError(location, f"{reason}; use a newer aiocheckpoint")
