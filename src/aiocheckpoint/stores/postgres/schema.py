"""The schema in the database: its SQL, its version, and making it at the first change."""

from __future__ import annotations

import asyncio
from functools import cache
from importlib.resources import files
from typing import Any

import asyncpg

from aiocheckpoint.errors import InvalidArgumentError, UnsuitableStoreError

VERSION = 3
_MIGRATIONS = {number: f"schema_{number}.sql" for number in range(1, VERSION + 1)}
_FUNCTIONS = "functions.sql"
# Not `to_regclass`, whose cache may not know yet what others have just committed.
_HAS_VERSION = """
select exists (
    select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $1 and c.relname = 'schema_version'
)
"""
_GRANTS = """\
lets a role in by: grant usage on schema {0} to ROLE; \
grant select, insert, update, delete on all tables in schema {0} to ROLE; \
grant usage on all sequences in schema {0} to ROLE"""
_TOLD_NOT_TO = "was told not to bring it up to date (migrate=no, as verbs that look have it)"
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

    Raises:
        InvalidArgumentError: for a `since` that this library does not know.
    """
    if type(since) is not int or not 0 <= since <= VERSION:
        raise InvalidArgumentError("since", since, f"a version of the schema, 0 to {VERSION}")
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


async def require_schema(
    connection: Any, schema: str, location: str, *, migrates: bool = True
) -> None:
    """
    Make the schema, or bring it up to date, if it is not; whoever else does so at the same time.

    Raises:
        UnsuitableStoreError: it is of a newer version, or of an older one that is not to be
            brought up to date, or not by this role.
    """
    found = await version_of(connection, schema)
    if 0 < found < VERSION and not migrates:
        raise UnsuitableStoreError(location, _outdated(schema, found, _TOLD_NOT_TO))
    if found < VERSION:
        try:
            found = await _brought_up_to_date(connection, schema)
        except asyncpg.InsufficientPrivilegeError as error:
            if not found:
                raise
            reason = f"this role may not bring it up to date: {error} ({error.sqlstate})"
            raise UnsuitableStoreError(location, _outdated(schema, found, reason)) from error
    if found > VERSION:
        reason = f"its schema {schema!r} has version {found}, this library knows {VERSION}"
        raise UnsuitableStoreError(location, f"{reason}; use a newer aiocheckpoint")


async def _brought_up_to_date(connection: Any, schema: str) -> int:
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(f"select pg_advisory_xact_lock({_ADVISORY_LOCK})")
        found = await version_of(connection, schema)
        if found < VERSION:
            sql = await asyncio.to_thread(schema_sql, schema, since=found)  # it is a file
            await connection.execute(sql)
            found = VERSION
        return found


def _outdated(schema: str, found: int, reason: str) -> str:
    return (
        f"its schema {schema!r} has version {found}, this library needs {VERSION}, and {reason}; "
        f"its owner does so, once no older release is to be started there again, by what "
        f"aiocheckpoint.stores.postgres.schema_sql({schema!r}, since={found}) returns, in one "
        f"transaction, and {grants(schema)}"
    )


def grants(schema: str) -> str:
    """Return how a role is let into a schema, as a part of a sentence."""
    return _GRANTS.format(quoted(schema))
