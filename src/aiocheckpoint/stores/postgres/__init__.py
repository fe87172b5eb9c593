"""Checkpoints in PostgreSQL: the extra `postgres`."""

from aiocheckpoint.stores.postgres.schema import schema_sql
from aiocheckpoint.stores.postgres.store import PostgresStore

__all__ = ("PostgresStore", "schema_sql")
